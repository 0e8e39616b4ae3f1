"""The neutral schedule: a form, where it stands, and what the rates were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from portackpt.errors import UsageError
from portackpt.schedules.clock import UPDATES, Clock
from portackpt.schedules.cycles import Cyclic, OneCycle
from portackpt.schedules.expression import (
    COUNT,
    Expression,
    Number,
    evaluate,
    less,
    substitute,
    where,
)
from portackpt.schedules.forms import (
    Constant,
    Exponential,
    Form,
    Held,
    Linear,
    MultiStep,
    Polynomial,
    Step,
    require,
)
from portackpt.schedules.plateau import PlateauState


@dataclass(frozen=True, slots=True)
class Code:
    """A schedule that is a program: what a checkpoint keeps of it is its counts and last rates."""

    reason: str
    scales: ClassVar[bool] = False

    def rate(self, base: Number, group: int) -> Expression | None:
        return None


@dataclass(frozen=True, slots=True)
class Schedule:
    """One learning-rate schedule at a point of a run.

    `position` is the count: the ticks that have been (a fraction where a program ticks within
    epochs; below 0 for a part that has not begun). `base_lrs` are what each parameter group was
    given; `last_lrs` the rates the schedule itself noted last, `live_lrs` those the optimizer's
    groups hold, where known: both are a checksum of the formula, to `tolerance`. `framework` is the
    one that computed them; `extras` are plain data of its own class that no other needs.
    """

    form: Form
    position: Number = 0
    base_lrs: tuple[Number, ...] = ()
    last_lrs: tuple[Number, ...] | None = None
    live_lrs: tuple[Number, ...] | None = None
    clock: Clock = UPDATES
    plateau: PlateauState | None = None
    tolerance: float = 1e-9
    framework: str | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def current(self) -> tuple[Number, ...] | None:
        """The rates of the next update as the source would use them."""
        return self.last_lrs if self.live_lrs is None else self.live_lrs

    @property
    def groups(self) -> int:
        return len(self.base_lrs) or len(self.current or ())


@dataclass(frozen=True, slots=True)
class Piece:
    """A schedule that rules from count `begin` on, and counts from `origin` (mostly the same)."""

    schedule: Schedule
    begin: Number = 0
    origin: Number = 0


@dataclass(frozen=True, slots=True)
class Sequence:
    """One schedule after the other (torch SequentialLR, optax `join_schedules`)."""

    pieces: tuple[Piece, ...]
    scales: ClassVar[bool] = False

    def __post_init__(self) -> None:
        begins = [piece.begin for piece in self.pieces]
        require(bool(begins) and begins == sorted(begins), "a sequence has pieces in their order")

    def active(self, count: Number) -> int:
        """Which piece rules at `count`."""
        return sum(piece.begin <= count for piece in self.pieces[1:])

    def rate(self, base: Number, group: int) -> Expression | None:
        rates = [expression(piece.schedule, group) for piece in self.pieces]
        result: Expression | None = None
        for i in reversed(range(len(rates))):
            rate = rates[i]
            if rate is None:
                return None
            rate = substitute(rate, COUNT - self.pieces[i].origin)
            if result is None:
                result = rate
            else:
                result = where(less(COUNT, self.pieces[i + 1].begin), rate, result)
        return result


@dataclass(frozen=True, slots=True)
class Chain:
    """Several schedules that each change the rate the one before left (torch ChainedScheduler).

    Where all only scale, the rate is the base times the product of their factors. A member that
    adds (a cosine past its trough, or with a floor) or overwrites (warm restarts) makes it a
    recursion: see `replay`. The pieces' begins have no meaning here.
    """

    pieces: tuple[Piece, ...]

    def __post_init__(self) -> None:
        require(bool(self.pieces), "a chain has members")

    @property
    def scales(self) -> bool:
        return all(multiplies(piece.schedule.form) for piece in self.pieces)

    def rate(self, base: Number, group: int) -> Expression | None:
        if not self.scales:
            return None
        result: Expression = base
        for piece in self.pieces:
            factor = piece.schedule.form.rate(1.0, group)
            if factor is None:
                return None
            result = result * substitute(factor, COUNT - piece.origin)
        return result


_MULTIPLYING = (Constant, Held, Linear, Exponential, Step, MultiStep, Polynomial, Chain)


def multiplies(form: Form) -> bool:
    """Whether torch computes each rate from the one before by a factor: an edit of it lasts."""
    return isinstance(form, _MULTIPLYING) and form.scales


def expression(schedule: Schedule, group: int = 0) -> Expression | None:
    """The rate of `group` as a formula of the count; None where there is none."""
    if isinstance(schedule.form, Sequence):
        return schedule.form.rate(0.0, group)
    return schedule.form.rate(base(schedule, group), group)


def base(schedule: Schedule, group: int = 0) -> Number:
    """The base rate of `group`."""
    if not 0 <= group < len(schedule.base_lrs):
        raise UsageError(
            f"there is no parameter group {group}: the schedule knows {len(schedule.base_lrs)}"
        )
    return schedule.base_lrs[group]


def momentum(schedule: Schedule, group: int = 0) -> Expression | None:
    """The momentum (or first beta) of `group` as a formula of the count, where scheduled."""
    form = schedule.form
    if isinstance(form, Cyclic | OneCycle):
        return form.momentum_rate(group)
    if isinstance(form, Sequence):
        return _momentum(form, group)
    return None


def _momentum(form: Sequence, group: int) -> Expression | None:
    """A piece that leaves the momentum alone keeps the last; before the first it is its start."""
    rates = [momentum(piece.schedule, group) for piece in form.pieces]
    moved = [rate for rate in rates if rate is not None]
    if not moved:
        return None
    result: Expression = evaluate(moved[0], 0)
    for i, (piece, rate) in enumerate(zip(form.pieces, rates, strict=True)):
        own = rate
        if own is None and i > 0 and rates[i - 1] is not None:
            own = evaluate(result, piece.begin - 1)
        elif own is not None:
            own = substitute(own, COUNT - piece.origin)
        if own is not None:
            result = own if i == 0 else where(less(COUNT, piece.begin), result, own)
    return result


def unknown(schedule: Schedule) -> str:
    """Why the rates to come are not known; empty where they are."""
    form = schedule.form
    if isinstance(form, Code):
        return form.reason
    if isinstance(form, Sequence | Chain):
        first = form.active(schedule.position) if isinstance(form, Sequence) else 0
        reasons = [unknown(piece.schedule) for piece in form.pieces[first:]]
        return next(filter(None, reasons), "")
    if schedule.plateau is not None:
        return "a plateau schedule depends on metrics to come"
    return ""
