"""Keras' optimizer classes: their algorithms, the order of their variables, their options.

Variables are iteration, learning_rate (unless it is a schedule), `average` and
`gradient_accumulator` of each parameter where used, then slots: one parameter after the other
(`each`), and blocks of all parameters (`blocks`, by the option that asks for them).

Source: keras/src/optimizers/*.py (3.15).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portackpt.optimizers import Algorithm, Decay, Epsilon, Group, Slot


@dataclass(frozen=True, slots=True)
class Class:
    """One class. `forms` are hyperparameters that it fixes; `extra` scalars follow the slots."""

    algorithm: Algorithm
    each: tuple[Slot, ...] = ()
    blocks: tuple[tuple[str, Slot], ...] = ()
    forms: Mapping[str, Any] = field(default_factory=dict)
    extra: int = 0


_MOMENTS = (Slot.FIRST_MOMENT, Slot.SECOND_MOMENT)
_HAT = {"eps_form": Epsilon.HAT}
_INSIDE = {"eps_form": Epsilon.INSIDE}
_AMSGRAD = (("amsgrad", Slot.MAX_SECOND_MOMENT),)
_IN_MOMENTUM = {"lr_in_momentum": True}
CLASSES: Mapping[str, Class] = {
    "sgd": Class(Algorithm.SGD, (), (("momentum", Slot.MOMENTUM),), _IN_MOMENTUM),
    "adam": Class(Algorithm.ADAM, _MOMENTS, _AMSGRAD, _HAT),
    "adamw": Class(Algorithm.ADAM, _MOMENTS, _AMSGRAD, _HAT),
    "adamax": Class(Algorithm.ADAMAX, (Slot.FIRST_MOMENT, Slot.INFINITY_NORM), (),
                    {"eps_form": Epsilon.OUTSIDE}),
    "nadam": Class(Algorithm.NADAM, _MOMENTS, (), {**_HAT, "momentum_decay": 1.0}, 1),
    "rmsprop": Class(
        Algorithm.RMSPROP, (),
        (("", Slot.SECOND_MOMENT), ("momentum", Slot.MOMENTUM), ("centered", Slot.MEAN_GRADIENT)),
        {**_INSIDE, **_IN_MOMENTUM},
    ),
    "adagrad": Class(Algorithm.ADAGRAD, (Slot.SUM_OF_SQUARES,), (), _INSIDE),
    "adadelta": Class(Algorithm.ADADELTA, (Slot.SECOND_MOMENT, Slot.MEAN_SQUARED_UPDATE), (),
                      _INSIDE),
    "adafactor": Class(Algorithm.ADAFACTOR,
                       (Slot.ROW_MOMENT, Slot.COLUMN_MOMENT, Slot.SECOND_MOMENT), (),
                       {"factored_axes": "last_two"}),
    "lion": Class(Algorithm.LION, (Slot.FIRST_MOMENT,)),
    "lamb": Class(Algorithm.LAMB, _MOMENTS, (), {"eps_form": Epsilon.OUTSIDE}),
    "muon": Class(Algorithm.MUON, (), (), {"momentum_form": "heavy_ball"}),
    "ftrl": Class(Algorithm.FTRL, (Slot.SUM_OF_SQUARES, Slot.LINEAR)),
    "schedulefreeadamw": Class(Algorithm.SCHEDULE_FREE, (Slot.ANCHOR, Slot.SECOND_MOMENT)),
}  # fmt: skip
_NAMES = {
    "lr": "lr", "learning_rate": "lr", "beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps",
    "beta_2_decay": "beta2_decay", "epsilon_1": "eps1", "epsilon_2": "eps2",
    "initial_accumulator_value": "initial_accumulator", "rho": "rho", "momentum": "momentum",
    "decay": "lr_decay", "nesterov": "nesterov", "centered": "centered",
    "weight_decay": "weight_decay",
    "clip_threshold": "clip_threshold", "relative_step": "relative_step", "ns_steps": "ns_steps",
}  # fmt: skip
WRAPPER = "lossscaleoptimizer"


def normal(name: str) -> str:
    """`AdamW`, `adam_w` and `adam_w_3` as `adamw`; `Keras>Adam` as `adam`."""
    return re.sub(r"_\d+$", "", name.rpartition(">")[2].lower()).replace("_", "")


def group(name: str, config: Mapping[str, Any] | None, parameters: tuple[str, ...]) -> Group:
    """The one group of a Keras optimizer, out of its configuration (None: there is none)."""
    known: dict[str, Any] = {}
    native: dict[str, Any] = {}
    for option, value in (config or {}).items():
        if isinstance(value, Mapping):
            continue  # a schedule, or an optimizer inside
        if option == "amsgrad":
            known["amsgrad"] = "uncorrected" if value else None
        elif option in _NAMES:
            known[_NAMES[option]] = value
        else:
            native[option] = value
    decayed = name in ("adamw", "schedulefreeadamw") or known.get("weight_decay") is not None
    known["decay"] = Decay.DECOUPLED if decayed else Decay.NONE
    known |= CLASSES[name].forms if name in CLASSES else {}
    return Group(parameters, known, native)
