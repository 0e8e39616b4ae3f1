"""The manager of a run's checkpoints: when to save, what to keep, where to resume."""

from __future__ import annotations

import atexit
import logging
import os
import socket
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any, Self, TypeAlias

from portackpt.errors import UsageError
from portackpt.manager import plain as live
from portackpt.manager import resuming
from portackpt.manager import root as disk
from portackpt.manager.decisions import Moment, SaveDecision, every_step
from portackpt.manager.journal import Journal, history, widen
from portackpt.manager.preservation import Preservation, doomed, everything
from portackpt.manager.record import Record, plain_metrics, plain_tags, spelled
from portackpt.manager.resuming import Resumed
from portackpt.manager.saving import Saved, Saver
from portackpt.store import roots

log = logging.getLogger("portackpt")

Objects: TypeAlias = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""What is saved, by name; or a function that gives it, called only when there is a save."""
_MEASURED = 5
"""Saves over which their cost is averaged."""


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
        self._clock = clock
        disk.prepare(self.root)
        self.journal = Journal(self.root, clock)
        self._past = history(self.journal.events())
        self.run = self._identity(run)
        self._records = {record.step: record for record in disk.records(self.root)}
        self._extremes = dict(self._past.extremes)
        for record in self._records.values():
            widen(self._extremes, record.metrics)
        self._began = clock()
        self._started = self._closed = False
        self._costs: deque[float] = deque(maxlen=_MEASURED)
        self._durations: deque[float] = deque(maxlen=_MEASURED)
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        self._saver = Saver(self.root, self._committed)
        self._at_exit = _close_at_exit(self)

    # ---- what is there

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
        with self._lock:
            return tuple(self._records[step] for step in sorted(self._records))

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
        take it, and whatever the last save in the background failed with.
        """
        with self._alone():
            self.raise_failure()
            numbers = plain_metrics(metrics)
            moment = self._moment(step, numbers)
            why = "it was asked for" if force else self.save_decision(moment)
            if why is None or not self._has_room(step):
                return False
            told = Record(
                step=step, time=moment.now, metrics=numbers, tags=plain_tags(tags), why=why,
                run=self.run,
            )  # fmt: skip
            self._save(told, objects, self.asynchronous)
        return True

    def _save(self, told: Record, objects: Objects, background: bool) -> None:
        self._start()
        began = time.monotonic()
        if disk.holds(self.root, told.step):
            raise UsageError(
                f"step {told.step} is there already; a checkpoint is never replaced", str(self.root)
            )
        checkpoint = live.capture(objects() if callable(objects) else objects)
        log.info("saving step %d: %s", told.step, told.why)
        if background:
            self._saver.start(self._saver.snapshot(checkpoint), told, began)
        else:
            self._saver.write(checkpoint, told)

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
            self._saver.wait()
            self.raise_failure()
            return True
        if self.when_busy is WhenBusy.FAIL:
            told = f"the save of step {self._saver.step} is still being written"
            raise UsageError(f"cannot save step {step}: {told}", str(self.root))
        self._tell("skipped", step=step, busy=self._saver.step)
        return False

    def _moment(self, step: int, metrics: Mapping[str, float]) -> Moment:
        if not 0 <= step <= roots.MAX_STEP:
            raise UsageError(f"step {step} is outside 0 to 2^63 - 1")
        with self._lock:
            last = max(self._records.values(), key=lambda one: (one.time, one.step), default=None)
            return Moment(
                step=step, now=self._clock(), started=self._began, metrics=metrics, last=last,
                extremes=self._extremes, failures=self._past.failures, trained=self._past.trained,
                cost=fmean(self._costs) if self._costs else None,
                duration=fmean(self._durations) if self._durations else None,
            )  # fmt: skip

    def _committed(self, saved: Saved) -> None:
        """Take note of a checkpoint that is durable, and delete what nothing keeps any more."""
        told = saved.record
        with self._lock:
            self._records[told.step] = replace(told, nbytes=saved.nbytes)
            widen(self._extremes, told.metrics)
            self._costs.append(saved.stall)
            self._durations.append(saved.seconds)
        self._tell(
            "saved", step=told.step, why=told.why, metrics=spelled(told.metrics) or None,
            tags=told.tags or None, nbytes=saved.nbytes, stall=round(saved.stall, 4),
            seconds=round(saved.seconds, 4),
        )  # fmt: skip
        self._prune(told.step)

    def _prune(self, saved: int) -> None:
        with self._lock:
            there = set(roots.directories(self.root))
            self._records = {s: record for s, record in self._records.items() if s in there}
        steps = tuple(s for s in doomed(self.records(), self.preservation) if s != saved)
        if not steps:
            return
        try:
            disk.remove(self.root, steps)
        except OSError as error:
            log.warning("cannot delete old checkpoints of %s: %s", self.root, error)
            return
        with self._lock:
            for step in steps:
                self._records.pop(step, None)
        self._tell("pruned", steps=steps)

    # ---- resuming

    def restore(self, objects: Mapping[str, Any], step: int | None = None) -> Resumed | None:
        """Bring `objects` to where the run was: at its newest checkpoint that is whole, or at
        `step`.

        A damaged checkpoint is renamed, and the next older one used; `passed_over` of the answer
        and the journal say so. None is answered in one case only: this root has never held a
        checkpoint. Where it has, and none can be used, `InputError` is raised.
        """
        self.wait()
        self._start()
        if step is not None:
            resumed = resuming.one(self.root, step, objects)
        else:
            found, passed = resuming.newest(self.root, objects)
            for one in passed:
                self._tell("quarantined", step=one.step, reason=one.reason, name=one.name)
                self._records.pop(one.step, None)
            if found is None:
                if passed or self._past.saved or disk.has_damaged(self.root):
                    raise resuming.nothing_usable(self.root, passed)
                return None
            resumed = found
        self._tell("resumed", step=resumed.step)
        return resumed

    # ---- the end

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no save is in flight, and raise what it failed with; False when it still is
        after `timeout` seconds."""
        ended = self._saver.wait(timeout)
        self.raise_failure()
        return ended

    def raise_failure(self) -> None:
        """Raise what the last save in the background failed with, once."""
        failure = self._saver.failure()
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Wait for the save in flight, raise what it failed with, and end the journal."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._at_exit)
        try:
            self.wait()
        finally:
            if self._started:
                self._tell("finished")

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
        self._interrupted(f"{kind.__name__}: {error}" if kind else "")
        try:
            self.close()
        except Exception as late:
            error.add_note(f"and the last save failed: {late}")

    # ---- the journal

    def _identity(self, run: str | None) -> str | None:
        known = self._past.run
        if run is not None and known is not None and run != known:
            raise UsageError(f"this root belongs to the run {known!r}, not {run!r}", str(self.root))
        return known if run is None else run

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        if not self.journal.path.exists():
            self._tell("created", run=self.run)
        self._tell(
            "started", host=socket.gethostname(), pid=os.getpid(), command=list(sys.argv),
        )  # fmt: skip

    def _interrupted(self, why: str, **facts: Any) -> None:
        if self._started:
            self._tell("interrupted", why=why[:1000], **facts)
            self._started = False

    def _tell(self, event: str, **facts: Any) -> None:
        """Write to the journal. A journal that cannot be written costs no checkpoint."""
        try:
            self.journal.append(event, **facts)
        except OSError as error:
            log.warning("cannot write %s: %s", self.journal.path, error)


def _close_at_exit(manager: CheckpointManager) -> Callable[[], None]:
    """Close a manager that is still open when the program ends, so that no error goes unseen."""
    reference = weakref.ref(manager)

    def close() -> None:
        found = reference()
        if found is not None:
            found.close()

    atexit.register(close)
    return close
