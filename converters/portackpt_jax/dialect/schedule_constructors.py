"""optax' schedule constructors by name and arguments, as canonical schedules.

A checkpoint of optax holds no schedule; the user, or a live optimizer, says which it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many
from typing import Any

from portackpt.errors import UsageError
from portackpt.schedules import (
    After,
    Constant,
    Cosine,
    Exponential,
    Interpolated,
    Linear,
    Piece,
    Piecewise,
    Polynomial,
    Schedule,
    Sequence,
    Step,
    at,
)
from portackpt.schedules.expression import Number

FRAMEWORK = "jax"
_Arguments = Mapping[str, Any]


def lift(constructor: str, arguments: _Arguments, count: int = 0) -> Schedule:
    """The schedule that `optax.CONSTRUCTOR(**arguments)` builds, at `count`.

    `join_schedules` is given its parts as pairs of a constructor and its arguments.
    """
    name = constructor.removeprefix("optax.").removeprefix("schedules.")
    build = _BUILDERS.get(name)
    if build is None:
        raise UsageError(f"unknown schedule {constructor!r}: known are {', '.join(_BUILDERS)}")
    try:
        return at(build(**arguments), count)
    except TypeError as error:
        raise UsageError(f"{name}: {error}") from error
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"{name}: impossible arguments: {error}") from error


def _schedule(form: Any, base: Number) -> Schedule:
    return Schedule(form, 0, (base,), framework=FRAMEWORK)


def _joined(schedules: Many[Schedule], boundaries: Many[int], base: Number) -> Schedule:
    begins = (0, *boundaries)
    pieces = [Piece(s, begin, begin) for s, begin in zip(schedules, begins, strict=True)]
    return _schedule(Sequence(tuple(pieces)), base)


def constant(value: Number) -> Schedule:
    return _schedule(Constant(), value)


def polynomial(
    init_value: Number,
    end_value: Number,
    power: Number,
    transition_steps: int,
    transition_begin: int = 0,
) -> Schedule:
    steps = max(transition_steps, 0)  # none: constant
    form = Polynomial(steps, power, end_value, max(transition_begin, 0))
    return _schedule(form, init_value)


def linear(
    init_value: Number, end_value: Number, transition_steps: int, transition_begin: int = 0
) -> Schedule:
    return polynomial(init_value, end_value, 1, transition_steps, transition_begin)


def piecewise_constant(
    init_value: Number, boundaries_and_scales: Mapping[Any, Number] | None = None
) -> Schedule:
    factors: list[Number] = [1.0]
    scales = {int(b): s for b, s in (boundaries_and_scales or {}).items()}
    for boundary in sorted(scales):
        factors.append(factors[-1] * scales[boundary])
    return _schedule(Piecewise(tuple(sorted(scales)), tuple(factors)), init_value)


def exponential_decay(
    init_value: Number,
    transition_steps: int,
    decay_rate: Number,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: Number | None = None,
) -> Schedule:
    if transition_steps <= 0 or decay_rate == 0:
        return constant(init_value)
    begin = max(transition_begin, 0)
    if staircase and begin == 0 and end_value is None:
        return _schedule(Step(transition_steps, decay_rate), init_value)
    form = Exponential(decay_rate, transition_steps, begin, end_value, staircase)
    return _schedule(form, init_value)


def cosine_decay(
    init_value: Number, decay_steps: int, alpha: Number = 0.0, exponent: Number = 1.0
) -> Schedule:
    power = 1 if exponent == 1 else exponent
    return _schedule(Cosine(decay_steps, alpha * init_value, After.CLAMP, power), init_value)


def piecewise_interpolate(
    interpolate_type: str,
    init_value: Number,
    boundaries_and_scales: Mapping[Any, Number] | None = None,
) -> Schedule:
    scales = {float(b): s for b, s in (boundaries_and_scales or {}).items()}
    factors: list[Number] = [1.0]
    for boundary in sorted(scales):
        factors.append(factors[-1] * scales[boundary])
    form = Interpolated(tuple(sorted(scales)), tuple(factors), interpolate_type)
    return _schedule(form, init_value)


def linear_onecycle(
    transition_steps: int,
    peak_value: Number,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    scales = {
        int(pct_start * transition_steps): div_factor,
        int(pct_final * transition_steps): 1.0 / div_factor,
        transition_steps: 1.0 / final_div_factor,
    }
    return piecewise_interpolate("linear", peak_value / div_factor, scales)


def cosine_onecycle(
    transition_steps: int,
    peak_value: Number,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    scales = {
        int(pct_start * transition_steps): div_factor,
        transition_steps: 1.0 / (div_factor * final_div_factor),
    }
    return piecewise_interpolate("cosine", peak_value / div_factor, scales)


def warmup(init_value: Number, peak_value: Number, steps: int) -> Schedule:
    """Linear warm-up; in factors of its peak, as torch has it, where that is not 0."""
    if peak_value == 0:
        return linear(init_value, peak_value, steps)
    return _schedule(Linear(init_value / peak_value, 1.0, steps), peak_value)


def warmup_constant(init_value: Number, peak_value: Number, warmup_steps: int) -> Schedule:
    return warmup(init_value, peak_value, warmup_steps)


def warmup_cosine_decay(
    init_value: Number,
    peak_value: Number,
    warmup_steps: int,
    decay_steps: int,
    end_value: Number = 0.0,
    exponent: Number = 1.0,
) -> Schedule:
    alpha = 0.0 if peak_value == 0.0 else end_value / peak_value
    cosine = cosine_decay(peak_value, decay_steps - warmup_steps, alpha, exponent)
    return _joined(
        [warmup(init_value, peak_value, warmup_steps), cosine], [warmup_steps], peak_value
    )


def warmup_exponential_decay(
    init_value: Number, peak_value: Number, warmup_steps: int, **decay: Any
) -> Schedule:
    parts = [warmup(init_value, peak_value, warmup_steps), exponential_decay(peak_value, **decay)]
    return _joined(parts, [warmup_steps], peak_value)


def sgdr(cosine_kwargs: Many[_Arguments]) -> Schedule:
    parts, begins = [], [0]
    for arguments in cosine_kwargs:
        parts.append(warmup_cosine_decay(**arguments))
        begins.append(begins[-1] + arguments["decay_steps"])
    return _joined(parts, begins[1:-1], parts[0].base_lrs[0])


def join(schedules: Many[tuple[str, _Arguments]], boundaries: Many[int]) -> Schedule:
    parts = [lift(name, arguments) for name, arguments in schedules]
    return _joined(parts, boundaries, parts[0].base_lrs[0])


_BUILDERS: Mapping[str, Callable[..., Schedule]] = {
    "constant_schedule": constant,
    "polynomial_schedule": polynomial,
    "linear_schedule": linear,
    "piecewise_constant_schedule": piecewise_constant,
    "piecewise_interpolate_schedule": piecewise_interpolate,
    "exponential_decay": exponential_decay,
    "cosine_decay_schedule": cosine_decay,
    "linear_onecycle_schedule": linear_onecycle,
    "cosine_onecycle_schedule": cosine_onecycle,
    "warmup_constant_schedule": warmup_constant,
    "warmup_cosine_decay_schedule": warmup_cosine_decay,
    "warmup_exponential_decay_schedule": warmup_exponential_decay,
    "sgdr_schedule": sgdr,
    "join_schedules": join,
}
