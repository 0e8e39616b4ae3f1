"""When to save: decisions as small functions that combine with `|` and `&`.

A decision looks at a `Moment` and answers why to save now, or None. Any function will do:

    lambda moment: "the warm-up is over" if moment.step == 500 else None

The names are near Orbax's save decision policies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from portackpt.errors import UsageError
from portackpt.manager.record import Record

_DAY = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a decision may look at.

    Times are in seconds; `now` and `started` (of this process) since 1970. `last` is the newest
    checkpoint of the run, `extremes` the smallest and largest value of each metric saved so far.
    `cost` is how long the training waited for a save, `duration` how long one took until it was
    durable: means of the saves of this process, None before the first. `failures` of `trained`
    seconds are what the journal knows of earlier processes of the run.
    """

    step: int
    now: float
    started: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    last: Record | None = None
    extremes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    cost: float | None = None
    duration: float | None = None
    failures: int = 0
    trained: float = 0.0

    @property
    def unsaved(self) -> float:
        """Seconds of training that a failure now would lose."""
        return self.now - max(self.started, self.last.time if self.last else self.started)


Reason: TypeAlias = str | None
SaveDecision: TypeAlias = Callable[[Moment], Reason]


class _Combinable:
    """A decision that combines with any other by `|` (one is enough) and `&` (all must hold)."""

    __slots__ = ()

    def __call__(self, moment: Moment) -> Reason:
        raise NotImplementedError

    def __or__(self, other: SaveDecision) -> AnyOf:
        return AnyOf((self, other))

    def __and__(self, other: SaveDecision) -> AllOf:
        return AllOf((self, other))


@dataclass(frozen=True, slots=True)
class AnyOf(_Combinable):
    """Save when one of `decisions` says so."""

    decisions: tuple[SaveDecision, ...]

    def __call__(self, moment: Moment) -> Reason:
        return next((why for one in self.decisions if (why := one(moment))), None)


@dataclass(frozen=True, slots=True)
class AllOf(_Combinable):
    """Save when all of `decisions` say so."""

    decisions: tuple[SaveDecision, ...]

    def __call__(self, moment: Moment) -> Reason:
        reasons = [one(moment) for one in self.decisions]
        return " and ".join(map(str, reasons)) if all(reasons) else None


@dataclass(frozen=True, slots=True)
class EveryNSteps(_Combinable):
    """Save at steps that are multiples of `n`."""

    n: int

    def __post_init__(self) -> None:
        _check(self.n >= 1, f"save every n steps: n is at least 1, found {self.n}")

    def __call__(self, moment: Moment) -> Reason:
        return f"every {self.n} steps" if moment.step % self.n == 0 else None


@dataclass(frozen=True, slots=True)
class EveryTMinutes(_Combinable):
    """Save when `minutes` of training have passed since the last save, or since the start."""

    minutes: float

    def __post_init__(self) -> None:
        _check(self.minutes > 0, f"save every t minutes: more than 0, found {self.minutes}")

    def __call__(self, moment: Moment) -> Reason:
        return f"every {self.minutes:g} min" if moment.unsaved >= 60 * self.minutes else None


@dataclass(frozen=True, slots=True, init=False)
class AtSteps(_Combinable):
    """Save at the given steps."""

    steps: frozenset[int]

    def __init__(self, *steps: int) -> None:
        object.__setattr__(self, "steps", frozenset(steps))

    def __call__(self, moment: Moment) -> Reason:
        return f"step {moment.step} was asked for" if moment.step in self.steps else None


@dataclass(frozen=True, slots=True)
class OnMetric(_Combinable):
    """Save when a metric is better, by more than `min_delta`, than in all checkpoints so far."""

    metric: str
    mode: Literal["min", "max"]
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        _check(self.mode in ("min", "max"), f"a mode is 'min' or 'max', found {self.mode!r}")

    def __call__(self, moment: Moment) -> Reason:
        value = moment.metrics.get(self.metric)
        if value is None or math.isnan(value):
            return None
        lowest, highest = moment.extremes.get(self.metric, (math.inf, -math.inf))
        better = value < lowest - self.min_delta
        if self.mode == "max":
            better = value > highest + self.min_delta
        return f"{self.metric} improved to {value:g}" if better else None


@dataclass(frozen=True, slots=True)
class BeforeDeadline(_Combinable):
    """Save once when the deadline is near: as long before it as a save takes, and a margin.

    `deadline` is a time with its zone, or seconds since 1970 (as in Slurm's `SLURM_JOB_END_TIME`);
    `margin` is in seconds, and has to cover one step of the training.
    """

    deadline: datetime | float
    margin: float = 60.0

    def __call__(self, moment: Moment) -> Reason:
        at = self.deadline
        end = at.timestamp() if isinstance(at, datetime) else float(at)
        lead = self.margin + 2 * (moment.duration or 0.0)
        near = end - lead <= moment.now
        saved = moment.last is not None and moment.last.time >= end - lead
        return f"{end - moment.now:.0f} s before the deadline" if near and not saved else None


@dataclass(frozen=True, slots=True)
class YoungDaly(_Combinable):
    """Save at the interval that loses the least time to saves and to failures together.

    `mean_time_between_failures` is in seconds; None takes it from the run's journal, and a day as
    long as that knows of no failure. The cost of a save is measured: the first save is made at
    once. J. W. Young, CACM 17(9), 1974; J. T. Daly, FGCS 22(3), 2006, eq. 37.
    """

    mean_time_between_failures: float | None = None

    def __call__(self, moment: Moment) -> Reason:
        if moment.cost is None or moment.duration is None:
            return "the first save, which measures what one costs"
        between = self.between(moment)
        interval = max(optimal_interval(moment.cost, between), moment.duration)
        if moment.unsaved < interval:
            return None
        return (
            f"every {interval:.3g} s: a save costs {moment.cost:.2g} s, "
            f"a failure comes every {between / 3600:.3g} h (Young/Daly)"
        )

    def between(self, moment: Moment) -> float:
        """Mean seconds between failures."""
        if self.mean_time_between_failures is not None:
            return self.mean_time_between_failures
        if not moment.failures:
            return _DAY
        return max(moment.trained / moment.failures, 1.0)


def optimal_interval(cost: float, between: float) -> float:
    """Seconds of training between two saves of `cost` seconds, with `between` from failure to
    failure: sqrt(2 C M) [1 + sqrt(C / 2M) / 3 + (C / 2M) / 9] - C, and M where C is over 2 M."""
    if cost >= 2 * between:
        return between
    part = cost / (2 * between)
    return math.sqrt(2 * cost * between) * (1 + math.sqrt(part) / 3 + part / 9) - cost


def every_step(moment: Moment) -> Reason:
    """Save whenever asked."""
    return "every step"


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise UsageError(message)
