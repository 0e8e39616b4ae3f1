"""Keras' schedule configurations, as canonical schedules.

`{"module": "keras.optimizers.schedules", "class_name": "CosineDecay", "config": {…}}`, as it stands
under `learning_rate` in an optimizer's configuration; or a number. Read in
keras/src/optimizers/schedules/learning_rate_schedule.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from portackpt.errors import DamagedError, UsageError, located
from portackpt.schedules import (
    UPDATES,
    After,
    Clock,
    Code,
    Constant,
    Cosine,
    Exponential,
    InverseTime,
    Linear,
    Piece,
    Piecewise,
    Polynomial,
    Schedule,
    Sequence,
    Step,
    WarmRestarts,
    at,
)
from portackpt.schedules.expression import Number
from portackpt.tree import Node

FRAMEWORK = "tensorflow"


def lift(config: Node, iterations: int = 0, accumulation: int = 1) -> Schedule:
    """The schedule that a `learning_rate` configuration describes, after `iterations`.

    Keras counts micro-steps where gradients are accumulated (`accumulation` of them an update). A
    class of the training program's own is `Code`.
    """
    clock = UPDATES if accumulation == 1 else Clock(ticks=accumulation)
    if isinstance(config, int | float) and not isinstance(config, bool):
        return _at(_schedule(Constant(), _finite(config, "learning_rate")), iterations, clock)
    if not isinstance(config, Mapping) or not isinstance(config.get("config"), Mapping):
        raise DamagedError("expected a number or the configuration of a schedule", "learning_rate")
    name = config.get("class_name")
    build = _BUILDERS.get(name) if isinstance(name, str) else None
    if build is None or config.get("module", _MODULE) not in (_MODULE, None):
        reason = f"{name!r} is a schedule of the training program, which no checkpoint holds"
        return Schedule(Code(reason), iterations, clock=clock, framework=FRAMEWORK)
    with located("learning_rate"), located(str(name)):
        try:
            return _at(build(_Config(config["config"])), iterations, clock)
        except (UsageError, ValueError, ArithmeticError) as error:
            raise DamagedError(str(error)) from error


_MODULE = "keras.optimizers.schedules"


def _at(schedule: Schedule, iterations: int, clock: Clock) -> Schedule:
    return replace(at(schedule, iterations), clock=clock)


def _schedule(form: Any, base: Number) -> Schedule:
    return Schedule(form, 0, (base,), framework=FRAMEWORK)


def _finite(value: Any, key: str) -> Number:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DamagedError(f"expected a finite number, found {value!r}", key)
    return value


class _Config:
    """The `config` of a schedule; every value checked."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def number(self, key: str, default: Number | None = None) -> Number:
        value = self._values.get(key, default)
        return _finite(default if value is None else value, key)

    def numbers(self, key: str) -> tuple[Number, ...]:
        values = self._values.get(key)
        if not isinstance(values, list | tuple):
            raise DamagedError(f"expected a list of numbers, found {values!r}", key)
        return tuple([_finite(value, key) for value in values])

    def whole(self, key: str, default: int | None = None) -> int:
        found = self.number(key, default)
        if found != int(found):
            raise DamagedError(f"expected a whole number, found {found}", key)
        return int(found)

    def optional(self, key: str) -> Number | None:
        value = self._values.get(key)
        return None if value is None else _finite(value, key)

    def flag(self, key: str) -> bool:
        return self._values.get(key) is True

    @property
    def base(self) -> Number:
        return self.number("initial_learning_rate")


def _exponential(config: _Config) -> Schedule:
    steps, gamma = config.number("decay_steps"), config.number("decay_rate")
    if config.flag("staircase"):
        return _schedule(Step(steps, gamma), config.base)
    return _schedule(Exponential(gamma, steps), config.base)


def _piecewise(config: _Config) -> Schedule:
    values = config.numbers("values")
    # a boundary is the last count of a value
    begins = tuple([math.floor(boundary) + 1 for boundary in config.numbers("boundaries")])
    base = values[0] if values and values[0] else 1.0
    return _schedule(Piecewise(begins, tuple([value / base for value in values])), base)


def _polynomial(config: _Config) -> Schedule:
    form = Polynomial(
        config.whole("decay_steps"),
        config.number("power", 1.0),
        config.number("end_learning_rate", 1e-4),
        0,
        config.flag("cycle"),
    )
    return _schedule(form, config.base)


def _inverse_time(config: _Config) -> Schedule:
    form = InverseTime(
        config.number("decay_steps"), config.number("decay_rate"), config.flag("staircase")
    )
    return _schedule(form, config.base)


def _cosine(config: _Config) -> Schedule:
    steps, alpha = config.number("decay_steps"), config.number("alpha", 0.0)
    target = config.optional("warmup_target")
    peak = config.base if target is None else target
    cosine = _schedule(Cosine(steps, alpha * peak, After.CLAMP), peak)
    warm = config.whole("warmup_steps", 0)
    if target is None or warm <= 0:
        return cosine
    if peak == 0:
        warmup = _schedule(Polynomial(warm, 1.0, 0.0), config.base)
    else:
        warmup = _schedule(Linear(config.base / peak, 1.0, warm), peak)
    return _schedule(Sequence((Piece(warmup), Piece(cosine, warm, warm))), peak)


def _restarts(config: _Config) -> Schedule:
    form = WarmRestarts(
        config.number("first_decay_steps"),
        config.number("t_mul", 2.0),
        config.number("alpha", 0.0) * config.base,
        config.number("m_mul", 1.0),
    )
    return _schedule(form, config.base)


_BUILDERS: Mapping[str, Callable[[_Config], Schedule]] = {
    "ExponentialDecay": _exponential,
    "PiecewiseConstantDecay": _piecewise,
    "PolynomialDecay": _polynomial,
    "InverseTimeDecay": _inverse_time,
    "CosineDecay": _cosine,
    "CosineDecayRestarts": _restarts,
}
