"""The schedule that watches a metric: reduce on plateau."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from portackpt.schedules.expression import Expression, Number
from portackpt.schedules.forms import require


@dataclass(frozen=True, slots=True)
class PlateauState:
    """What a plateau schedule remembers: the best metric, how many were not better since, and how
    many observations of the cooldown are left."""

    best: Number
    bad: int = 0
    cooldown: int = 0


@dataclass(frozen=True, slots=True)
class Plateau:
    """Multiply the rate by `factor` after more than `patience` observations without improvement.

    torch ReduceLROnPlateau. optax' `reduce_on_plateau` and Keras' callback reduce after `patience`,
    one earlier; Keras also counts the cooldown one shorter. `smallest` are the lowest rates of each
    group; a change of `eps` or less is not made.
    """

    factor: Number
    patience: int
    threshold: Number = 1e-4
    relative: bool = True
    maximize: bool = False
    cooldown: int = 0
    smallest: tuple[Number, ...] = (0,)
    eps: Number = 1e-8
    scales: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self.factor < 1, f"a plateau schedule has a factor < 1, found {self.factor}")

    def rate(self, base: Number, group: int) -> Expression | None:
        return None

    @property
    def start(self) -> PlateauState:
        return PlateauState(-math.inf if self.maximize else math.inf)

    def improves(self, metric: float, best: Number) -> bool:
        """torch `_is_better`, with its rounding."""
        if self.maximize:
            limit = best * (self.threshold + 1.0) if self.relative else best + self.threshold
            return metric > limit
        limit = best * (1.0 - self.threshold) if self.relative else best - self.threshold
        return metric < limit


def observe(
    plateau: Plateau, state: PlateauState, rates: tuple[Number, ...], metric: float
) -> tuple[PlateauState, tuple[Number, ...]]:
    """The state and the rates after one more metric (torch ReduceLROnPlateau.step)."""
    better = plateau.improves(metric, state.best)
    best = metric if better else state.best
    bad = 0 if better else state.bad + 1
    cooldown = state.cooldown
    if cooldown > 0:
        cooldown, bad = cooldown - 1, 0
    if bad <= plateau.patience:
        return PlateauState(best, bad, cooldown), rates
    lowered = tuple(
        [
            _lowered(float(rate), plateau, plateau.smallest[min(i, len(plateau.smallest) - 1)])
            for i, rate in enumerate(rates)
        ]
    )
    return PlateauState(best, 0, plateau.cooldown), lowered


def _lowered(rate: float, plateau: Plateau, smallest: Number) -> Number:
    new = max(rate * plateau.factor, smallest)
    return new if rate - new > plateau.eps else rate
