"""Chains without a formula, as Python code that follows torch's recursion tick by tick."""

from __future__ import annotations

from portackpt.errors import UsageError
from portackpt.schedules.curves import After, Cosine
from portackpt.schedules.expression import COUNT as _COUNT
from portackpt.schedules.expression import PYTHON, Expression, Number, Printer, substitute
from portackpt.schedules.rates import begin, factor_expression
from portackpt.schedules.schedule import Chain, Schedule, Sequence, base, expression, multiplies

HORIZON = 100_000
"""Ticks that a printed table holds."""
IMPORTS = "import math\nfrom bisect import bisect_right"


def table_code(schedule: Schedule, group: int, name: str) -> str:
    """Code that computes the list `name` of rates from the schedule's position on, HORIZON long."""
    if schedule.current is None:
        start: Number = 0
        rate = begin(schedule, float(base(schedule, group)), group)
    else:
        start, rate = schedule.position, float(schedule.current[group])
    lines = [
        f"{name} = [{rate!r}]  # the rate at count {start}, then PyTorch's recursion",
        f"for count in range({start + 1}, {start + HORIZON}):",
        f"    rate = {name}[-1]",
        *[f"    {line}" for line in _advance(schedule, group, 0)],
        f"    {name}.append(rate)",
    ]
    return "\n".join(lines)


def _advance(schedule: Schedule, group: int, origin: Number) -> list[str]:
    """Statements that take `rate` from `count` - 1 to `count`."""
    form = schedule.form
    if isinstance(form, Chain):
        return [
            line
            for piece in form.pieces
            for line in _advance(piece.schedule, group, origin + piece.origin)
        ]
    if isinstance(form, Sequence):
        return _switch(form, group, origin)
    if isinstance(form, Cosine) and form.after is After.CONTINUE and form.exponent == 1:
        return _cosine(form, base(schedule, group), origin)
    if multiplies(form):
        factor = substitute(factor_expression(schedule, group), _COUNT - origin)
        before = substitute(factor, _COUNT - 1)
        return [
            *_assign("now", factor),
            *_assign("before", before),
            "rate = rate if now == before else rate * (now / before)",
        ]
    formula = expression(schedule, group)
    if formula is None:
        raise UsageError("a chain with a member that is code cannot be followed")
    return _assign("rate", substitute(formula, _COUNT - origin))


def _assign(name: str, formula: Expression) -> list[str]:
    printer = Printer(PYTHON)
    text = printer.print(formula)
    return [*printer.lines, f"{name} = {text}"]


def _switch(form: Sequence, group: int, origin: Number) -> list[str]:
    lines = []
    for i, piece in reversed(list(enumerate(form.pieces))):
        begin_at = piece.begin + origin
        word = "if" if i == len(form.pieces) - 1 else "elif"
        if i > 0:
            formula = expression(piece.schedule, group)
            if formula is None:
                raise UsageError("a chain with a member that is code cannot be followed")
            first = _assign("rate", substitute(formula, _COUNT - (piece.origin + origin)))
            lines += [f"{word} count == {begin_at}:", *[f"    {line}" for line in first]]
            lines += [f"elif count > {begin_at}:"]
        else:
            lines += ["else:" if len(form.pieces) > 1 else "if True:"]
        body = _advance(piece.schedule, group, origin + piece.origin)
        lines += [f"    {line}" for line in body]
    return lines


def _cosine(form: Cosine, base: Number, origin: Number) -> list[str]:
    count = "count" if origin == 0 else f"(count - {origin})"
    steps, floor, height = repr(form.steps), repr(form.floor), repr(base - form.floor)
    wave = f"(1 + math.cos(math.pi * {{}} / {steps}))"
    return [
        f"if ({count} - 1 - {steps}) % (2 * {steps}) == 0:",
        f"    rate += {height} * (1 - math.cos(math.pi / {steps})) / 2",
        "else:",
        f"    now, before = {wave.format(count)}, {wave.format(f'({count} - 1)')}",
        f"    rate = now / before * (rate - {floor}) + {floor}",
    ]
