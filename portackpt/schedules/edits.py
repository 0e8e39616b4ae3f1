"""Rates that were changed by hand: found by the formula, and how the source goes on from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from portackpt.schedules.curves import After, Cosine
from portackpt.schedules.expression import Number
from portackpt.schedules.forms import Constant
from portackpt.schedules.rates import value
from portackpt.schedules.schedule import (
    Chain,
    Code,
    Piece,
    Schedule,
    Sequence,
    base,
    multiplies,
    unknown,
)

REPLAYED = 50_000
"""Ticks, over all groups, up to which a chain without a formula is checked."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A parameter group whose rate is not what the schedule's formula gives at its position."""

    group: int
    expected: float
    found: float

    def __str__(self) -> str:
        return (
            f"parameter group {self.group} has the learning rate {self.found!r}, where its "
            f"schedule gives {self.expected!r}"
        )


def edits(schedule: Schedule) -> tuple[Edit, ...]:
    """The groups whose present rate departs from the formula by more than rounding."""
    current = schedule.current
    if current is None or unknown(schedule) or schedule.position < 0:
        return ()
    if isinstance(schedule.form, Chain) and schedule.position * schedule.groups > REPLAYED:
        return ()
    found = []
    for group, rate in enumerate(current[: schedule.groups]):
        expected = _formula(schedule, group)
        relative = schedule.tolerance + 1e-15 * schedule.position
        slack = 0.0 if multiplies(schedule.form) else 1e-12 * abs(_highest(schedule, group))
        if not abs(rate - expected) <= relative * abs(expected) + slack:
            found.append(Edit(group, expected, float(rate)))
    return tuple(found)


def _formula(schedule: Schedule, group: int) -> float:
    # a recursion starts from the rates that are in question: let it start from the beginning
    bare = replace(schedule, last_lrs=None, live_lrs=None)
    return value(bare, schedule.position, group)


def _highest(schedule: Schedule, group: int) -> Number:
    peaks = getattr(schedule.form, "peaks", None) or getattr(schedule.form, "highs", None)
    return peaks[group] if peaks else base(schedule, group) if schedule.base_lrs else 0.0


def continued(schedule: Schedule) -> Schedule:
    """The schedule whose formula gives what the source will do from here on.

    torch computes most rates from the one before, so an edit lasts: it scales what a formula that
    scales gives, and the way of a cosine down to its next trough. A formula that overwrites the
    rate takes over at the next tick. A part that is code and past is held at the present rate.
    """
    form = schedule.form
    if isinstance(form, Sequence):
        return replace(schedule, form=Sequence(tuple(_continued(schedule, form))))
    changed = edits(schedule)
    if not changed or schedule.current is None:
        return schedule
    if multiplies(form):
        if any(edit.expected == 0 for edit in changed):
            return replace(schedule, form=Constant(), base_lrs=schedule.current)
        bases = list(schedule.base_lrs)
        for edit in changed:
            bases[edit.group] = bases[edit.group] * (edit.found / edit.expected)
        return replace(schedule, base_lrs=tuple(bases))
    if isinstance(form, Cosine) and form.after is After.CONTINUE:
        return _bent(schedule, form, changed)
    return schedule


def _continued(schedule: Schedule, form: Sequence) -> list[Piece]:
    active = form.active(schedule.position)
    found = []
    for i, piece in enumerate(form.pieces):
        part = piece.schedule
        if i < active and isinstance(part.form, Code):
            part = Schedule(Constant(), part.position, schedule.current or part.base_lrs)
        elif i == active:
            part = replace(part, last_lrs=schedule.current, tolerance=schedule.tolerance)
            part = continued(part)
        found.append(replace(piece, schedule=part))
    return found


def _bent(schedule: Schedule, form: Cosine, changed: tuple[Edit, ...]) -> Schedule:
    """The cosine from its edited rate to its next trough, then from its own base again."""
    steps, position = form.steps, schedule.position
    trough = steps + 2 * steps * max(0, -(-(position - steps) // (2 * steps)))
    bases, held = list(schedule.base_lrs), list(schedule.current or ())
    for edit in changed:
        height = bases[edit.group] - form.floor
        if trough == position:  # torch adds the first step up, to whatever rate it finds
            up = height * (1 - math.cos(math.pi / steps)) / 2
            share = (edit.found + up - form.floor) / up
        else:
            share = (edit.found - form.floor) / (edit.expected - form.floor)
        bases[edit.group] = form.floor + height * share
    bent = replace(schedule, base_lrs=tuple(bases))
    plain = replace(schedule, last_lrs=None, live_lrs=None)
    pieces = [Piece(bent), Piece(plain, trough)]
    if trough == position:
        still = replace(plain, form=Constant(), base_lrs=tuple(held))
        pieces = [Piece(still), Piece(bent, trough + 1), Piece(plain, trough + 2 * steps)]
    return replace(schedule, form=Sequence(tuple(pieces)))
