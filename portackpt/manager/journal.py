"""The journal of a run: `journal.jsonl` in its root, one sealed line an event, only ever appended.

    {"event":"created","time":…,"run":"gpt","xxh3":"…"}
    {"event":"started","time":…,"host":…,"pid":…,…}
    {"event":"resumed","time":…,"step":40,…}
    {"event":"saved","time":…,"step":50,"why":"every 10 steps","metrics":{…},"seconds":1.2,…}
    {"event":"interrupted","time":…,"why":"SIGTERM","step":57,"saved":true,…}

A process that dies in the middle of an append leaves a torn last line. Readers pass over lines that
are no sealed ones; the next append ends the torn line first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from portackpt.manager.lines import seal, unseal
from portackpt.storage.local import sync_directory

NAME: Final = "journal.jsonl"
_MAX_LINE = 16 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a run."""

    event: str
    time: float
    facts: Mapping[str, Any]


class Journal:
    """The journal in `root`. Appending is durable when it returns."""

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        self.path = root / NAME
        self._clock = clock

    def append(self, event: str, **facts: Any) -> Event:
        """Write one event. Facts are plain data; those that are None are left out."""
        told = Event(event, self._clock(), {k: v for k, v in facts.items() if v is not None})
        line = seal({"event": told.event, "time": told.time, **told.facts})
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        new = not self.path.exists()
        descriptor = os.open(self.path, flags, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            _write_all(descriptor, b"\n" + line if torn else line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            sync_directory(self.path.parent)
        return told

    def events(self) -> Iterator[Event]:
        """All events that can be read, oldest first."""
        try:
            file = self.path.open("rb")
        except OSError:
            return
        with file:
            while line := file.readline(_MAX_LINE):
                members = unseal(line)
                if members is None:
                    continue
                event, time = members.pop("event", None), members.pop("time", None)
                if isinstance(event, str) and isinstance(time, (int, float)):
                    yield Event(event, float(time), members)


@dataclass(frozen=True, slots=True)
class History:
    """What a journal says of the run so far.

    `run` is its name; `saved` the steps that were ever committed; `extremes` the smallest and
    largest value of each metric in a checkpoint; `failures` the processes that ended without a
    word, in `trained` seconds of all.
    """

    run: str | None
    saved: frozenset[int]
    extremes: Mapping[str, tuple[float, float]]
    failures: int
    trained: float


def history(events: Iterable[Event]) -> History:
    """The history that `events`, of earlier processes, tell."""
    run: str | None = None
    saved: set[int] = set()
    extremes: dict[str, tuple[float, float]] = {}
    failures, trained = 0, 0.0
    began = last = None
    for event in events:
        if event.event == "created" and run is None:
            name = event.facts.get("run")
            run = name if isinstance(name, str) else None
        elif event.event == "saved":
            step = event.facts.get("step")
            if isinstance(step, int):
                saved.add(step)
            widen(extremes, _metrics(event.facts.get("metrics")))
        if event.event == "started":
            if began is not None and last is not None:
                failures, trained = failures + 1, trained + max(0.0, last - began)
            began = event.time
        elif event.event in ("finished", "interrupted") and began is not None:
            trained, began = trained + max(0.0, event.time - began), None
        last = event.time
    if began is not None and last is not None:
        failures, trained = failures + 1, trained + max(0.0, last - began)
    return History(run, frozenset(saved), extremes, failures, trained)


def widen(extremes: dict[str, tuple[float, float]], metrics: Mapping[str, float]) -> None:
    """Take `metrics` into the smallest and largest values so far; NaN is no value."""
    for name, value in metrics.items():
        if value == value:
            low, high = extremes.get(name, (value, value))
            extremes[name] = min(low, value), max(high, value)


def _metrics(found: Any) -> dict[str, float]:
    metrics = {}
    for name, value in found.items() if isinstance(found, dict) else ():
        try:
            metrics[name] = float(value)
        except (TypeError, ValueError):
            continue
    return metrics


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
