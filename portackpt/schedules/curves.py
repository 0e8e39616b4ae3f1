"""Schedules of one formula: cosines, interpolations, inverse powers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from portackpt.schedules.expression import (
    COUNT,
    PI,
    Expression,
    Number,
    cos,
    less,
    lookup,
    maximum,
    minimum,
    named,
    where,
    whole,
)
from portackpt.schedules.forms import require


class After(StrEnum):
    """What a schedule does past its end."""

    CLAMP = "clamp"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class Cosine:
    """floor + (base - floor) * ((1 + cos(pi * count / steps)) / 2) ** exponent.

    torch CosineAnnealingLR goes on with the cosine past `steps` and rises again; optax and Keras
    clamp. `exponent` is optax' (of `cosine_decay_schedule`).
    """

    steps: Number
    floor: Number = 0.0
    after: After = After.CONTINUE
    exponent: Number = 1

    def __post_init__(self) -> None:
        require(self.steps > 0, f"a cosine schedule has steps > 0, found {self.steps}")

    @property
    def scales(self) -> bool:
        return self.floor == 0

    def rate(self, base: Number, group: int) -> Expression:
        count: Expression = minimum(COUNT, self.steps)
        if self.after is After.CONTINUE:
            # count itself, brought between 0 and steps: pi * count would round in float32
            phase = named("phase", COUNT % (2 * self.steps))
            count = minimum(phase, 2 * self.steps - phase)
        wave = (1 + cos(PI * count / self.steps)) / 2
        return self.floor + (base - self.floor) * wave**self.exponent


LAST_COUNT = 1 << 31
"""Restarts are listed up to here."""
MAX_RESTARTS = 4096


@dataclass(frozen=True, slots=True)
class WarmRestarts:
    """Cosines from the base to `floor`, each `growth` times as long (SGDR, arXiv:1608.03983).

    torch CosineAnnealingWarmRestarts, Keras CosineDecayRestarts (where each also starts `shrink`
    times as high).
    """

    first: Number
    growth: Number = 1
    floor: Number = 0.0
    shrink: Number = 1

    def __post_init__(self) -> None:
        require(self.first > 0, f"the first cycle has a length > 0, found {self.first}")
        require(self.growth >= 1, f"cycles grow by a factor >= 1, found {self.growth}")

    @property
    def scales(self) -> bool:
        return self.floor == 0

    def restarts(self) -> tuple[Number, ...]:
        """The counts at which a cycle starts, without 0; for cycles that grow."""
        found: list[Number] = []
        start, length = self.first, self.first
        while start < LAST_COUNT and len(found) < MAX_RESTARTS:
            found.append(start)
            length = length * self.growth
            start = start + length
        require(
            start >= LAST_COUNT,
            f"cycles that grow by {self.growth} restart more than {MAX_RESTARTS} times",
        )
        return tuple(found)

    def rate(self, base: Number, group: int) -> Expression:
        if self.growth == 1:
            done = COUNT % self.first / self.first
            height: Expression = self.shrink ** whole(COUNT, self.first) if self.shrink != 1 else 1
        else:
            starts = (0, *self.restarts())
            begin = named("begin", lookup(COUNT, starts[1:], starts))
            length = begin * (self.growth - 1) + self.first
            done = (COUNT - begin) / length
            heights = [self.shrink**i for i in range(len(starts))]
            height = 1 if self.shrink == 1 else lookup(COUNT, starts[1:], tuple(heights))
        wave = height * ((1 + cos(PI * done)) / 2)
        return self.floor + (base - self.floor) * wave


@dataclass(frozen=True, slots=True)
class Interpolated:
    """From one factor to the next, linearly or along half a cosine, between `boundaries`.

    `factors` are those at 0 and at each boundary (ascending, floats too); the last stays. optax
    `piecewise_interpolate_schedule`, and (linear) Hugging Face's warm-up and decay.
    """

    boundaries: tuple[Number, ...]
    factors: tuple[Number, ...]
    curve: str = "linear"
    scales: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(self.curve in ("linear", "cosine"), f"unknown interpolation {self.curve!r}")
        require(
            len(self.factors) == len(self.boundaries) + 1
            and list(self.boundaries) == sorted({*self.boundaries})
            and all(boundary > 0 for boundary in self.boundaries),
            f"an interpolated schedule has ascending boundaries > 0 and one factor more, found "
            f"{self.boundaries} and {len(self.factors)} factors",
        )

    def rate(self, base: Number, group: int) -> Expression:
        starts = (0, *self.boundaries)
        rate: Expression = base * self.factors[-1]
        for i in reversed(range(len(self.boundaries))):
            done = (COUNT - starts[i]) / (starts[i + 1] - starts[i])
            segment = between(base * self.factors[i], base * self.factors[i + 1], done, self.curve)
            rate = where(less(COUNT, starts[i + 1]), segment, rate)
        return rate


def between(start: Number, end: Number, done: Expression, curve: str) -> Expression:
    """From `start` to `end` as `done` goes from 0 to 1."""
    if curve == "linear":
        return start + (end - start) * done
    return end + (start - end) / 2 * (1 + cos(PI * done))


@dataclass(frozen=True, slots=True)
class InverseTime:
    """base / (1 + decay * count / steps) (Keras InverseTimeDecay); `staircase`: in whole steps."""

    steps: Number
    decay: Number
    staircase: bool = False
    scales: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(self.steps > 0, f"an inverse-time schedule has steps > 0, found {self.steps}")

    def rate(self, base: Number, group: int) -> Expression:
        done = whole(COUNT, self.steps) if self.staircase else COUNT / self.steps
        return base / (1 + self.decay * done)


@dataclass(frozen=True, slots=True)
class InverseSqrt:
    """Linear warm-up to the base, then base / sqrt((count - warmup + timescale) / timescale).

    Hugging Face `get_inverse_sqrt_schedule`; with timescale = warmup that of T5 and fairseq.
    """

    warmup: int
    timescale: Number
    scales: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(self.timescale > 0, f"the timescale is > 0, found {self.timescale}")

    def rate(self, base: Number, group: int) -> Expression:
        ahead = self.timescale - self.warmup
        decay = base / ((maximum(COUNT, self.warmup) + ahead) / self.timescale) ** 0.5
        if self.warmup == 0:
            return decay
        return where(less(COUNT, self.warmup), base * (COUNT / self.warmup), decay)
