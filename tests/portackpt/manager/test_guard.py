"""Signals are noted, the state is saved at a boundary, and the program exits as agreed."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from portackpt.errors import UsageError
from portackpt.manager import CheckpointManager, Preempted, decisions
from portackpt.manager import root as disk

from .runs import journal, state, value

NEVER = decisions.AtSteps()


def kill(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture
def manager(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "run", save_decision=NEVER)


def resumed(manager: CheckpointManager) -> tuple[int, float]:
    objects = state()
    found = CheckpointManager(manager.root).restore(objects)
    assert found is not None
    return found.step, value(objects)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)]
)
@pytest.mark.parametrize("boundary", ["save", "check"])
def test_it_saves_and_exits(
    manager: CheckpointManager, number: int, code: int, boundary: str
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Preempted) as exit, manager, manager.guard(signal.SIGUSR1) as guard:
        getattr(manager if boundary == "save" else guard, boundary)(1, state(1.0))
        kill(number)
        kill(number)
        assert guard.caught == signal.Signals(number).name
        getattr(manager if boundary == "save" else guard, boundary)(2, state(2.0))
    assert exit.value.code == code
    assert exit.value.saved
    assert signal.getsignal(number) is before
    assert resumed(manager) == (2, 2.0)
    name = signal.Signals(number).name
    told = journal(manager.root, "interrupted")
    assert [(one["why"], one["step"], one["saved"]) for one in told] == [
        (f"{name} was received", 2, True)
    ]
    assert journal(manager.root, "saved")[0]["why"] == f"{name} was received"
    assert not journal(manager.root, "finished")


def test_it_exits_with_the_agreed_code(manager: CheckpointManager) -> None:
    with pytest.raises(SystemExit) as exit, manager, manager.guard(exit_code=85) as guard:
        kill()
        guard.check(2, state(2.0))
    assert exit.value.code == 85


def test_it_does_not_save_twice(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path / "run")
    with pytest.raises(Preempted), manager, manager.guard():
        kill()
        manager.save(1, state(1.0))
    assert [one["why"] for one in journal(manager.root, "saved")] == ["every step"]
    assert journal(manager.root, "interrupted")[0]["saved"]


def test_it_exits_when_the_signal_comes_after_the_last_boundary(
    manager: CheckpointManager,
) -> None:
    with pytest.raises(Preempted), manager, manager.guard() as guard:
        guard.check(1, state(1.0))
        kill()
    assert resumed(manager) == (1, 1.0)


def test_it_leaves_a_run_alone_that_nothing_stops(manager: CheckpointManager) -> None:
    with manager, manager.guard() as guard:
        with guard.update():
            pass
        guard.check(1, state())
        assert not guard.wait(0.01)
    assert manager.steps() == ()


def test_it_gives_up_when_the_grace_period_is_over(
    manager: CheckpointManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, gate, ended = disk.commit, threading.Event(), threading.Event()

    def slow(root: Path, checkpoint: Any, told: Any, progress: Any) -> None:
        def wait(count: int) -> None:
            gate.wait(20)
            progress(count)

        try:
            commit(root, checkpoint, told, wait)
        finally:
            ended.set()

    monkeypatch.setattr(disk, "commit", slow)
    with pytest.raises(Preempted) as exit, manager, manager.guard(grace=0.3) as guard:
        kill()
        began = time.monotonic()
        guard.check(1, state(1.0))
    assert time.monotonic() - began < 5
    assert exit.value.code == 1
    assert not exit.value.saved
    assert not journal(manager.root, "interrupted")[0]["saved"]
    gate.set()
    assert ended.wait(20)
    assert manager.steps() == ()
    assert sorted(path.name for path in manager.root.iterdir()) == ["journal.jsonl"]


def test_it_gives_up_on_an_earlier_save_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(disk, "commit", lambda *arguments: gate.wait(20))
    manager = CheckpointManager(tmp_path / "run")
    with pytest.raises(Preempted) as exit, manager, manager.guard(grace=0.3):
        manager.save(1, state(1.0))
        kill()
        manager.save(2, state(2.0))
    assert exit.value.code == 1
    gate.set()


def test_it_saves_at_once_where_the_state_is_at_rest(manager: CheckpointManager) -> None:
    with pytest.raises(Preempted) as exit, manager, manager.guard() as guard:
        for step in range(5):
            with guard.update():
                objects = state(step + 0.5)
            guard.check(step, objects)
            if step == 2:
                kill()
                end = time.monotonic() + 20
                while not manager.steps() and time.monotonic() < end:
                    time.sleep(0.01)  # an evaluation that takes long
                assert manager.steps() == (2,)
    assert exit.value.saved
    assert step == 3  # the next update did not begin
    assert resumed(manager) == (2, 2.5)


def test_it_does_not_save_while_the_state_changes(manager: CheckpointManager) -> None:
    with pytest.raises(Preempted), manager, manager.guard() as guard:
        guard.check(0, state(0.0))
        with guard.update():
            kill()
            time.sleep(0.2)
            assert manager.steps() == ()
        guard.check(1, state(1.0))
    assert resumed(manager) == (1, 1.0)


def test_it_saves_on_an_exception_where_the_state_is_consistent(
    manager: CheckpointManager,
) -> None:
    with pytest.raises(ZeroDivisionError), manager, manager.guard() as guard:
        with guard.update():
            objects = state(3.0)
        guard.check(3, objects, metrics={"loss": 1.0})
        raise ZeroDivisionError("in the evaluation")
    assert resumed(manager) == (3, 3.0)
    told = journal(manager.root, "interrupted")
    assert [(one["why"], one["step"], one["saved"]) for one in told] == [
        ("ZeroDivisionError: in the evaluation", 3, True)
    ]


@pytest.mark.parametrize("declared", [False, True])
def test_it_does_not_save_on_an_exception_that_leaves_half_a_step(
    manager: CheckpointManager, declared: bool
) -> None:
    with pytest.raises(ZeroDivisionError), manager, manager.guard() as guard:
        guard.check(3, state())
        if declared:
            with guard.update():
                raise ZeroDivisionError
        raise ZeroDivisionError
    assert manager.steps() == ()
    assert [one["saved"] for one in journal(manager.root, "interrupted")] == [False]


def test_it_wakes_from_a_wait(manager: CheckpointManager) -> None:
    with pytest.raises(Preempted), manager, manager.guard() as guard:
        guard.check(0, state())
        threading.Timer(0.1, kill).start()
        began = time.monotonic()
        assert guard.wait(30)
        assert time.monotonic() - began < 10


def test_it_tells_bad_use(manager: CheckpointManager) -> None:
    with (
        manager.guard(),
        pytest.raises(UsageError, match="this manager has a guard already"),
        manager.guard(),
    ):
        pass
    errors: list[Exception] = []

    def elsewhere() -> None:
        try:
            manager.guard().__enter__()
        except UsageError as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert str(errors[0]) == "signals are for the main thread: enter the guard there"
