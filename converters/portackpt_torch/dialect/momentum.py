"""Momenta that carry the learning rate, as torch keeps momenta."""

from __future__ import annotations

from portackpt.elementwise import computed, scaled
from portackpt.errors import UsageError
from portackpt.ledger import Fate
from portackpt.moved import Moved
from portackpt.optimizers import Group
from portackpt_torch.dialect.drafts import (
    EXACT,
)


def signed(moved: Moved, group: Group) -> Moved:
    """A momentum that carries the learning rate, as what is subtracted from the parameter."""
    if group.hyperparameters.get("momentum_sign", 1) == 1:
        return moved
    negated = computed(lambda array: -array, moved.value)
    return moved.then(negated, Fate.EQUIVALENT, "negated", tolerance=0.0)


def unrated(moved: Moved, group: Group) -> Moved:
    """A momentum that carried the learning rate, in gradient units."""
    rate = group.hyperparameters["lr"] * group.hyperparameters.get("momentum_sign", 1)
    if rate == 0:
        raise UsageError("the momentum carries a learning rate of 0: nothing is left of it")
    told = f"divided by {rate!r}: torch's momentum is without the learning rate"
    return moved.then(scaled(moved.value, 1 / rate), Fate.EQUIVALENT, told, tolerance=EXACT)
