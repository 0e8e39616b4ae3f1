"""Saving, keeping, resuming; and what bad use is told."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portackpt.errors import InputError, UsageError, WriteError
from portackpt.manager import CheckpointManager, decisions, preservation
from portackpt.manager import root as disk
from portackpt.validation import validate

from .runs import Objects, flip, journal, state, value


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "7"


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Commits wait until the function is called."""
    gate = threading.Event()
    commit = disk.commit

    def wait(*arguments: Any) -> None:
        assert gate.wait(20)
        commit(*arguments)

    monkeypatch.setattr(disk, "commit", wait)
    yield gate.set
    gate.set()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_it_resumes_where_the_run_was(asynchronous: bool, root: Path) -> None:
    with CheckpointManager(root, asynchronous=asynchronous) as manager:
        assert manager.restore(state()) is None
        for step in range(3):
            assert manager.save(step, state(step + 0.5), metrics={"loss": np.float32(step)})
    assert not validate(root)
    objects = state()
    with CheckpointManager(root) as manager:
        assert manager.steps() == (0, 1, 2)
        assert manager.latest_step() == 2
        resumed = manager.restore(objects)
        assert resumed is not None
        assert resumed.step == 2
        assert resumed.record.metrics == {"loss": 2.0}
        assert resumed.record.why == "every step"
    assert value(objects) == 2.5
    assert [line["event"] for line in journal(root)] == [
        "created", "started", "saved", "saved", "saved", "finished",
        "started", "resumed", "finished",
    ]  # fmt: skip


def test_it_restores_the_step_that_is_asked_for(root: Path) -> None:
    objects = state()
    with CheckpointManager(root) as manager:
        for step in range(3):
            manager.save(step, state(step))
        resumed = manager.restore(objects, step=1)
        assert resumed is not None
        assert resumed.step == 1
        assert value(objects) == 1
        with pytest.raises(UsageError, match="step 9 is not in this root; its steps are 0, 1, 2"):
            manager.restore(objects, step=9)


def test_it_saves_when_the_decision_says_so(root: Path) -> None:
    called = []

    def objects() -> Objects:
        called.append(True)
        return state()

    with CheckpointManager(root, save_decision=decisions.EveryNSteps(3)) as manager:
        assert [manager.save(step, objects) for step in range(1, 5)] == [False, False, True, False]
        assert len(called) == 1
        assert manager.should_save(6)
        assert manager.save(4, objects, force=True, tags=["pinned"])
    assert [(r.step, r.why, r.tags) for r in manager.records()] == [
        (3, "every 3 steps", ()),
        (4, "it was asked for", ("pinned",)),
    ]


def test_it_saves_when_a_metric_improves_across_processes(root: Path) -> None:
    decision = decisions.OnMetric("loss", "min")
    for losses, expected in (([3.0, 4.0, 2.0], [True, False, True]), ([2.5, 1.0], [False, True])):
        with CheckpointManager(root, save_decision=decision) as manager:
            first = (manager.latest_step() or 0) + 10
            saved = [
                manager.save(first + n, state(), metrics={"loss": loss})
                for n, loss in enumerate(losses)
            ]
        assert saved == expected


def test_it_keeps_what_the_policy_keeps(root: Path) -> None:
    policy = preservation.LatestN(1) | preservation.BestK("loss", "min") | preservation.Pinned()
    with CheckpointManager(root, preservation=policy) as manager:
        for step, loss in enumerate([3.0, 1.0, 2.0, 5.0, 4.0]):
            manager.save(step, state(), metrics={"loss": loss}, tags=["pinned"] * (step == 2))
    assert manager.steps() == (1, 2, 4)
    assert sorted(path.name for path in root.iterdir()) == [
        "journal.jsonl", "step-1", "step-2", "step-4",
    ]  # fmt: skip
    assert [line["steps"] for line in journal(root, "pruned")] == [[0], [3]]


