"""Canonical optimizers: their algorithms, slots and hyperparameters, in no framework's words.

Units. A momentum is kept in gradient units, with the learning rate outside of it. Moments are not
bias-corrected. A step count is the number of updates a parameter has had.

Forms. Frameworks that agree on the name of an algorithm may differ in where epsilon stands, what
weight decay is added to, or where the maximum of AMSGrad is taken; those choices are hyperparameters
here, so that two records with equal hyperparameters have equal trajectories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from portackpt.tensor import Tensor


class Algorithm(StrEnum):
    SGD = "sgd"
    ADAM = "adam"
    ADAMAX = "adamax"
    NADAM = "nadam"
    RADAM = "radam"
    RMSPROP = "rmsprop"
    ADAGRAD = "adagrad"
    ADADELTA = "adadelta"
    ADAFACTOR = "adafactor"
    LION = "lion"
    LAMB = "lamb"
    MUON = "muon"
    RPROP = "rprop"
    LBFGS = "lbfgs"
    ASGD = "asgd"
    FTRL = "ftrl"
    SCHEDULE_FREE = "schedule_free_adamw"


class Decay(StrEnum):
    """What weight decay is."""

    NONE = "none"
    L2 = "l2"
    """added to the gradient, before the moments see it"""
    DECOUPLED = "decoupled"
    """subtracted from the parameter, times the learning rate"""


class Epsilon(StrEnum):
    """Where epsilon stands, for v the second moment and c = 1 - beta2**t its bias correction."""

    OUTSIDE = "outside"
    """sqrt(v / c) + eps: torch and optax Adam (Kingma & Ba 2015, algorithm 1)"""
    HAT = "hat"
    """sqrt(v) + eps, the correction moved into the step: Keras Adam (ibid., end of section 2)"""
    INSIDE = "inside"
    """sqrt(v + eps): Keras and optax RMSprop and Adagrad, every Adadelta"""


class Slot(StrEnum):
    """Names of slots: one array a parameter, in the units above."""

    MOMENTUM = "momentum"
    FIRST_MOMENT = "first_moment"
    SECOND_MOMENT = "second_moment"
    MAX_SECOND_MOMENT = "max_second_moment"
    INFINITY_NORM = "infinity_norm"
    MEAN_GRADIENT = "mean_gradient"
    SUM_OF_SQUARES = "sum_of_squares"
    MEAN_SQUARED_UPDATE = "mean_squared_update"
    ROW_MOMENT = "row_moment"
    COLUMN_MOMENT = "column_moment"
    MOMENTUM_PRODUCT = "momentum_product"
    PREVIOUS_SIGN = "previous_sign"
    STEP_SIZE = "step_size"
    LINEAR = "linear"
    ANCHOR = "anchor"
    AVERAGE = "average"


@dataclass(frozen=True, slots=True)
class Origin:
    """A value with the path of the source leaf that it was read from."""

    path: str
    value: Any


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters (by FQN) that share hyperparameters.

    `hyperparameters` by canonical name: `lr`, `momentum`, `nesterov`, `dampening`, `beta1`,
    `beta2`, `eps`, `eps_form`, `weight_decay`, `decay`, `amsgrad`, `rho`, `centered`, … as plain
    numbers and the enumerations above. `native` are the group's options that have no meaning for the
    algorithm (`foreach`, `fused`, …).
    """

    parameters: tuple[str, ...]
    hyperparameters: Mapping[str, Any]
    native: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Optimizer:
    """One optimizer at one moment of a run.

    `slots` by FQN and slot name; `steps` by FQN (a parameter that never had a gradient has neither).
    `consumed` are the source leaves that were read into this record besides the slots, with what
    they became; `assumptions` sentences on what was taken from evidence.
    """

    name: str
    algorithm: Algorithm
    groups: tuple[Group, ...]
    slots: Mapping[str, Mapping[Slot, Origin]]
    steps: Mapping[str, int]
    consumed: tuple[tuple[str, str], ...] = ()
    assumptions: tuple[str, ...] = ()

    @property
    def step(self) -> int | None:
        """The one step count of all parameters; None where they differ or there is none."""
        counts = set(self.steps.values())
        return counts.pop() if len(counts) == 1 else None

    def slot(self, parameter: str, slot: Slot) -> Tensor | None:
        found = self.slots.get(parameter, {}).get(slot)
        return None if found is None else found.value
