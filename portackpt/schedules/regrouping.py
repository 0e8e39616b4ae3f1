"""A schedule for other parameter groups: each a group of before, with its rates times a factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from portackpt.schedules.cycles import Cyclic, Momentum, OneCycle
from portackpt.schedules.expression import Number
from portackpt.schedules.forms import Form
from portackpt.schedules.plateau import Plateau
from portackpt.schedules.schedule import Chain, Piece, Schedule
from portackpt.schedules.schedule import Sequence as Parts

Groups: TypeAlias = Sequence[tuple[int, float]]
"""For each new group, the index of an old one and the factor of its rates."""


def regrouped(schedule: Schedule, groups: Groups) -> Schedule | None:
    """`schedule` for `groups`; None where a floor that all groups share keeps a factor out."""
    form = _form(schedule.form, groups)
    if form is None:
        return None
    return replace(
        schedule,
        form=form,
        base_lrs=_rates(schedule.base_lrs, groups),
        last_lrs=None if schedule.last_lrs is None else _rates(schedule.last_lrs, groups),
        live_lrs=None if schedule.live_lrs is None else _rates(schedule.live_lrs, groups),
    )


def _rates(rates: tuple[Number, ...], groups: Groups) -> tuple[Number, ...]:
    return tuple([
        rates[index] if factor == 1 else rates[index] * factor
        for index, factor in groups if index < len(rates)
    ])  # fmt: skip


def _form(form: Form, groups: Groups) -> Form | None:
    if isinstance(form, OneCycle):
        return replace(
            form, peaks=_rates(form.peaks, groups), finals=_rates(form.finals, groups),
            momentum=_momentum(form.momentum, groups),
        )  # fmt: skip
    if isinstance(form, Cyclic):
        return replace(
            form, highs=_rates(form.highs, groups), momentum=_momentum(form.momentum, groups)
        )
    if isinstance(form, Plateau):
        smallest = form.smallest
        every = smallest if len(smallest) > 1 else smallest * (1 + max(i for i, _ in groups))
        return replace(form, smallest=_rates(every, groups))
    if isinstance(form, Parts | Chain):
        pieces: list[Piece] = []
        for piece in form.pieces:
            inner = regrouped(piece.schedule, groups)
            if inner is None:
                return None
            pieces.append(replace(piece, schedule=inner))
        return replace(form, pieces=tuple(pieces))
    if not form.scales and any(factor != 1 for _, factor in groups):
        return None
    return form


def _momentum(momentum: Momentum | None, groups: Groups) -> Momentum | None:
    if momentum is None:
        return None
    low, high = (
        tuple([values[index] for index, _ in groups]) for values in (momentum.low, momentum.high)
    )
    return replace(momentum, low=low, high=high)
