"""Every real checkpoint goes to the neutral format and back, judged by its framework's own reader.

The table of all of them, each with its verdict, closes the output of the test run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crosscheck.judges import JUDGES, Bits
from sameness import assert_same

import portackpt
from portackpt import plugins
from portackpt.errors import InputError, PortackptError

REAL = Path(__file__).parents[2] / "../shared/data/real"
pytestmark = pytest.mark.skipif(not REAL.exists(), reason="no real files beside the project")


def checkpoints(folder: Path) -> Iterator[Path]:
    """Paths that a user would name: files and directories that some format recognizes."""
    for path in sorted(folder.iterdir()):
        if path.suffix == ".index":
            yield path.with_suffix("")
        elif ".data-0" in path.name or path.name in ("checkpoint.meta", "saved_model.pb"):
            continue
        elif recognized(path):
            yield path
        elif path.is_dir():
            yield from checkpoints(path)


def recognized(path: Path) -> bool:
    probe = plugins.Probe(path)
    return any(known.recognize(probe) for known in plugins.known())


PATHS = list(checkpoints(REAL)) if REAL.exists() else []
SUFFIXED = ("keras", "npz", "directory", "safetensors")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(REAL)))
def test_it_comes_back_equal(
    path: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    try:
        original = portackpt.open(path)
    except PortackptError as error:
        assert isinstance(error, InputError)
        record_property("real file", (str(path.relative_to(REAL)), "refused", error.message))
        return
    neutral = tmp_path / "neutral"
    there = portackpt.convert(path, neutral, to="portackpt")
    assert there.verdict == "exact"
    assert portackpt.validate(neutral) == ()
    assert_same(original.tree, portackpt.open(neutral).tree)
    suffix = "".join(path.suffixes) if original.format in SUFFIXED else ""
    back = tmp_path / "back" / f"back{suffix}"
    ledger = portackpt.convert(neutral, back, to=original.format)
    again = portackpt.open(back, format=original.format)
    if ledger.verdict == "exact":
        assert_same(original.tree, again.tree)
    judged = judge(original.format, path, back)
    record_property("real file", (str(path.relative_to(REAL)), str(ledger.verdict), judged))


def judge(format: str, path: Path, back: Path) -> str:
    """Let the framework read both; where it refuses the original, it must still read ours."""
    reader = JUDGES.get(format)
    if reader is None or (format == "keras" and path.suffix == ".keras") or path.is_dir():
        return f"{format}: read back equal"
    try:
        expected = reader(path)
    except Exception as error:
        return f"{format}: its own reader refuses the original ({type(error).__name__})"
    found = reader(back)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert type(found[name]) is type(value), name
        same = found[name] == value if isinstance(value, Bits) else repr(found[name]) == repr(value)
        assert same, name
    return f"{format}: its own reader finds {len(expected)} equal leaves"


def test_it_moves_every_pytorch_file_to_every_other_framework(tmp_path: Path) -> None:
    """Every tensor of every real PyTorch file, found by the other frameworks bit for bit."""
    for module in ("torch", "tensorflow", "orbax.checkpoint"):
        pytest.importorskip(module)
    moved = 0
    for number, path in enumerate(PATHS):
        if number % 7 or not recognized_by("pytorch", path):
            continue
        try:
            tree = portackpt.open(path).tree
        except PortackptError:
            continue
        tensors = dict(portackpt_tensors(tree))
        for target in ("orbax", "tensorflow", "safetensors"):
            goal = tmp_path / f"{number}-{target}.{target}"
            ledger = portackpt.convert(path, goal, to=target, settings={"optimizer": "native"})
            held = JUDGES[target](goal)
            for entry in ledger.entries:
                if entry.source in tensors and entry.target in held:
                    data = tensors[entry.source].read().tobytes()
                    assert (
                        held[entry.target].data == data
                        or tensors[entry.source].dtype.name == "string"
                    )
                    moved += 1
    assert moved > 100


def recognized_by(name: str, path: Path) -> bool:
    return plugins.get(name).recognize(plugins.Probe(path))


def portackpt_tensors(tree: Any) -> Iterator[tuple[str, Any]]:
    from portackpt.tree import tensors

    return tensors(tree)
