"""Canonical optimizers: their algorithms, slots and hyperparameters, in no framework's words.

Units. A momentum is kept in gradient units, with the learning rate outside of it. Moments are not
bias-corrected. A step count is the number of updates that a parameter has had.

Forms. Frameworks that agree on the name of an algorithm may differ in where epsilon stands, what
weight decay is added to, or where the maximum of AMSGrad is taken; those choices are hyperparameters
here, so that two records with equal hyperparameters and slots have equal trajectories. With g the
gradient, p the parameter, t the step count after the update, m and v the moments:

| algorithm | update | hyperparameters | slots |
|---|---|---|---|
| all | with decay L2: g += wd p; DECOUPLED: p -= lr wd p (`decay_first`: before the step) | lr, weight_decay, decay, maximize | |
| sgd | b = mu b + (1 - dampening) g (first step: b = g); p -= lr (g + mu b if nesterov else b) | momentum, dampening, nesterov, lr_in_momentum | momentum |
| adam | m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; p -= lr m/(1-b1^t) / den(v) | beta1, beta2, eps, eps_form, amsgrad | first_moment, second_moment, max_second_moment |
| adamax | u = max(b2 u, abs(g) + eps) (IN_MAX) or max(b2 u, abs(g)), + eps outside | beta1, beta2, eps, eps_form | first_moment, infinity_norm |
| nadam | mu_t = b1 (1 - 0.96^(t momentum_decay) / 2); None: mu_t = b1 | beta1, beta2, eps, eps_form, momentum_decay | first_moment, second_moment, momentum_product |
| radam | rectified when rho_t > threshold | beta1, beta2, eps, eps_form, threshold | first_moment, second_moment |
| rmsprop | v = rho v + (1-rho) g^2; centered: v - gbar^2; b = mu b + g/den; p -= lr b | rho, eps, eps_form, centered, momentum, nesterov, lr_in_momentum | second_moment, mean_gradient, momentum |
| adagrad | s += g^2; p -= lr/(1 + (t-1) lr_decay) g/den(s) | eps, eps_form, lr_decay, initial_accumulator | sum_of_squares |
| adadelta | v, d = means of g^2 and of squared updates; p -= lr sqrt(d+eps)/sqrt(v+eps) g | rho, eps | second_moment, mean_squared_update |
| adafactor | factored second moment (Shazeer & Stern 2018) | beta2_decay, eps1, eps2, clip_threshold, relative_step, factored_axes, eps1_form | row_moment, column_moment, second_moment |
| lion | p -= lr sign(b1 m + (1-b1) g); m = b2 m + (1-b2) g | beta1, beta2 | first_moment |
| lamb | adam step times the trust ratio norm(p) / norm(step) | beta1, beta2, eps, eps_form, decay_in_ratio | first_moment, second_moment |
| muon | orthogonalized momentum | momentum, momentum_form (`ema`, `heavy_ball`), nesterov, ns_steps, ns_coefficients, ns_dtype, lr_scale, eps | momentum |
| rprop | | eta_minus, eta_plus, step_min, step_max | previous_sign, step_size |
| asgd | | lambd, alpha, t0 | anchor |
| ftrl | | learning_rate_power, initial_accumulator, l1, l2, l2_shrinkage, beta | sum_of_squares, linear |
| schedule_free_adamw | | beta1, beta2, eps, warmup_steps, weight_lr_power | anchor, second_moment |
| lbfgs | state of the whole: `state` holds its native leaves | | |

`amsgrad` is None, `uncorrected` (torch, Keras: the maximum of v) or `corrected` (optax: of the
bias-corrected v). `lr_in_momentum` is True for Keras' SGD and RMSprop and optax' rmsprop, whose buffer
carries the learning rate of each step; the momentum here is then that buffer over the last learning
rate (sign so that it points along the gradient), exact while the rate stays, and `last_lr` is kept.
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

    `hyperparameters` by the canonical names above, as plain numbers and enumerations; what the
    source does not say is absent (a JAX checkpoint names no hyperparameters at all). `native` are
    the group's options without meaning for the algorithm (`foreach`, `fused`, …).
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