def test_it_keeps_a_step_that_is_older_than_those_of_another_branch(root: Path) -> None:
    with CheckpointManager(root, preservation=preservation.LatestN(2)) as manager:
        for step in (10, 30, 20):
            manager.save(step, state())
        manager.wait()
        assert manager.steps() == (20, 30)
        manager.save(15, state())
        manager.wait()
        assert manager.steps() == (15, 20, 30)


@pytest.mark.parametrize("file", ["manifest.json", "state.msgpack", "shard-00000.safetensors"])
@pytest.mark.parametrize("place", [30, -2])
def test_it_passes_over_a_damaged_checkpoint(file: str, place: int, root: Path) -> None:
    with CheckpointManager(root) as manager:
        for step in range(3):
            manager.save(step, state(step))
        manager.wait()
        flip(root / "step-2" / file, place)
        flip(root / "step-1" / file, place)
        objects = state()
        resumed = manager.restore(objects)
        assert resumed is not None
        assert value(objects) == resumed.step == 0
        assert [(one.step, one.name) for one in resumed.passed_over] == [
            (2, "damaged-step-2"), (1, "damaged-step-1"),
        ]  # fmt: skip
        assert file in resumed.passed_over[0].reason
        assert manager.steps() == (0,)
        assert manager.save(2, state(2.5))  # the name is free again
        manager.wait()
        flip(root / "step-2" / file, place)
        resumed = manager.restore(state())
        assert resumed is not None
        assert resumed.passed_over[0].name is not None
        assert resumed.passed_over[0].name.startswith("damaged-step-2-")
    assert [line["step"] for line in journal(root, "quarantined")] == [2, 1, 2]


def test_it_passes_over_a_directory_without_manifest(root: Path) -> None:
    with CheckpointManager(root) as manager:
        for step in range(2):
            manager.save(step, state(step))
        manager.wait()
        (root / "step-1" / "manifest.json").unlink()
        assert manager.latest_step() == 0
        assert manager.save(1, state(1.5))  # an incomplete one is no reason not to save
        manager.wait()
        objects = state()
        assert manager.restore(objects)
        assert value(objects) == 1.5


def test_it_never_starts_from_scratch_silently(root: Path) -> None:
    with CheckpointManager(root) as manager:
        manager.save(0, state())
        manager.wait()
        flip(root / "step-0" / "shard-00000.safetensors")
        for _ in range(2):
            with pytest.raises(InputError, match="none of them can be used"):
                manager.restore(state())
    (root / "journal.jsonl").unlink()
    with (
        CheckpointManager(root) as manager,
        pytest.raises(InputError, match="To start from scratch on purpose, choose a new root"),
    ):
        manager.restore(state())


def test_it_writes_the_state_as_it_was(root: Path, held: Callable[[], None]) -> None:
    objects = state(1.0)
    with CheckpointManager(root) as manager:
        manager.save(0, objects)
        objects["model"]["w"][:] = 2.0
        objects["model"]["b"][:] = 2.0
        objects["step"]["n"] = 5
        held()
        manager.wait()
        restored = state()
        manager.restore(restored)
    assert value(restored) == 1.0
    assert restored["step"]["n"] == 0


def test_it_waits_skips_or_fails_when_busy(root: Path, held: Callable[[], None]) -> None:
    with CheckpointManager(root, when_busy="skip") as manager:
        assert manager.save(0, state())
        assert not manager.save(1, state())
        manager.when_busy = manager.when_busy.FAIL
        with pytest.raises(UsageError, match="cannot save step 2: the save of step 0 is still"):
            manager.save(2, state())
        manager.when_busy = manager.when_busy.WAIT
        threading.Timer(0.05, held).start()
        assert manager.save(3, state())
    assert manager.steps() == (0, 3)
    assert journal(root, "skipped")[0]["busy"] == 0


def failing(*arguments: Any) -> None:
    raise WriteError("cannot write: No space left on device; what was there is unchanged", "/x")


