"""The rates a schedule gives: at any count, and when moved to another."""

from __future__ import annotations

import math
from dataclasses import replace

from portackpt.errors import UsageError
from portackpt.schedules.curves import After, Cosine
from portackpt.schedules.expression import Expression, Number, evaluate
from portackpt.schedules.schedule import (
    Chain,
    Piece,
    Schedule,
    Sequence,
    base,
    expression,
    multiplies,
    unknown,
)

MAX_REPLAY = 100_000
"""Ticks that a recursion is followed, at most."""


def value(schedule: Schedule, count: Number, group: int = 0) -> float:
    """The learning rate of `group` after `count` ticks: the one of update number `count`, from 0.

    Of a plateau schedule, and of one that is code, only the present rate is known.
    """
    form = schedule.form
    if isinstance(form, Sequence):
        piece = form.pieces[form.active(count)]
        return value(piece.schedule, count - piece.origin, group)
    if isinstance(form, Chain) and not form.scales and not unknown(schedule):
        return _replayed(schedule, count, group)
    formula = expression(schedule, group) if schedule.base_lrs else None
    if formula is not None:
        return evaluate(formula, count)
    if schedule.current is not None and count == schedule.position:
        return float(schedule.current[group])
    raise UsageError(f"the rate at count {count} is not known: {unknown(schedule)}")


def at(schedule: Schedule, count: Number) -> Schedule:
    """The same schedule after `count` ticks, with the rates that its formula gives."""
    form = schedule.form
    if isinstance(form, Sequence):
        form = Sequence(tuple(_moved(form, count)))
    elif isinstance(form, Chain):
        form = Chain(
            tuple([replace(p, schedule=at(p.schedule, count - p.origin)) for p in form.pieces])
        )
    rates = tuple([value(schedule, count, group) for group in range(schedule.groups)])
    return replace(schedule, form=form, position=count, last_lrs=rates, live_lrs=None, extras={})


def _moved(sequence: Sequence, count: Number) -> list[Piece]:
    """The pieces with their own counts: a past one where it was left, a later one not begun."""
    active = sequence.active(count)
    found = []
    for i, piece in enumerate(sequence.pieces):
        if i > active:
            schedule = replace(at(piece.schedule, 0), position=-1)
        else:
            last = count if i == active else sequence.pieces[i + 1].begin - 1
            schedule = at(piece.schedule, last - piece.origin)
        found.append(replace(piece, schedule=schedule))
    return found


def _replayed(schedule: Schedule, count: Number, group: int) -> float:
    """The rate of a chain that has no formula, tick by tick as torch does."""
    start, current = schedule.position, schedule.current
    if current is not None and start <= count:
        rate, first = float(current[group]), start
    else:
        rate, first = begin(schedule, float(base(schedule, group)), group), 0
    ticks = count - first
    if ticks != int(ticks) or ticks > MAX_REPLAY:
        raise UsageError(
            f"a chain without a formula is followed in whole ticks, at most {MAX_REPLAY}, found "
            f"{ticks} from count {first} to {count}"
        )
    for tick in range(int(ticks)):
        rate = advance(schedule, rate, first + tick + 1, group)
    return rate


def begin(schedule: Schedule, rate: float, group: int) -> float:
    """The rate that constructing the schedule on `rate` leaves (torch's initial step)."""
    form = schedule.form
    if isinstance(form, Chain):
        for piece in form.pieces:
            rate = begin(piece.schedule, rate, group)
        return rate
    if isinstance(form, Cosine):
        return rate
    if multiplies(form):
        return rate * factor(schedule, 0, group)
    return value(schedule, 0, group)


def advance(schedule: Schedule, rate: float, count: Number, group: int) -> float:
    """One tick of torch's recursion: the rate at `count` from that at `count` - 1."""
    form = schedule.form
    if isinstance(form, Chain):
        for piece in form.pieces:
            rate = advance(piece.schedule, rate, count - piece.origin, group)
        return rate
    if isinstance(form, Sequence):
        piece = form.pieces[form.active(count)]
        if piece is not form.pieces[0] and count == piece.begin:
            return value(piece.schedule, count - piece.origin, group)
        return advance(piece.schedule, rate, count - piece.origin, group)
    if isinstance(form, Cosine) and form.after is After.CONTINUE and form.exponent == 1:
        return _cosine(form, float(base(schedule, group)), rate, count)
    if multiplies(form):
        now, before = factor(schedule, count, group), factor(schedule, count - 1, group)
        return rate if now == before else rate * (now / before)
    return value(schedule, count, group)


def _cosine(form: Cosine, base: float, rate: float, count: Number) -> float:
    # torch CosineAnnealingLR.get_lr
    if (count - 1 - form.steps) % (2 * form.steps) == 0:
        return rate + (base - form.floor) * (1 - math.cos(math.pi / form.steps)) / 2
    now, before = (1 + math.cos(math.pi * c / form.steps) for c in (count, count - 1))
    return now / before * (rate - form.floor) + form.floor


def factor(schedule: Schedule, count: Number, group: int) -> float:
    """What a schedule that multiplies does to the base, at `count`."""
    return evaluate(factor_expression(schedule, group), count)


def factor_expression(schedule: Schedule, group: int) -> Expression:
    formula = schedule.form.rate(1.0, group)
    if formula is None:
        raise AssertionError("a schedule that multiplies has a factor")
    return formula
