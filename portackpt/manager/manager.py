"""The manager of a run's checkpoints: when to save, what to keep, where to resume."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from portackpt.checkpoint import Checkpoint
from portackpt.errors import UsageError
from portackpt.manager import plain as live
from portackpt.manager import resuming
from portackpt.manager import root as disk
from portackpt.manager.chronicle import Chronicle
from portackpt.manager.decisions import Moment, SaveDecision, every_step
from portackpt.manager.guard import Boundary, Guard
from portackpt.manager.preservation import Preservation, everything
from portackpt.manager.record import Record, plain_metrics, plain_tags
from portackpt.manager.resuming import Resumed
from portackpt.manager.saving import Saved, Saver
from portackpt.store import roots

log = logging.getLogger("portackpt")

Objects: TypeAlias = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""What is saved, by name; or a function that gives it, called only when there is a save."""
_POLL = 0.1
"""Seconds between two looks for a signal, while a save is waited for."""


class WhenBusy(StrEnum):
    """What a save does while another is being written."""

    WAIT = "wait"
    SKIP = "skip"
    FAIL = "fail"


class CheckpointManager:
    """Saves a run into `root`, keeps what `preservation` keeps, and finds where to resume.

        with CheckpointManager("runs/7", save_decision=EveryNSteps(1000)) as manager:
            resumed = manager.restore(objects)
            for step in range(resumed.step + 1 if resumed else 0, steps):
                train(step)
                manager.save(step, objects, metrics={"loss": loss})

    With `asynchronous`, `save` returns when the state is copied, and the copy is written in the
    background: what fails then is raised by the next call, and by `close`. Without, `save` returns
    when the checkpoint is durable, and no copy is made. A root belongs to one run: `run` is its
    name, compared with that in the journal.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        save_decision: SaveDecision = every_step,
        preservation: Preservation = everything,
        run: str | None = None,
        asynchronous: bool = True,
        when_busy: WhenBusy | str = WhenBusy.WAIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.root = Path(root)
        self.save_decision = save_decision
        self.preservation = preservation
        self.asynchronous = asynchronous
        self.when_busy = WhenBusy(when_busy)
        disk.prepare(self.root)
        self._chronicle = Chronicle(self.root, run, clock)
        self._saver = Saver(self.root, self._committed)
        self._saving = threading.Lock()
        self._closed = self._given_up = False
        self._guard: Guard | None = None
        self._at_exit = _close_at_exit(self)

    # ---- what is there

    @property
    def run(self) -> str | None:
        """The name of the run."""
        return self._chronicle.run

    def steps(self) -> tuple[int, ...]:
        """The steps that are committed, ascending."""
        return disk.complete(self.root)

    def latest_step(self) -> int | None:
        """The newest step that is committed."""
        for step, places in roots.directories(self.root).items():
            if any(map(roots.is_complete, places)):
                return step
        return None

    def records(self) -> tuple[Record, ...]:
        """What is known of the committed checkpoints, oldest first."""
        return self._chronicle.records()

    # ---- saving

    def should_save(self, step: int, metrics: Mapping[str, Any] | None = None) -> bool:
        """True when the save decision wants this step."""
        return self.save_decision(self._moment(step, plain_metrics(metrics))) is not None

    def save(
        self,
        step: int,
        objects: Objects,
        *,
        metrics: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        force: bool = False,
    ) -> bool:
        """Save `objects` if the save decision, or `force`, wants it; True when it did.

        Raises `UsageError` for a step that is there already, `WriteError` where the disk does not
        take it, and whatever the last save in the background failed with. Under a guard, it is a
        step boundary, too.
        """
        with self._boundary(Boundary(step, objects, metrics)), self._alone():
            self.raise_failure()
            numbers = plain_metrics(metrics)
            why = self.save_decision(self._moment(step, numbers))
            if force:
                why = why or "it was asked for"
            if why is None or not self._has_room(step):
                return False
            if disk.holds(self.root, step):
                told = f"step {step} is there already; a checkpoint is never replaced"
                raise UsageError(told, str(self.root))
            self._save(self._chronicle.record(step, numbers, plain_tags(tags), why), objects)
        return True

    def _save(self, told: Record, objects: Objects) -> None:
        began = time.monotonic()
        self._chronicle.open()
        log.info("saving step %d: %s", told.step, told.why)
        checkpoint = _capture(objects)
        self._chronicle.pending = told
        try:
            if self.asynchronous:
                self._saver.start(self._saver.snapshot(checkpoint), told, began)
            else:
                self._saver.write(checkpoint, told)
        except BaseException:
            self._chronicle.pending = None
            raise

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._saving.acquire(blocking=False):
            raise UsageError("a save was called during a save", str(self.root))
        try:
            if self._closed:
                raise UsageError("this manager is closed", str(self.root))
            yield
        finally:
            self._saving.release()

    def _has_room(self, step: int) -> bool:
        """Whether step may be saved now: one save is in flight at a time."""
        if not self._saver.busy or self.when_busy is WhenBusy.WAIT:
            self.wait()
            return True
        if self.when_busy is WhenBusy.FAIL:
            told = f"the save of step {self._saver.step} is still being written"
            raise UsageError(f"cannot save step {step}: {told}", str(self.root))
        self._chronicle.tell("skipped", step=step, busy=self._saver.step)
        return False

    def _moment(self, step: int, metrics: Mapping[str, float]) -> Moment:
        if not 0 <= step <= roots.MAX_STEP:
            raise UsageError(f"step {step} is outside 0 to 2^63 - 1")
        return self._chronicle.moment(step, metrics)

    def _committed(self, saved: Saved) -> None:
        self._chronicle.committed(saved)
        self._chronicle.prune(self.preservation, saved.record.step)

    # ---- resuming

    def restore(self, objects: Mapping[str, Any], step: int | None = None) -> Resumed | None:
        """Bring `objects` to where the run was: at its newest checkpoint that is whole, or at
        `step`.

        A damaged checkpoint is renamed, and the next older one used; `passed_over` of the answer
        and the journal say so. None is answered in one case only: this root has never held a
        checkpoint. Where it has, and none can be used, `InputError` is raised.
        """
        self.wait()
        if step is not None:
            resumed: Resumed | None = resuming.one(self.root, step, objects)
        else:
            had = self._chronicle.has_saved
            resumed, passed = resuming.newest(self.root, objects)
            for one in passed:
                self._chronicle.forget((one.step,))
                self._chronicle.tell("quarantined", step=one.step, reason=one.reason, name=one.name)
            if resumed is None and (had or passed):
                raise resuming.nothing_usable(self.root, passed)
        self._chronicle.open()
        if resumed is not None:
            self._chronicle.tell("resumed", step=resumed.step)
        return resumed

    # ---- signals and exceptions

    def guard(self, *signals: int, grace: float = 30.0, exit_code: int | None = None) -> Guard:
        """Watch for SIGTERM, SIGINT and `signals` (Slurm's SIGUSR1, say) while the block runs.

        After one, the state is saved at the next step boundary, within `grace` seconds of the
        signal, and the program exits: with `exit_code`, or 128 and the signal's number as shells
        do; with 1 where the state could not be saved in time. See `portackpt.manager.guard`.
        """
        watched = (signal.SIGTERM, signal.SIGINT, *signals)
        return Guard(self, watched, grace, exit_code, self._attach)

    def _attach(self, guard: Guard | None) -> None:
        if guard is not None:
            if self._guard is not None:
                raise UsageError("this manager has a guard already", str(self.root))
            self._chronicle.open()
        self._guard = guard

    def _boundary(self, reached: Boundary) -> AbstractContextManager[None]:
        return nullcontext() if self._guard is None else self._guard.boundary(reached)

    def preserve(self, boundary: Boundary, why: str, timeout: float | None) -> bool:
        """Save a boundary, or see that it is saved; True when it is durable within `timeout`.

        The objects must stay as they are meanwhile; no copy of them is made.
        """
        began = time.monotonic()
        if not self._saver.wait(timeout):
            return self._give_up()
        late = self._saver.failure()
        if late is not None:
            log.error("an earlier save failed: %s", late)
        if disk.holds(self.root, boundary.step):
            return True
        self._chronicle.open()
        told = self._chronicle.record(boundary.step, plain_metrics(boundary.metrics), (), why)
        self._saver.start(_capture(boundary.objects), told, began)
        rest = None if timeout is None else max(0.0, timeout - (time.monotonic() - began))
        if not self._saver.wait(rest):
            return self._give_up()
        self.raise_failure()
        return True

    def _give_up(self) -> bool:
        self._given_up = True
        self._saver.give_up()
        return False

    def interrupted(self, why: str, step: int | None = None, saved: bool | None = None) -> None:
        """Write to the journal that the run ends here."""
        self._chronicle.close("interrupted", why=why[:1000], step=step, saved=saved)

    # ---- the end

    def wait(self) -> None:
        """Wait until no save is in flight, and raise what it failed with.

        Under a guard that has noted a signal, no longer than its grace period.
        """
        while not self._saver.wait(None if self._guard is None else _POLL):
            if self._guard is not None:
                self._guard.hurry()
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise what the last save in the background failed with, once."""
        failure = self._saver.failure()
        if failure is not None:
            self._chronicle.pending = None
            raise failure

    def close(self) -> None:
        """Wait for the save in flight, raise what it failed with, and end the journal."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._at_exit)
        try:
            if not self._given_up:
                self.wait()
        finally:
            self._chronicle.close("finished")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        self.interrupted(f"{type(error).__name__}: {error}")
        try:
            self.close()
        except Exception as late:
            error.add_note(f"and the last save failed: {late}")


def _capture(objects: Objects) -> Checkpoint:
    return live.capture(objects() if callable(objects) else objects)


def _close_at_exit(manager: CheckpointManager) -> Callable[[], None]:
    """Close a manager that is still open when the program ends, so that no error goes unseen."""
    reference = weakref.ref(manager)

    def close() -> None:
        found = reference()
        if found is not None:
            found.close()

    atexit.register(close)
    return close
