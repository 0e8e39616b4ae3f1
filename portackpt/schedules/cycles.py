"""Schedules that move a momentum with the learning rate: one cycle, and cyclic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from portackpt.schedules.curves import Interpolated, between
from portackpt.schedules.expression import (
    COUNT,
    Expression,
    Number,
    at_most,
    minimum,
    named,
    where,
    whole,
)
from portackpt.schedules.forms import require


@dataclass(frozen=True, slots=True)
class Momentum:
    """The momentum (or with `beta` the first beta) of each group, between `low` and `high`."""

    low: tuple[Number, ...]
    high: tuple[Number, ...]
    beta: bool = False

    def __post_init__(self) -> None:
        require(len(self.low) == len(self.high), "every group has a lowest and a highest momentum")


class CoSchedule(Protocol):
    """A form that also says what the momentum is."""

    @property
    def momentum(self) -> Momentum | None: ...

    def momentum_rate(self, group: int) -> Expression | None: ...


@dataclass(frozen=True, slots=True)
class OneCycle:
    """Up to `peaks`, down to `finals` (rates of each group), along `curve` (torch OneCycleLR).

    `ends` are the last counts of the two phases, or of three (up, back to the base, down to the
    final rate). torch puts them at pct * total - 1 (a float) and total - 1, one before optax'
    `cosine_onecycle_schedule`. At count = total, the last that torch allows, it extrapolates.
    """

    total: int
    ends: tuple[Number, ...]
    peaks: tuple[Number, ...]
    finals: tuple[Number, ...]
    curve: str = "cosine"
    momentum: Momentum | None = None
    scales: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self.curve in ("linear", "cosine"), f"unknown annealing {self.curve!r}")
        require(
            len(self.ends) in (2, 3),
            f"one cycle has two or three phases, found {len(self.ends)}",
        )
        require(len(self.peaks) == len(self.finals), "every group has a peak and a final rate")

    def interpolated(self, base: Number, group: int) -> Interpolated | None:
        """The same as an interpolation of factors; None where a phase is shorter than a count."""
        starts = (0, *self.ends)
        if base == 0 or any(b - a < 1 for a, b in zip(starts, self.ends, strict=False)):
            return None
        rates = self._corners(base, self.peaks[group], self.finals[group])
        return Interpolated(self.ends, tuple([rate / base for rate in rates]), self.curve)

    def rate(self, base: Number, group: int) -> Expression:
        return self._phases(self._corners(base, self.peaks[group], self.finals[group]))

    def momentum_rate(self, group: int) -> Expression | None:
        if self.momentum is None:
            return None
        low, high = self.momentum.low[group], self.momentum.high[group]
        return self._phases(self._corners(high, low, high))

    def _corners(self, base: Number, peak: Number, final: Number) -> tuple[Number, ...]:
        return (base, peak, final) if len(self.ends) == 2 else (base, peak, base, final)

    def _phases(self, corners: tuple[Number, ...]) -> Expression:
        # as torch's get_lr: a phase starts where the one before ended, the first at 0
        starts = (0, *self.ends)
        result: Expression | None = None
        for i in reversed(range(len(self.ends))):
            length = self.ends[i] - starts[i]
            if length == 0:
                segment: Expression = corners[i + 1]
            else:
                done = (minimum(COUNT, self.total) - starts[i]) / length
                segment = between(corners[i], corners[i + 1], done,
                                  self.curve)  # fmt: skip
            result = (
                segment if result is None else where(at_most(COUNT, self.ends[i]), segment, result)
            )
        if result is None:
            raise AssertionError("one cycle has phases")
        return result


@dataclass(frozen=True, slots=True)
class Cyclic:
    """Up from the base to `highs` and down again, every `size` counts (torch CyclicLR).

    The way up takes the fraction `up` of the cycle. `mode` scales the height: `triangular` not at
    all, `triangular2` by half each cycle, `exp_range` by gamma ** count. arXiv:1506.01186.
    """

    size: Number
    up: Number
    highs: tuple[Number, ...]
    mode: str = "triangular"
    gamma: Number = 1.0
    momentum: Momentum | None = None
    scales: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self.mode in MODES, f"unknown mode of a cyclic schedule: {self.mode!r}")
        require(self.size > 0, f"a cycle has a length > 0, found {self.size}")
        require(0 < self.up <= 1, f"the way up takes a fraction within 0 and 1, found {self.up}")

    def rate(self, base: Number, group: int) -> Expression:
        return base + (self.highs[group] - base) * self._height()

    def momentum_rate(self, group: int) -> Expression | None:
        if self.momentum is None:
            return None
        low, high = self.momentum.low[group], self.momentum.high[group]
        return high - (high - low) * self._height()

    def _height(self) -> Expression:
        # torch: cycle = floor(1 + c / size), done = 1 + c / size - cycle, which cancels in float32
        cycle = named("cycle", 1 + whole(COUNT, self.size))
        done = named("done", COUNT % self.size / self.size)
        height: Expression = done / self.up
        if self.up < 1:
            height = where(at_most(done, self.up), height, (done - 1) / (self.up - 1))
        if self.mode == "triangular2":
            return height * 0.5 ** (cycle - 1)
        if self.mode == "exp_range":
            return height * self.gamma**COUNT
        return height


MODES = ("triangular", "triangular2", "exp_range")
