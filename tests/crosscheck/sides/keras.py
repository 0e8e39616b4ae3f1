"""Keras as one end of a move: two variables, trained on gradients that are given.

Everything is float64. What Keras saves is a tf.train.Checkpoint of `weight`, `bias` and the
optimizer; that keeps no hyperparameters, so `settings` are what a user adds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers import schedules

LR = 0.125
Arrays = Mapping[str, np.ndarray[Any, Any]]
SCHEDULES: dict[str, Callable[[], Any]] = {
    "piecewise": lambda: schedules.PiecewiseConstantDecay([3, 9], [0.125, 0.0625, 0.015625]),
    "exponential": lambda: schedules.ExponentialDecay(0.125, 16, 0.5),
    "linear": lambda: schedules.PolynomialDecay(0.125, 16, 0.0625),
    "cosine": lambda: schedules.CosineDecay(0.125, 32),
}
_ADAM = {"beta_1": 0.875, "beta_2": 0.96875, "epsilon": 2.0**-20}
_ADAM_SET = {"beta1": "0.875", "beta2": "0.96875", "eps": str(2.0**-20)}
_EPS = {"epsilon": 2.0**-20}
_EPS_SET = {"eps": str(2.0**-20)}


@dataclass(frozen=True)
class Spec:
    """An optimizer: its class, its options, and the canonical settings that say the same."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    lr: float = LR

    def __call__(self, schedule: str | None = None) -> Any:
        rate = self.lr if schedule is None else SCHEDULES[schedule]()
        return getattr(keras.optimizers, self.kind)(learning_rate=rate, **self.options)


def _adam(kind: str, title: str, **options: Any) -> Spec:
    told = {key: str(value) for key, value in options.items() if key == "weight_decay"}
    return Spec(kind, {**_ADAM, **options}, {"optimizer": title, **_ADAM_SET, **told})


SPECS: dict[str, Spec] = {
    "sgd": Spec("SGD", {}, {"optimizer": "sgd"}),
    "sgd momentum": Spec("SGD", {"momentum": 0.875}, {"optimizer": "sgd", "momentum": "0.875"}),
    "sgd nesterov": Spec(
        "SGD", {"momentum": 0.875, "nesterov": True},
        {"optimizer": "sgd", "momentum": "0.875", "nesterov": "true"},
    ),
    "sgd momentum decoupled": Spec(
        "SGD", {"momentum": 0.875, "weight_decay": 0.0625},
        {"optimizer": "sgd", "momentum": "0.875", "weight_decay": "0.0625", "decay": "decoupled"},
    ),
    "adam": _adam("Adam", "adam"),
    "adamw": _adam("AdamW", "adamw", weight_decay=0.0625),
    "amsgrad": _adam("Adam", "adam", amsgrad=True),
    "adamax": _adam("Adamax", "adamax"),
    "nadam": _adam("Nadam", "nadam"),
    "rmsprop": Spec("RMSprop", {"rho": 0.875, **_EPS},
                    {"optimizer": "rmsprop", "rho": "0.875", **_EPS_SET}),
    "rmsprop momentum": Spec(
        "RMSprop", {"rho": 0.875, "momentum": 0.5, **_EPS},
        {"optimizer": "rmsprop", "rho": "0.875", "momentum": "0.5", **_EPS_SET},
    ),
    "rmsprop centered": Spec(
        "RMSprop", {"rho": 0.875, "centered": True, **_EPS},
        {"optimizer": "rmsprop", "rho": "0.875", "centered": "true", **_EPS_SET},
    ),
    "adagrad": Spec("Adagrad", {"initial_accumulator_value": 0.0, **_EPS},
                    {"optimizer": "adagrad", "initial_accumulator": "0", **_EPS_SET}),
    "adadelta": Spec("Adadelta", {"rho": 0.875, **_EPS},
                     {"optimizer": "adadelta", "rho": "0.875", **_EPS_SET}, 1.0),
    "adafactor": Spec(
        "Adafactor", {"beta_2_decay": -0.75, "epsilon_1": 2.0**-100, "epsilon_2": 2.0**-10},
        {"optimizer": "adafactor", "beta2_decay": "-0.75", "eps1": str(2.0**-100),
         "eps2": str(2.0**-10), "clip_threshold": "1.0", "relative_step": "true"},
        0.5,
    ),
    "lion": Spec("Lion", {"beta_1": 0.875, "beta_2": 0.96875, "weight_decay": 0.0625},
                 {"optimizer": "lion", "beta1": "0.875", "beta2": "0.96875",
                  "weight_decay": "0.0625", "decay": "decoupled"}, 2.0**-8),
    "lamb": _adam("Lamb", "lamb"),
    "muon": Spec(
        "Muon",
        {"momentum": 0.875, "weight_decay": 0.0625, "adam_weight_decay": 0.0625,
         "adam_beta_1": 0.875, "adam_beta_2": 0.96875, **_EPS, "rms_rate": 0.25},
        {"optimizer": "muon", "momentum": "0.875", "weight_decay": "0.0625",
         "decay": "decoupled", "beta1": "0.875", "beta2": "0.96875", **_EPS_SET},
    ),
    "ftrl": Spec("Ftrl", {"initial_accumulator_value": 0.125},
                 {"optimizer": "ftrl", "initial_accumulator": "0.125", "lr_power": "-0.5",
                  "l1": "0", "l2": "0"}),
    "schedule_free_adamw": _adam("ScheduleFreeAdamW", "schedule_free_adamw"),
}  # fmt: skip