def test_it_tells_a_failure_in_the_background(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = CheckpointManager(root)
    manager.save(0, state())
    manager.wait()
    with monkeypatch.context() as patch:
        patch.setattr(disk, "commit", failing)
        assert manager.save(1, state())
        with pytest.raises(WriteError, match="No space left") as error:
            manager.wait()
        assert error.value.__notes__ == ["this was the save of step 1, in the background"]
        assert manager.save(2, state())
        manager._saver.wait()
        with pytest.raises(WriteError):
            manager.save(3, state())
        assert manager.save(3, state())
        with pytest.raises(WriteError):
            manager.close()
    with CheckpointManager(root) as again:
        assert again.save(3, state())
    assert again.steps() == (0, 3)


def test_it_tells_a_late_failure_beside_the_error_of_the_training(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "commit", failing)
    with pytest.raises(ZeroDivisionError) as error, CheckpointManager(root) as manager:
        manager.save(0, state())
        raise ZeroDivisionError("x")
    assert error.value.__notes__ == [
        "and the last save failed: cannot write: No space left on device; what was there is "
        "unchanged, at /x"
    ]
    assert journal(root, "interrupted")[0]["why"] == "ZeroDivisionError: x"


def test_it_tells_bad_use(root: Path, tmp_path: Path) -> None:
    with CheckpointManager(root, run="gpt", asynchronous=False) as manager:
        manager.save(3, state())
        with pytest.raises(UsageError, match="step 3 is there already"):
            manager.save(3, state())
        with pytest.raises(UsageError, match=r"step -1 is outside 0 to 2\^63 - 1"):
            manager.save(-1, state())
        with pytest.raises(UsageError, match="a metric is one number; 'loss' is a ndarray"):
            manager.save(4, state(), metrics={"loss": np.zeros(3)})
        with pytest.raises(UsageError, match="tags are a collection of words, found the text 'x'"):
            manager.save(4, state(), tags="x")
        with pytest.raises(UsageError, match="a save was called during a save"):
            manager.save(4, lambda: {"again": manager.save(4, state())})
        assert manager.save(4, state())
    with pytest.raises(UsageError, match="this manager is closed"):
        manager.save(5, state())
    with pytest.raises(UsageError, match="this root belongs to the run 'gpt', not 'bert'"):
        CheckpointManager(root, run="bert")
    assert CheckpointManager(root).run == "gpt"
    with pytest.raises(UsageError, match="this is one checkpoint, not a root of steps"):
        CheckpointManager(root / "step-3")
    with pytest.raises(UsageError, match="a root is a directory"):
        CheckpointManager(root / "step-3" / "manifest.json")


def test_it_deletes_what_dead_processes_left(root: Path) -> None:
    left = {"host": "", "boot": "", "namespace": "", "pid": 1, "started": ""}
    with CheckpointManager(root) as manager:
        manager.save(0, state())
    from portackpt.manager.owner import _self

    own = _self()
    mine = {name: getattr(own, name) for name in left}
    for name, owner in {
        ".step-1.tmp-00": mine,
        ".step-2.tmp-01": {**mine, "started": "1"},
        ".step-3.tmp-02": {**mine, "boot": "another"},
        ".step-4.tmp-03": {**mine, "host": "another"},
        ".step-5.tmp-04": None,
        ".trash-step-6-05": None,
        ".other": None,
    }.items():
        (root / name).mkdir()
        if owner is not None:
            (root / name / ".owner").write_text(json.dumps(owner))
    CheckpointManager(root)
    assert sorted(path.name for path in root.iterdir()) == [
        ".other", ".step-1.tmp-00", ".step-4.tmp-03", ".step-5.tmp-04", "journal.jsonl", "step-0",
    ]  # fmt: skip


def test_it_reads_records_of_checkpoints_it_did_not_write(root: Path) -> None:
    with CheckpointManager(root) as manager:
        manager.save(0, state(), metrics={"loss": 1.0, "bad": float("nan")})
    assert manager.records()[0].nbytes > 20_000
    again = CheckpointManager(root).records()[0]
    assert again.metrics["loss"] == 1.0
    assert again.metrics["bad"] != again.metrics["bad"]
    flip(root / "step-0" / "record.json", 20)
    bare = CheckpointManager(root).records()[0]
    assert bare.metrics == {}
    assert bare.time == pytest.approx(again.time, abs=60)
