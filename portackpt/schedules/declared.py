"""Schedules that the user names, because the checkpoint holds only that they were code.

The Hugging Face schedules (transformers/optimization.py) are LambdaLR over Python functions; their
names and numbers stand in the trainer's arguments, or the user knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from portackpt.errors import UsageError
from portackpt.schedules.curves import Cosine, Interpolated, InverseSqrt, WarmRestarts
from portackpt.schedules.edits import edits
from portackpt.schedules.expression import Number
from portackpt.schedules.forms import Constant, Form, Linear, Polynomial
from portackpt.schedules.schedule import Piece, Schedule, Sequence


def declare(schedule: Schedule, form: Form) -> Schedule:
    """`schedule`, which is code, with the form that the user says it has.

    The rates found in the checkpoint have to agree with it.
    """
    found = replace(schedule, form=form)
    wrong = edits(found)
    if wrong:
        raise UsageError(
            f"the declared schedule is not the one that was saved: after {schedule.position} "
            f"ticks {wrong[0]}"
        )
    return found


def hugging_face(
    name: str, bases: tuple[Number, ...], warmup: int, total: int = 0, **options: Number
) -> Form:
    """The form of `transformers.get_scheduler(name)` for groups with the base rates `bases`.

    `options` are those of the function: num_cycles, power, lr_end, timescale, min_lr_rate.
    """
    build = _BUILDERS.get(name)
    if build is None:
        raise UsageError(f"unknown schedule {name!r}: known are {', '.join(_BUILDERS)}")
    try:
        return build(bases, warmup, total, **options)
    except TypeError as error:
        raise UsageError(f"{name}: {error}") from error


_Bases = tuple[Number, ...]


def _constant(bases: _Bases, warmup: int, total: int) -> Form:
    return Constant()


def _warm(bases: _Bases, warmup: int, *parts: tuple[Form, int]) -> Form:
    """A linear warm-up from 0, then each of `parts` from its count on."""
    pieces = [Piece(Schedule(form, 0, bases), begin, begin) for form, begin in parts]
    if warmup == 0:
        return pieces[0].schedule.form if len(pieces) == 1 else Sequence(tuple(pieces))
    return Sequence((Piece(Schedule(Linear(0.0, 1.0, warmup), 0, bases)), *pieces))


def _constant_with_warmup(bases: _Bases, warmup: int, total: int) -> Form:
    return _warm(bases, warmup, (Constant(), warmup))


def _linear(bases: _Bases, warmup: int, total: int) -> Form:
    if warmup == 0:
        return Interpolated((total,), (1.0, 0.0))
    return Interpolated((warmup, total), (0.0, 1.0, 0.0))


def _cosine(bases: _Bases, warmup: int, total: int, num_cycles: Number = 0.5) -> Form:
    # max(0, (1 + cos(2 pi cycles progress)) / 2): it goes on past the total
    return _warm(bases, warmup, (Cosine((total - warmup) / (2 * num_cycles)), warmup))


def _cosine_with_restarts(bases: _Bases, warmup: int, total: int, num_cycles: Number = 1) -> Form:
    restarts = WarmRestarts((total - warmup) / num_cycles)
    return _warm(bases, warmup, (restarts, warmup), (Interpolated((), (0.0,)), total))


def _polynomial(
    bases: _Bases, warmup: int, total: int, power: Number = 1.0, lr_end: Number = 1e-7
) -> Form:
    return _warm(bases, warmup, (Polynomial(total - warmup, power, lr_end), warmup))


def _inverse_sqrt(bases: _Bases, warmup: int, total: int, timescale: Number = 0) -> Form:
    return InverseSqrt(warmup, timescale or warmup or 10_000)


def _cosine_with_min_lr(bases: _Bases, warmup: int, total: int, min_lr_rate: Number = 0.0) -> Form:
    bottom = Interpolated((total - warmup,), (1.0, min_lr_rate), "cosine")
    return _warm(bases, warmup, (bottom, warmup))


_BUILDERS: Mapping[str, Callable[..., Form]] = {
    "constant": _constant,
    "constant_with_warmup": _constant_with_warmup,
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _cosine_with_restarts,
    "polynomial": _polynomial,
    "inverse_sqrt": _inverse_sqrt,
    "cosine_with_min_lr": _cosine_with_min_lr,
}
