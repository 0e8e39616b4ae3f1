"""Entry points, read where installers put them."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points as judge
from pathlib import Path

import pytest

from portackpt import discovery, plugins
from portackpt.errors import UsageError

TEXT = """\
[console_scripts]
tool = nothing:here

# a comment
[portackpt.formats]
strange = strange_format:FORMAT
extra.name=strange.sub:FORMAT [numpy]
; another

[portackpt.dialects]
strange = strange_format:DIALECT
"""


def offer(folder: Path, distribution: str, text: str) -> None:
    place = folder / f"{distribution}.dist-info"
    place.mkdir(parents=True)
    (place / "entry_points.txt").write_text(text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("group", ["portackpt.formats", "portackpt.dialects", "console_scripts"])
def test_it_finds_what_the_standard_library_finds(group: str) -> None:
    standard = {point.name: point.value for point in judge(group=group)}
    assert discovery.entry_points(group) == standard


def test_it_reads_a_group(folder: Path) -> None:
    offer(folder, "strange-1.0", TEXT)
    found = discovery.entry_points("portackpt.formats")
    assert found["strange"] == "strange_format:FORMAT"
    assert found["extra.name"] == "strange.sub:FORMAT"
    assert "tool" not in found
    assert "npz" in found


def test_it_takes_the_first_of_two_versions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(folder / "old", "strange-1.0", "[portackpt.formats]\nstrange = old:F\ngone = old:G\n")
    offer(folder / "new", "strange-2.0", "[portackpt.formats]\nstrange = new:F\n")
    for name in ("old", "new"):
        monkeypatch.syspath_prepend(folder / name)
    found = discovery.entry_points("portackpt.formats")
    assert found["strange"] == "new:F"
    assert "gone" not in found


def test_it_survives_odd_places(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "bare-1.0.dist-info").mkdir()
    (folder / "file.zip").write_bytes(b"PK")
    offer(folder, "binary-1.0", "")
    (folder / "binary-1.0.dist-info" / "entry_points.txt").write_bytes(
        b"\xff\xfe[portackpt.formats"
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder / "file.zip"), "/nowhere", ""])
    assert "npz" in discovery.entry_points("portackpt.formats")


def test_it_loads_a_strangers_format(folder: Path) -> None:
    offer(folder, "strange-1.0", TEXT)
    (folder / "strange_format.py").write_text("FORMAT = 'a format'\n")
    plugins.get.cache_clear()
    found: object = plugins.get("strange")
    assert found == "a format"
    with pytest.raises(
        UsageError, match=r"'extra.name' is installed, but does not load: No module"
    ):
        plugins.get("extra.name")
    plugins.get.cache_clear()
