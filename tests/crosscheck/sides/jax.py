"""JAX as one side of a move: optax on two parameters, saved with Orbax.

Everything is float64. Orbax keeps the states of a chain and none of its options, so `settings` are
what a user adds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

LR = 2.0**-5
EPS = 2.0**-27
Arrays = Mapping[str, np.ndarray[Any, Any]]
_ADAM = {"b1": 0.875, "b2": 0.96875, "eps": EPS}
_ADAM_SET = {"beta1": "0.875", "beta2": "0.96875", "eps": repr(EPS)}
_RMS = {"decay": 0.875, "eps": EPS}
_RMS_SET = {"rho": "0.875", "eps": repr(EPS)}


@dataclass(frozen=True)
class Spec:
    """An optimizer: a function of its learning rate, and the canonical settings that say it."""

    make: Callable[[Any], Any]
    settings: Mapping[str, str] = field(default_factory=dict)
    lr: float = LR

    def __call__(self, schedule: str | None = None) -> Any:
        return self.make(self.lr if schedule is None else SCHEDULES[schedule](self.lr))


def _of(function: Callable[..., Any], options: Mapping[str, Any], lr: float = LR,
        **settings: str) -> Spec:  # fmt: skip
    return Spec(lambda rate: function(rate, **options), settings, lr)


def _adam(function: Callable[..., Any], title: str, **options: Any) -> Spec:
    told = {name: str(value) for name, value in options.items() if name == "weight_decay"}
    return _of(function, {**_ADAM, **options}, optimizer=title, **_ADAM_SET, **told)


SPECS: dict[str, Spec] = {
    "sgd": _of(optax.sgd, {}, momentum="0"),
    "sgd momentum": _of(optax.sgd, {"momentum": 0.875}, momentum="0.875"),
    "sgd nesterov": _of(
        optax.sgd, {"momentum": 0.875, "nesterov": True}, momentum="0.875", nesterov="true"
    ),
    "sgd momentum l2": Spec(
        lambda rate: optax.chain(
            optax.add_decayed_weights(0.125), optax.sgd(rate, momentum=0.875)
        ),
        {"momentum": "0.875", "weight_decay": "0.125", "decay": "l2"},
    ),
    "adam": _adam(optax.adam, "adam"),
    "adamw": _adam(optax.adamw, "adamw", weight_decay=0.125),
    "adam l2": Spec(
        lambda rate: optax.chain(optax.add_decayed_weights(0.125), optax.adam(rate, **_ADAM)),
        {"optimizer": "adam", **_ADAM_SET, "weight_decay": "0.125", "decay": "l2"},
    ),
    "amsgrad": _adam(optax.amsgrad, "adam"),
    "adamax": _adam(optax.adamax, "adamax"),
    "nadam": _adam(optax.nadam, "nadam"),
    "radam": _adam(optax.radam, "radam"),
    "rmsprop": _of(optax.rmsprop, _RMS, LR / 8, momentum="0", **_RMS_SET),
    "rmsprop outside": _of(
        optax.rmsprop, {**_RMS, "eps_in_sqrt": False}, LR / 8, momentum="0",
        eps_form="outside", **_RMS_SET,
    ),
    "rmsprop momentum": _of(
        optax.rmsprop, {**_RMS, "eps_in_sqrt": False, "momentum": 0.75}, LR / 8,
        momentum="0.75", eps_form="outside", **_RMS_SET,
    ),
    "rmsprop centered": _of(
        optax.rmsprop, {**_RMS, "eps_in_sqrt": False, "centered": True}, LR / 8,
        momentum="0", eps_form="outside", **_RMS_SET,
    ),
    "adagrad": _of(
        optax.adagrad, {"initial_accumulator_value": 0.0, "eps": EPS}, eps=repr(EPS)
    ),
    "adadelta": _of(
        optax.adadelta, {"rho": 0.875, "eps": 2.0**-20}, 1.0, rho="0.875", eps=repr(2.0**-20)
    ),
    "lion": _of(
        optax.lion, {"b1": 0.875, "b2": 0.96875, "weight_decay": 0.0}, LR / 8,
        beta1="0.875", beta2="0.96875",
    ),
    "lion decay": _of(
        optax.lion, {"b1": 0.875, "b2": 0.96875, "weight_decay": 0.125}, LR / 8,
        beta1="0.875", beta2="0.96875", weight_decay="0.125", decay="decoupled",
    ),
    "lamb": _adam(optax.lamb, "lamb"),
}  # fmt: skip
"""Optimizers by everyday name."""

SCHEDULES: dict[str, Callable[[float], Any]] = {
    "linear": lambda lr: optax.linear_schedule(lr, lr / 4, 16),
    "exponential": lambda lr: optax.exponential_decay(lr, 1, 0.875),
    "cosine": lambda lr: optax.cosine_decay_schedule(lr, 32),
    "piecewise": lambda lr: optax.piecewise_constant_schedule(lr, {5: 0.5, 9: 0.5}),
}
"""Schedules by name: functions of the first rate."""


@dataclass(slots=True)
class Live:
    """A program in the middle of its training."""

    params: Any
    tx: Any
    opt_state: Any
    step: int = 0


@contextmanager
def _float64() -> Any:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def _in_float64(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with _float64():
            return function(*args, **kwargs)

    return wrapped


class Side:
    """Runs of optax."""

    name = "jax"
    specs = SPECS
    schedules = SCHEDULES

    @_in_float64
    def start(self, spec: str, params: Arrays, schedule: str | None = None) -> Live:
        tx = SPECS[spec](schedule)
        live = {name: jnp.asarray(array) for name, array in params.items()}
        return Live(live, tx, tx.init(live))

    @_in_float64
    def step(self, run: Live, grads: Arrays) -> None:
        given = {name: jnp.asarray(grads[name]) for name in run.params}
        updates, run.opt_state = run.tx.update(given, run.opt_state, run.params)
        run.params = optax.apply_updates(run.params, updates)
        run.step += 1

    def params(self, run: Live) -> dict[str, np.ndarray[Any, Any]]:
        return {name: np.array(value) for name, value in run.params.items()}

    @_in_float64
    def save(self, run: Live, path: Path) -> Path:
        state = {"params": run.params, "opt_state": run.opt_state, "step": run.step}
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path.absolute(), state)
        return path

    def settings(self, spec: str, schedule: str | None = None) -> dict[str, str]:
        return {**SPECS[spec].settings, "lr": repr(SPECS[spec].lr)}

    @_in_float64
    def resume(
        self, code: str, path: Path, names: Iterable[str] = (), like: Live | None = None
    ) -> Live:
        """The run that `code` restores; it reads `path` by itself."""
        space: dict[str, Any] = {}
        exec(compile(code, "resume", "exec"), space)
        return Live(space["params"], space["tx"], space["opt_state"])
