"""The chronicle of a run: its checkpoints, what they measured, and the journal that tells it."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from portackpt.errors import UsageError
from portackpt.manager import root as disk
from portackpt.manager.decisions import Moment
from portackpt.manager.journal import Journal, history, widen
from portackpt.manager.preservation import Preservation, doomed
from portackpt.manager.record import Record, spelled
from portackpt.manager.saving import Saved
from portackpt.store import roots

log = logging.getLogger("portackpt")

_MEASURED = 5
"""Saves over which their cost is averaged."""


class Chronicle:
    """What is known of the run in `root`, which must be called `run` where it has another name.

    The thread that saves and the one that trains both use it.
    """

    def __init__(self, root: Path, run: str | None, clock: Callable[[], float]) -> None:
        self._root = root
        self._clock = clock
        self._journal = Journal(root, clock)
        self._past = history(self._journal.events())
        if None not in (run, self._past.run) and run != self._past.run:
            told = f"this root belongs to the run {self._past.run!r}, not {run!r}"
            raise UsageError(told, str(root))
        self.run = self._past.run if run is None else run
        self._records = {record.step: record for record in disk.records(root)}
        self._extremes = dict(self._past.extremes)
        for record in self._records.values():
            widen(self._extremes, record.metrics)
        self._began = clock()
        self._costs: deque[float] = deque(maxlen=_MEASURED)
        self._durations: deque[float] = deque(maxlen=_MEASURED)
        self._lock = threading.Lock()
        self._open = False
        self.pending: Record | None = None
        """The record of the save in flight, which decisions take for made."""

    @property
    def has_saved(self) -> bool:
        """True when the run has ever had a checkpoint."""
        return bool(self._past.saved or self._records) or disk.has_damaged(self._root)

    def records(self) -> tuple[Record, ...]:
        """What is known of the committed checkpoints, oldest first."""
        with self._lock:
            return tuple([self._records[step] for step in sorted(self._records)])

    def moment(self, step: int, metrics: Mapping[str, float]) -> Moment:
        """What a save decision may look at."""
        with self._lock:
            known = [*self._records.values()]
            extremes = self._extremes
            if self.pending is not None:
                known.append(self.pending)
                extremes = dict(extremes)
                widen(extremes, self.pending.metrics)
            last = max(known, key=lambda one: (one.time, one.step), default=None)
            return Moment(
                step=step, now=self._clock(), started=self._began, metrics=metrics, last=last,
                extremes=extremes, failures=self._past.failures, trained=self._past.trained,
                cost=fmean(self._costs) if self._costs else None,
                duration=fmean(self._durations) if self._durations else None,
            )  # fmt: skip

    def record(
        self, step: int, metrics: Mapping[str, float], tags: tuple[str, ...], why: str
    ) -> Record:
        """The record of a checkpoint whose state is taken now."""
        return Record(
            step=step, time=self._clock(), metrics=metrics, tags=tags, why=why, run=self.run
        )

    def committed(self, saved: Saved) -> None:
        """Take note of a checkpoint that is durable."""
        told = saved.record
        with self._lock:
            self.pending = None
            self._records[told.step] = replace(told, nbytes=saved.nbytes)
            widen(self._extremes, told.metrics)
            self._costs.append(saved.stall)
            self._durations.append(saved.seconds)
        self.tell(
            "saved", step=told.step, why=told.why, metrics=spelled(told.metrics) or None,
            tags=told.tags or None, nbytes=saved.nbytes, stall=round(saved.stall, 4),
            seconds=round(saved.seconds, 4),
        )  # fmt: skip

    def prune(self, policy: Preservation, saved: int) -> None:
        """Delete what `policy` gives up, but not the step that was just saved."""
        with self._lock:
            there = roots.directories(self._root)
            self._records = {s: record for s, record in self._records.items() if s in there}
        steps = tuple([step for step in doomed(self.records(), policy) if step != saved])
        if not steps:
            return
        try:
            disk.remove(self._root, steps)
        except OSError as error:
            log.warning("cannot delete old checkpoints of %s: %s", self._root, error)
            return
        self.forget(steps)
        self.tell("pruned", steps=steps)

    def forget(self, steps: Iterable[int]) -> None:
        """Take note of checkpoints that are no more."""
        with self._lock:
            for step in steps:
                self._records.pop(step, None)

    # ---- the journal

    def open(self) -> None:
        """This process takes part in the run from now on."""
        if self._open:
            return
        self._open = True
        if not self._journal.path.exists():
            self.tell("created", run=self.run)
        self.tell("started", host=socket.gethostname(), pid=os.getpid(), command=list(sys.argv))

    def close(self, event: str, **facts: Any) -> None:
        """This process no longer takes part: it `finished`, or was `interrupted`."""
        if self._open:
            self.tell(event, **facts)
            self._open = False

    def tell(self, event: str, **facts: Any) -> None:
        """Write to the journal. A journal that cannot be written costs no checkpoint."""
        try:
            self._journal.append(event, **facts)
        except OSError as error:
            log.warning("cannot write %s: %s", self._journal.path, error)