@dataclass
class Running:
    """A program in the middle of its training."""

    variables: dict[str, Any]
    optimizers: list[Any]


@contextmanager
def _float64() -> Any:
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(before)


def _in_float64(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with _float64():
            return function(*args, **kwargs)

    return wrapped


class Side:
    """Keras on TensorFlow."""

    name = "keras"
    specs = SPECS
    schedules = SCHEDULES

    @_in_float64
    def start(self, spec: str, params: Arrays, schedule: str | None = None) -> Running:
        run = Running(_variables(params), [SPECS[spec](schedule)])
        run.optimizers[0].build(list(run.variables.values()))
        return run

    @_in_float64
    def step(self, run: Running, grads: Arrays) -> None:
        given = {name: keras.ops.convert_to_tensor(grads[name]) for name in run.variables}
        for optimizer in run.optimizers:
            owned = {v.path: v for v in optimizer._trainable_variables}
            optimizer.apply([given[name] for name in owned], list(owned.values()))

    def params(self, run: Running) -> dict[str, np.ndarray[Any, Any]]:
        return {name: np.array(variable) for name, variable in run.variables.items()}

    @_in_float64
    def save(self, run: Running, path: Path) -> Path:
        tf.train.Checkpoint(**run.variables, optimizer=run.optimizers[0]).write(str(path))
        return path

    def settings(self, spec: str, schedule: str | None = None) -> dict[str, str]:
        return {**SPECS[spec].settings, "lr": str(SPECS[spec].lr)}

    @_in_float64
    def resume(self, code: str, path: Path, params: Arrays, **names: Any) -> Running:
        """The program that the ledger's `code` makes: its variables have other values first.

        `names` are what the code may use beside `model`.
        """
        variables = _variables({name: np.zeros_like(array) for name, array in params.items()})
        owned = list(variables.values())
        scope = {"model": SimpleNamespace(weights=owned, trainable_variables=owned), **names}
        exec(code, scope)
        found = [
            scope[name] for name in ("optimizer", "optimizer_0", "optimizer_1") if name in scope
        ]
        return Running(variables, found)


def _variables(params: Arrays) -> dict[str, Any]:
    return {
        name: keras.Variable(np.array(array, "float64"), dtype="float64", name=name)
        for name, array in params.items()
    }
