"""Schedules of one formula: how the learning rate depends on the count. See also `curves`.

The count is 0 for the first tick (as PyTorch's `last_epoch`, optax's `count`, Keras'
`iterations`): it is the number of ticks that have been. `base` is the rate a group was given.
Numbers stay as they were found, an int an int.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from portackpt.errors import UsageError
from portackpt.schedules.expression import (
    COUNT,
    Expression,
    Number,
    ceil,
    lookup,
    maximum,
    minimum,
    whole,
)


class Form(Protocol):
    """What every schedule's formula tells."""

    @property
    def scales(self) -> bool:
        """True where the rate is `base` times a factor that does not depend on `base`."""

    def rate(self, base: Number, group: int) -> Expression | None:
        """The learning rate of a parameter group; None where no formula of the count gives it."""


def require(fits: bool, message: str) -> None:
    if not fits:
        raise UsageError(message)


@dataclass(frozen=True, slots=True)
class Constant:
    """The base rate, always."""

    scales: ClassVar[bool] = True

    def rate(self, base: Number, group: int) -> Expression:
        return base


@dataclass(frozen=True, slots=True)
class Held:
    """`factor` times the base until `steps`, then the base (torch ConstantLR).

    With `steps` 0 it never ends: torch multiplies by 1 / factor only on reaching `steps`.
    """

    factor: Number
    steps: int
    scales: ClassVar[bool] = True

    def rate(self, base: Number, group: int) -> Expression:
        if self.steps == 0:
            return base * self.factor
        return lookup(COUNT, (self.steps,), (base * self.factor, base))


@dataclass(frozen=True, slots=True)
class Linear:
    """From `start` to `end` (factors) over `steps`, then `end` (torch LinearLR, closed form)."""

    start: Number
    end: Number
    steps: int
    scales: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(self.steps >= 0, f"a linear schedule has steps >= 0, found {self.steps}")

    def rate(self, base: Number, group: int) -> Expression:
        if self.steps == 0:
            return base * self.start
        done = minimum(COUNT, self.steps) / self.steps
        return base * (self.start + (self.end - self.start) * done)


@dataclass(frozen=True, slots=True)
class Exponential:
    """base * gamma ** ((count - begin) / steps) from `begin` on, never past `limit`.

    torch ExponentialLR (steps 1), optax `exponential_decay`, Keras `ExponentialDecay`. `limit` is a
    rate: a lower one where gamma < 1, else an upper one. A `staircase` goes in whole steps.
    """

    gamma: Number
    steps: Number = 1
    begin: int = 0
    limit: Number | None = None
    staircase: bool = False

    def __post_init__(self) -> None:
        require(self.steps > 0, f"an exponential schedule has steps > 0, found {self.steps}")

    @property
    def scales(self) -> bool:
        return self.limit is None

    def rate(self, base: Number, group: int) -> Expression:
        since = COUNT - self.begin
        if self.begin:
            since = maximum(since, 0)
        exponent = whole(since, self.steps) if self.staircase else since / self.steps
        rate = base * self.gamma**exponent
        if self.limit is None:
            return rate
        return maximum(rate, self.limit) if self.gamma < 1 else minimum(rate, self.limit)


@dataclass(frozen=True, slots=True)
class Step:
    """base * gamma ** floor(count / size) (torch StepLR)."""

    size: Number
    gamma: Number
    scales: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(self.size > 0, f"a step schedule has size > 0, found {self.size}")

    def rate(self, base: Number, group: int) -> Expression:
        return base * self.gamma ** whole(COUNT, self.size)


@dataclass(frozen=True, slots=True)
class MultiStep:
    """base * gamma ** (how many milestones are <= count) (torch MultiStepLR).

    `milestones` are (count, times): torch keeps a Counter, a milestone given twice counts twice.
    Milestones below 0 are never reached.
    """

    milestones: tuple[tuple[int, int], ...]
    gamma: Number
    scales: ClassVar[bool] = True

    def reached(self) -> tuple[tuple[int, int], ...]:
        """(count, how many milestones are <= count), ascending."""
        total = 0
        found = []
        for milestone, times in sorted(self.milestones):
            if milestone >= 0 and times > 0:
                total += times
                found.append((milestone, total))
        return tuple(found)

    def rate(self, base: Number, group: int) -> Expression:
        reached = self.reached()
        return lookup(
            COUNT,
            tuple([milestone for milestone, _ in reached]),
            (base, *[base * power(self.gamma, times) for _, times in reached]),
        )


def power(gamma: Number, times: int) -> Number:
    """gamma ** times, if float64 can hold it."""
    try:
        return float(gamma) ** times
    except OverflowError:
        raise UsageError(f"gamma {gamma} to the power {times} is beyond float64") from None


@dataclass(frozen=True, slots=True)
class Piecewise:
    """`factors[i]` times the base, i the number of `boundaries` (ascending) that are <= count.

    optax's convention; Keras' boundaries are the last counts of a value: one less.
    """

    boundaries: tuple[int, ...]
    factors: tuple[Number, ...]
    scales: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(
            len(self.factors) == len(self.boundaries) + 1
            and list(self.boundaries) == sorted(self.boundaries),
            f"a piecewise schedule has ascending boundaries and one factor more, found "
            f"{len(self.boundaries)} boundaries and {len(self.factors)} factors",
        )

    def rate(self, base: Number, group: int) -> Expression:
        return lookup(COUNT, self.boundaries, tuple([base * factor for factor in self.factors]))


@dataclass(frozen=True, slots=True)
class Polynomial:
    """(base - end) * (1 - c / steps) ** power + end for c = count - begin within 0 and `steps`.

    torch PolynomialLR (end 0), optax `polynomial_schedule`, Keras `PolynomialDecay`; `cycle` is
    Keras': steps is taken ceil(c / steps) times. With `steps` 0 it is constant, as in torch.
    """

    steps: int
    power: Number = 1.0
    end: Number = 0.0
    begin: int = 0
    cycle: bool = False

    def __post_init__(self) -> None:
        require(self.steps >= 0, f"a polynomial schedule has steps >= 0, found {self.steps}")

    @property
    def scales(self) -> bool:
        return self.end == 0

    def rate(self, base: Number, group: int) -> Expression:
        if self.steps == 0:
            return base
        since = COUNT - self.begin
        if self.begin:
            since = maximum(since, 0)
        length: Expression = self.steps
        if self.cycle:
            length = self.steps * maximum(ceil(since / self.steps), 1)
        # not 1 - since / length, which compiled code may round below 0
        left = (length - minimum(since, length)) / length
        return (base - self.end) * left**self.power + self.end
