"""Slots by their names: TF1's and TF2's slot variables, and legacy Keras files.

    TF1           dense/kernel/Adam       dense/kernel/Adam_1       dense/kernel/Adagrad
    TF2, Keras 2  optimizer/.OPTIMIZER_SLOT/m/dense/kernel
    .h5           Adam/dense/kernel/m:0 (Keras 2)      adam/dense_kernel_momentum (Keras 3)

Source: tensorflow/python/training/*.py, keras/optimizers/optimizer_v2/*.py (2.4).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from portackpt.optimizers import Algorithm, Slot
from portackpt_keras.dialect.optimizer_classes import CLASSES

SLOT = "/.OPTIMIZER_SLOT/"
# suffixes of one algorithm: all that a checkpoint has are among them, the first is always there
TF1: tuple[tuple[Algorithm, Mapping[str, Slot]], ...] = (
    (Algorithm.ADAM, {"Adam": Slot.FIRST_MOMENT, "Adam_1": Slot.SECOND_MOMENT}),
    (Algorithm.ADAM, {"adam_m": Slot.FIRST_MOMENT, "adam_v": Slot.SECOND_MOMENT}),
    (Algorithm.SGD, {"Momentum": Slot.MOMENTUM}),
    (Algorithm.ADAGRAD, {"Adagrad": Slot.SUM_OF_SQUARES}),
    (Algorithm.RMSPROP, {"RMSProp_2": Slot.MOMENTUM, "RMSProp": Slot.SECOND_MOMENT,
                         "RMSProp_1": Slot.MEAN_GRADIENT}),
    (Algorithm.RMSPROP, {"RMSProp": Slot.SECOND_MOMENT, "RMSProp_1": Slot.MOMENTUM}),
    (Algorithm.ADADELTA, {"Adadelta": Slot.SECOND_MOMENT, "Adadelta_1": Slot.MEAN_SQUARED_UPDATE}),
    (Algorithm.FTRL, {"Ftrl": Slot.SUM_OF_SQUARES, "Ftrl_1": Slot.LINEAR}),
)  # fmt: skip
AVERAGE = "ExponentialMovingAverage"
TF2: tuple[tuple[tuple[Algorithm, ...], Mapping[str, Slot]], ...] = (
    ((Algorithm.ADAM, Algorithm.ADAMAX, Algorithm.NADAM),
     {"m": Slot.FIRST_MOMENT, "v": Slot.SECOND_MOMENT, "vhat": Slot.MAX_SECOND_MOMENT}),
    ((Algorithm.RMSPROP,),
     {"rms": Slot.SECOND_MOMENT, "mg": Slot.MEAN_GRADIENT, "momentum": Slot.MOMENTUM}),
    ((Algorithm.SGD,), {"momentum": Slot.MOMENTUM}),
    ((Algorithm.FTRL,), {"linear": Slot.LINEAR, "accumulator": Slot.SUM_OF_SQUARES}),
    ((Algorithm.ADAGRAD,), {"accumulator": Slot.SUM_OF_SQUARES}),
    ((Algorithm.ADADELTA,),
     {"accum_grad": Slot.SECOND_MOMENT, "accum_var": Slot.MEAN_SQUARED_UPDATE}),
)  # fmt: skip
# legacy .h5 files: the last part of a name, after "/" (Keras 2) or "_" (Keras 3)
H5_SUFFIXES: Mapping[str, Slot] = {
    "velocity_hat": Slot.MAX_SECOND_MOMENT,
    "average_gradient": Slot.MEAN_GRADIENT,
    "accumulated_grad": Slot.SECOND_MOMENT,
    "accumulated_delta_var": Slot.MEAN_SQUARED_UPDATE,
    "average": Slot.AVERAGE,
    "momentum": Slot.FIRST_MOMENT,
    "velocity": Slot.SECOND_MOMENT,
    "norm": Slot.INFINITY_NORM,
    "accumulator": Slot.SUM_OF_SQUARES,
    "linear": Slot.LINEAR,
    "m": Slot.FIRST_MOMENT,
    "v": Slot.SECOND_MOMENT,
    "vhat": Slot.MAX_SECOND_MOMENT,
    "rms": Slot.SECOND_MOMENT,
    "mg": Slot.MEAN_GRADIENT,
    "accum_grad": Slot.SECOND_MOMENT,
    "accum_var": Slot.MEAN_SQUARED_UPDATE,
}


def fitting_tf2(names: Collection[str]) -> tuple[tuple[Algorithm, ...], Mapping[str, Slot]] | None:
    """The algorithms that keep slot variables of these names."""
    for algorithms, slots in TF2:
        if set(names) <= slots.keys() and next(iter(slots)) in names:
            return algorithms, slots
    return None


_SCOPED = re.compile(
    r"(?P<scope>(?:training(?:_\d+)?/)?(?P<name>[A-Z]\w+?)(?:_\d+)?)/(?P<owner>.+)/(?P<slot>\w+)$"
)


def scoped(name: str) -> tuple[str, Algorithm, str, Slot] | None:
    """What a Keras-2 slot in a name-based checkpoint is: scope, algorithm, parameter, slot.

    `training/Adagrad/dense/kernel/accumulator`, as Estimators with Keras optimizers write them.
    """
    found = _SCOPED.match(name)
    kind = CLASSES.get(found["name"].lower()) if found else None
    slot = H5_SUFFIXES.get(found["slot"]) if found else None
    if found is None or kind is None or slot is None:
        return None
    return found["scope"], kind.algorithm, found["owner"], in_momentum(slot, {kind.algorithm})


def in_momentum(slot: Slot, algorithms: Collection[Algorithm]) -> Slot:
    """Keras calls SGD's and RMSprop's buffer what Adam calls its first moment."""
    plain = {Algorithm.SGD, Algorithm.RMSPROP, Algorithm.MUON}
    return Slot.MOMENTUM if slot is Slot.FIRST_MOMENT and plain & set(algorithms) else slot


def fitting_tf1(suffixes: Iterable[str]) -> list[tuple[Algorithm, Mapping[str, Slot]]]:
    """The algorithms whose slots are there; a model may be trained by several (wide and deep)."""
    there = set(suffixes)
    found: list[tuple[Algorithm, Mapping[str, Slot]]] = []
    for algorithm, slots in TF1:
        if next(iter(slots)) in there:
            found.append((algorithm, slots))
            there -= slots.keys()
    return found


def owner(name: str, parameters: Mapping[str, str]) -> str:
    """The parameter that a slot variable's name without suffix means: scopes may come before."""
    rest = name
    while rest and rest not in parameters:
        rest = rest.partition("/")[2]
    return rest or name
