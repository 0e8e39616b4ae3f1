"""The commit: what is there when, and what is left when something fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portackpt.checkpoint import Checkpoint
from portackpt.errors import (
    AmbiguousError,
    DamagedError,
    InputError,
    UnsupportedError,
    UsageError,
    WriteError,
)
from portackpt.plugins import Probe
from portackpt.store.format import FORMAT
from portackpt.tensor import from_array
from portackpt.validation import validate


def save(tree: Any, path: Path, step: int | None = None, overwrite: bool = False) -> None:
    FORMAT.write(
        Checkpoint(tree, "test"), path, overwrite=overwrite, step=step, progress=lambda n: None
    )


def big(value: int) -> dict[str, Any]:
    return {"w": from_array(np.full(1000, value, np.int32)), "v": value}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files as they are synced, and renames; `/` after those of directories."""
    events: list[str] = []
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        events.append(path.name + ("/" if path.is_dir() else ""))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setenv("PORTACKPT_SAVE_ID", "0" * 32)
    return events


def test_it_writes_the_manifest_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = recorded(monkeypatch)
    save(big(1), tmp_path / "c")
    files = [event for event in events if not event.endswith("/")]
    assert files == ["shard-00000.safetensors", "state.msgpack", "manifest.json"]


def test_it_syncs_everything_before_it_reports_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = recorded(monkeypatch)
    save(big(1), tmp_path / "new" / "root", step=3)
    temporary = ".step-3.tmp-" + "0" * 32
    assert events == [
        f"{tmp_path.name}/",
        "new/",
        "shard-00000.safetensors",
        "state.msgpack",
        "manifest.json",
        f"{temporary}/",
        "root/",
    ]
    assert names(tmp_path / "new" / "root") == ["step-3"]


def test_it_replaces_a_checkpoint_in_one_step(tmp_path: Path) -> None:
    save(big(1), tmp_path / "c")
    with pytest.raises(UsageError, match="the target exists"):
        save(big(2), tmp_path / "c")
    before = FORMAT.open(tmp_path / "c")
    save(big(2), tmp_path / "c", overwrite=True)
    assert FORMAT.open(tmp_path / "c").tree["v"] == 2
    assert names(tmp_path) == ["c"]
    # the old one is gone, and never mixed with the new one
    with pytest.raises(DamagedError):
        before.tree["w"].read()


@pytest.mark.parametrize("failing", [0, 1, 2, 3])
def test_it_leaves_nothing_behind_when_it_fails(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(big(1), tmp_path / "r", step=1)
    sync, count = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == failing + 1:
            raise OSError(5, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for step, overwrite in ((2, False), (1, True)):
        count = 0
        with pytest.raises(WriteError, match="Input/output error"):
            save(big(2), tmp_path / "r", step, overwrite)
        assert FORMAT.open(tmp_path / "r", step=1).tree["v"] == 1
        assert names(tmp_path / "r") == ["step-1"]


def test_it_keeps_other_steps_of_a_root(tmp_path: Path) -> None:
    for step in (3, 20, 100):
        save(step, tmp_path, step=step)
    assert FORMAT.steps(tmp_path) == (3, 20, 100)
    assert FORMAT.open(tmp_path).step == 100
    assert FORMAT.open(tmp_path, step=20).tree == 20
    assert FORMAT.recognize(Probe(tmp_path))
    assert validate(tmp_path) == ()


def test_it_keeps_roots_and_checkpoints_apart(tmp_path: Path) -> None:
    save(1, tmp_path / "c")
    with pytest.raises(UsageError, match="not a root of steps"):
        save(1, tmp_path / "c", step=1)
    with pytest.raises(UsageError, match="this is one checkpoint"):
        FORMAT.open(tmp_path / "c", step=1)
    save(1, tmp_path / "r", step=1)
    with pytest.raises(UsageError, match="a root that holds steps"):
        save(1, tmp_path / "r", overwrite=True)
    with pytest.raises(UsageError, match="step 2 is not in this root; its steps are 1"):
        FORMAT.open(tmp_path / "r", step=2)


def test_it_passes_over_steps_that_are_not_committed(tmp_path: Path) -> None:
    save(1, tmp_path, step=1)
    save(2, tmp_path, step=2)
    (tmp_path / "step-2" / "manifest.json").unlink()
    opened = FORMAT.open(tmp_path)
    assert opened.step == 1
    assert opened.notes == ("newer steps are not complete and were passed over: 2",)
    assert FORMAT.steps(tmp_path) == (1,)
    with pytest.raises(DamagedError, match="not a committed checkpoint"):
        FORMAT.open(tmp_path, step=2)
    assert [fault.place for fault in validate(tmp_path)] == ["step-2/manifest.json"]
    (tmp_path / "step-1" / "manifest.json").unlink()
    with pytest.raises(UnsupportedError, match=r"no step of this root is committed.*found 1, 2"):
        FORMAT.open(tmp_path)


def test_it_does_not_choose_between_two_of_one_step(tmp_path: Path) -> None:
    save(1, tmp_path, step=1)
    (tmp_path / "step-1").rename(tmp_path / "step-01")
    save(1, tmp_path, step=1)
    with pytest.raises(AmbiguousError, match="as step-01 and step-1"):
        FORMAT.open(tmp_path)
    assert [fault.code for fault in validate(tmp_path)] == ["D-9"]


def test_it_recognizes_its_own_even_when_damaged(tmp_path: Path) -> None:
    save(big(1), tmp_path / "c")
    assert FORMAT.recognize(Probe(tmp_path / "c"))
    (tmp_path / "c" / "manifest.json").unlink()
    assert FORMAT.recognize(Probe(tmp_path / "c"))
    with pytest.raises(DamagedError, match="it has no manifest"):
        FORMAT.open(tmp_path / "c")
    assert [fault.code for fault in validate(tmp_path / "c")] == ["D-2"]


def test_it_leaves_other_directories_to_other_formats(tmp_path: Path) -> None:
    (tmp_path / "step-1").mkdir()
    (tmp_path / "step-1" / ".metadata").write_bytes(b"")
    (tmp_path / "manifest.json").write_text('{"name": "a browser extension"}')
    assert not FORMAT.recognize(Probe(tmp_path))
    assert not FORMAT.recognize(Probe(tmp_path / "manifest.json"))
    assert not FORMAT.recognize(Probe(tmp_path / "nothing"))
    with pytest.raises(InputError, match="expected a directory"):
        FORMAT.open(tmp_path / "manifest.json")
    with pytest.raises(InputError, match="expected a directory"):
        validate(tmp_path / "nothing")


def test_it_says_how_to_go_on(tmp_path: Path) -> None:
    save(1, tmp_path, step=1)
    scope: dict[str, Any] = {}
    exec(FORMAT.resume(tmp_path, 1), scope)
    assert scope["checkpoint"].tree == 1
