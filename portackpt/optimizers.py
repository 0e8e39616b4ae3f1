"""Canonical optimizers: their algorithms, slots and hyperparameters, in no framework's words.

Units. A momentum is kept in gradient units, with the learning rate outside of it. Moments are not
bias-corrected. A step count is the number of updates that a parameter has had.

Forms. Frameworks that agree on the name of an algorithm may differ in where epsilon stands, what
weight decay is added to, or where the maximum of AMSGrad is taken. Those choices are
hyperparameters here: two records with equal hyperparameters and slots have equal trajectories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Algorithm(StrEnum):
    """Algorithms, with g the gradient, p the parameter, t the step count after the update.

    Every one has `lr`, `weight_decay` (a number), `decay` (`Decay`) and `maximize`; with
    `decay_first`, decoupled decay is taken before the step, else with it.
    """

    SGD = "sgd"
    """b = mu b + (1 - dampening) g, at the first step b = g; p -= lr (g + mu b if nesterov else b).
    `momentum` (mu), `dampening`, `nesterov`, `lr_in_momentum`. Slot: momentum (b)."""
    ADAM = "adam"
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= lr m / (1 - b1^t) / den(v).
    `beta1`, `beta2`, `eps`, `eps_form`, `amsgrad`: None, `uncorrected` (the maximum of v: torch,
    Keras) or `corrected` (of v / (1 - b2^t): optax). Slots: first, second, max second moment."""
    ADAMAX = "adamax"
    """u = max(b2 u, |g| + eps) (`IN_MAX`), or eps outside. Slots: first moment, infinity norm."""
    NADAM = "nadam"
    """Adam with mu_t = b1 (1 - 0.96^(t momentum_decay) / 2); `momentum_decay` None: mu_t = b1.
    Slots: first and second moment, momentum product (of all mu_t so far)."""
    RADAM = "radam"
    """Adam, rectified where rho_t > `threshold` (torch) or >= (optax: `threshold_inclusive`)."""
    RMSPROP = "rmsprop"
    """v = rho v + (1 - rho) g^2; b = mu b + g / den(v - gbar^2 if centered else v); p -= lr b.
    `rho`, `eps`, `eps_form`, `centered`, `momentum`, `nesterov`, `lr_in_momentum`. Slots: second
    moment, mean gradient (gbar), momentum (b)."""
    ADAGRAD = "adagrad"
    """s += g^2; p -= lr / (1 + (t - 1) lr_decay) g / den(s). `eps`, `eps_form`, `lr_decay`,
    `initial_accumulator`. Slot: sum of squares."""
    ADADELTA = "adadelta"
    """`rho`, `eps`. Slots: second moment, mean squared update."""
    ADAFACTOR = "adafactor"
    """Shazeer & Stern 2018. `beta2_decay`, `eps1`, `eps1_form`, `eps2`, `clip_threshold`,
    `relative_step`, `factored_axes` (`last_two` or `largest_two`). Slots: row and column moment,
    each with the factored axis left out; second moment where not factored."""
    LION = "lion"
    """p -= lr sign(b1 m + (1 - b1) g); m = b2 m + (1 - b2) g. Slot: first moment."""
    LAMB = "lamb"
    """Adam's step times norm(p) / norm(step); `decay_in_ratio`: decay is part of that step."""
    MUON = "muon"
    """`momentum`, `momentum_form` (`ema`, `heavy_ball`), `nesterov` (None, `plain`, `corrected`),
    `ns_steps`, `ns_coefficients`, `ns_dtype`, `lr_scale`, `eps`. Slot: momentum, as an EMA."""
    RPROP = "rprop"
    """`eta_minus`, `eta_plus`, `step_min`, `step_max`. Slots: previous sign, step size."""
    LBFGS = "lbfgs"
    ASGD = "asgd"
    FTRL = "ftrl"
    SCHEDULE_FREE = "schedule_free_adamw"
    """Defazio et al. 2024. Slots: anchor (z), second moment."""


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
    IN_MAX = "in_max"
    """max(b2 u, abs(g) + eps): torch and optax Adamax"""


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

    With `lr_in_momentum` the source's buffer carried the learning rate of each step (Keras' SGD and
    RMSprop, optax' rmsprop), and the slot is that buffer as it stands: lr * b * `momentum_sign`,
    which is -1 where the buffer is added to the parameter (Keras' SGD, optax' rmsprop), and 1 where
    it is subtracted (Keras' RMSprop).

    `hyperparameters` by the canonical names above, as plain numbers and enumerations; what the
    source does not say is absent (a JAX checkpoint names hardly any), `decay` among them. `native`
    are the group's options without meaning for the algorithm (`foreach`, `fused`, …).
    """

    parameters: tuple[str, ...]
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    native: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Optimizer:
    """One optimizer at one moment of a run, as far as its checkpoint tells.

    `algorithms` are those that fit: several where the checkpoint does not settle it, none where no
    known one does; `ambiguity` then says why and which flag settles it. `slots` by FQN and slot
    name (a name of the framework's where the canonical one is not known); `step` the count of
    updates of the first parameter, `counts` every leaf that holds such a count (by path: all of one
    optimizer that has one count, or by FQN those of single parameters); `rates` leaves that hold
    the learning rate; `assumptions` sentences on what was taken from evidence.
    """

    name: str
    algorithms: tuple[Algorithm, ...]
    groups: tuple[Group, ...]
    slots: Mapping[str, Mapping[str, Origin]]
    step: int | None = None
    ambiguity: str = ""
    assumptions: tuple[str, ...] = ()
    counts: Mapping[str, Origin] = field(default_factory=dict)
    rates: tuple[Origin, ...] = ()

    @property
    def title(self) -> str | None:
        """The everyday name (`adamw`: Adam with decoupled decay), or those that fit."""
        names: list[str] = []
        decays = {group.hyperparameters.get("decay") for group in self.groups}
        for algorithm in self.algorithms:
            if algorithm is not Algorithm.ADAM or decays <= {Decay.NONE, Decay.L2}:
                names.append(str(algorithm))
            elif None not in decays:
                names.append("adamw")
            else:
                names += ["adam", "adamw"]
        return " or ".join(names) or None
