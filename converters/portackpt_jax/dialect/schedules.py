"""Schedules as optax code: a constructor of optax where one has the formula, else a function.

optax keeps no schedule in a checkpoint, only counts; the code is the schedule, its `count` the
position. A count is an int32 there, and optax divides it in float32 even where jax_enable_x64 is
on: the printed function turns it into a float of the default precision first.
"""

from __future__ import annotations

import itertools
import math

from portackpt.ledger import Fate
from portackpt.schedules import (
    UPDATES,
    After,
    Clock,
    Constant,
    Cosine,
    Exponential,
    Form,
    Interpolated,
    Linear,
    MultiStep,
    OneCycle,
    Piecewise,
    Plateau,
    PlateauState,
    Polynomial,
    Schedule,
    Sequence,
    Spelled,
    continued,
    expression,
    momentum,
    unknown,
)
from portackpt.schedules.expression import Expression, Number, Printer, Spelling, literal
from portackpt.schedules.float32 import gentle
from portackpt.schedules.forms import power as to_the
from portackpt.schedules.replay import HORIZON, table_code

FLOAT32 = 2e-7
"""How far rates computed in float32 are off, relative to the highest; float64 ones: 1e-12."""
PRECISION = "float32 computes it to 2e-7 of the highest rate, float64 (jax_enable_x64) to 1e-12"

JNP = Spelling(
    {"minimum": "jnp.minimum", "maximum": "jnp.maximum", "floor": "jnp.floor",
     "ceil": "jnp.ceil", "cos": "jnp.cos", "exp": "jnp.exp", "pi": "jnp.pi"},
    where=lambda condition, yes, no: f"jnp.where({condition}, {yes}, {no})",
    lookup=lambda x, bounds, values:
        f'jnp.asarray({values})[jnp.searchsorted(jnp.asarray({bounds}), {x}, side="right")]',
    exponential=True,
)  # fmt: skip


def spell(schedule: Schedule, group: int = 0, name: str = "schedule") -> Spelled:
    """Code that defines the function `name(count)`: the rate of `group`'s update number `count`.

    A plateau schedule is no function of the count: see `spell_plateau`, which this calls.
    """
    if isinstance(schedule.form, Plateau):
        return spell_plateau(schedule, schedule.form, group, name)
    reason = unknown(schedule)
    if reason:
        current = schedule.current or schedule.base_lrs
        rate = current[group] if group < len(current) else 0.0
        return Spelled(
            f"import optax\n\n{name} = optax.constant_schedule({rate!r})  # {reason}",
            Fate.DROPPED,
            None,
            reason,
            f"the learning rate stays at {rate!r}",
        )
    schedule = continued(schedule)
    code = _Code()
    inner = code.define(schedule, group, f"{name}_of_float")
    text = "\n".join([*code.lines, *_entrance(name, inner, schedule.clock)])
    text = f"{_imports(text)}\n{text}"
    detail, consequence = PRECISION, ""
    if code.tabled:
        detail += f"; a table of {HORIZON} rates, computed when the code runs"
        consequence = f"after {HORIZON} more ticks the rate stays"
    if isinstance(schedule.form, OneCycle):
        detail += "; past the last count the rate stays, where torch raises an error"
    return Spelled(text, Fate.EQUIVALENT, FLOAT32, detail, consequence)


def spell_momentum(schedule: Schedule, group: int = 0, name: str = "momentum") -> Spelled | None:
    """Code that defines `name(count)`, the momentum (or first beta) that goes with the rate.

    Given to `optax.inject_hyperparams(optax.sgd)(..., momentum=momentum)` (or `b1=`). None where
    the schedule leaves the momentum alone.
    """
    formula = momentum(schedule, group)
    if formula is None:
        return None
    code = _Code()
    code.function(f"{name}_of_float", formula)
    text = "\n".join([*code.lines, *_entrance(name, f"{name}_of_float", schedule.clock)])
    return Spelled(f"{_imports(text)}\n{text}", Fate.EQUIVALENT, FLOAT32, PRECISION)


def _imports(text: str) -> str:
    found = ["import jax.numpy as jnp"]
    if "math." in text:
        found.insert(0, "import math")
    if "np.array(" in text:
        found.append("import numpy as np")
    if "optax." in text:
        found.append("import optax")
    if "bisect_right(" in text:
        found.insert(0, "from bisect import bisect_right")
    return "\n".join([*found, "", ""] if text.startswith("def ") else [*found, ""])


def _entrance(name: str, inner: str, clock: Clock) -> list[str]:
    """The function that is given optax' count."""
    count = "count"
    if clock != UPDATES:
        count = f"({_ticks(clock)}) // {clock.per}" if clock.per != 1 else _ticks(clock)
    return [
        f"def {name}(count):",
        f"    return {inner}(jnp.asarray({count}, float))",
    ]


def _ticks(clock: Clock) -> str:
    text = "count" if clock.ticks == 1 else f"count * {clock.ticks}"
    return text if clock.shift == 0 else f"{text} + {clock.shift}"


class _Code:
    """Statements that define schedules of a float count, inner ones first."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tabled = False

    def define(self, schedule: Schedule, group: int, name: str) -> str:
        """Append what defines `name`, and return it."""
        form = schedule.form
        base = schedule.base_lrs[group] if group < len(schedule.base_lrs) else 0.0
        stock = _stock(form, base, group)
        if isinstance(form, Sequence):
            self._sequence(form, group, name)
        elif stock is not None:
            self.lines += [f"{name} = {stock}", "", ""]
        else:
            formula = expression(schedule, group)
            if formula is None:
                self._table(schedule, group, name)
            else:
                self.function(name, formula)
        return name

    def function(self, name: str, formula: Expression) -> None:
        printer = Printer(JNP)
        result = printer.print(formula)
        if "count" not in "".join([*printer.lines, result]):
            result = f"jnp.full_like(count, {result})"
        body = [*printer.lines, f"return {result}"]
        self.lines += [f"def {name}(count):", *[f"    {line}" for line in body], "", ""]

    def _sequence(self, form: Sequence, group: int, name: str) -> None:
        parts = []
        for i, piece in enumerate(form.pieces):
            part = self.define(piece.schedule, group, f"{name}_{i}")
            # join_schedules counts each from its boundary
            ahead = piece.begin - piece.origin if i > 0 else -piece.origin
            parts.append(part if ahead == 0 else f"lambda count: {part}(count + {ahead})")
        begins = [piece.begin for piece in form.pieces[1:]]
        listed = ", ".join(parts)
        self.lines += [
            f"{name} = optax.join_schedules([{listed}], boundaries={begins!r})",
            "",
            "",
        ]

    def _table(self, schedule: Schedule, group: int, name: str) -> None:
        self.tabled = True
        start = 0 if schedule.current is None else schedule.position
        self.lines += [
            *table_code(schedule, group, f"{name}_table").splitlines(),
            f"{name}_table = jnp.asarray(np.array({name}_table))",
            "",
            "",
            f"def {name}(count):",
            f"    place = jnp.asarray(count, int) - {start}",
            f"    return {name}_table[jnp.clip(place, 0, {HORIZON - 1})]",
            "",
            "",
        ]


def _stock(form: Form, base: Number, group: int) -> str | None:
    """The constructor of optax that has this formula, if one has.

    Left out are `exponential_decay(staircase=True)`, which compiled by XLA falls a count too late
    for some step sizes (41, 47, 55, …), and `polynomial_schedule` of a fractional power, which
    compiled may end in a power of a number below 0: nan.
    """
    match form:
        case Constant():
            return f"optax.constant_schedule({base!r})"
        case Linear(steps=steps) if steps > 0:
            return _call("linear_schedule", init_value=base * form.start,
                         end_value=base * form.end, transition_steps=steps)  # fmt: skip
        case Polynomial(steps=steps, cycle=False, power=power) if steps > 0 and power % 1 == 0:
            if form.begin < 0:
                return None
            begin = {"transition_begin": form.begin} if form.begin > 0 else {}
            return _call("polynomial_schedule", init_value=base, end_value=form.end,
                         power=form.power, transition_steps=steps, **begin)  # fmt: skip
        case Exponential(gamma=gamma, begin=begin, staircase=False) if gamma > 0 and begin >= 0:
            return _exponential(form, base)
        case MultiStep(gamma=gamma) if gamma >= 0:
            times = [(m, n) for m, n in sorted(form.milestones) if m >= 0 and n > 0]
            return _piecewise({m: to_the(gamma, n) for m, n in times}, base)
        case Piecewise(factors=factors) if all(factor > 0 for factor in factors):
            pairs = itertools.pairwise(factors)
            scales = [after / before for before, after in pairs]
            if len({*form.boundaries}) == len(scales):
                scaled = base * factors[0]
                return _piecewise(dict(zip(form.boundaries, scales, strict=True)), scaled)
        case Cosine(after=After.CLAMP, exponent=exponent) if base != 0:
            shape = {} if exponent == 1 else {"exponent": exponent}
            return _call("cosine_decay_schedule", init_value=base, decay_steps=form.steps,
                         alpha=form.floor / base, **shape)  # fmt: skip
        case OneCycle():
            cycle = form.interpolated(base, group)
            return None if cycle is None else _interpolated(cycle, base)
        case Interpolated():
            return _interpolated(form, base)
    return None


def _call(function: str, **arguments: object) -> str:
    return f"optax.{function}({', '.join([f'{k}={v!r}' for k, v in arguments.items()])})"


def _exponential(form: Exponential, base: Number) -> str:
    gamma, steps = gentle(form.gamma, form.steps)
    more: dict[str, object] = {}
    if form.begin:
        more["transition_begin"] = form.begin
    if form.limit is not None:
        more["end_value"] = form.limit
    return _call("exponential_decay", init_value=base, transition_steps=steps,
                 decay_rate=gamma, **more)  # fmt: skip


def _piecewise(scales: dict[int, Number], base: Number) -> str:
    return _call("piecewise_constant_schedule", init_value=base, boundaries_and_scales=scales)


def _interpolated(form: Interpolated, base: Number) -> str | None:
    starts = (0, *form.boundaries)
    if any(factor <= 0 for factor in form.factors[:-1]) or form.factors[-1] < 0:
        return None
    if any(b - a < 1 for a, b in zip(starts, form.boundaries, strict=False)):
        return None  # optax takes shorter intervals for 1
    pairs = itertools.pairwise(form.factors)
    scales = dict(zip(form.boundaries, [b / a for a, b in pairs], strict=True))
    return (
        f"optax.piecewise_interpolate_schedule({form.curve!r}, {base * form.factors[0]!r}, "
        f"{scales!r})"
    )


def spell_plateau(schedule: Schedule, form: Plateau, group: int, name: str) -> Spelled:
    """Code that builds `optax.contrib.reduce_on_plateau` as `name`, and its state `name_state`.

    optax reduces on the observation at which `patience` is reached, torch on the next: patience is
    one more. It multiplies updates by a scale, torch the rate: the rate of the optimizer has to be
    the first one. optax only minimizes: a metric to maximize is given with its sign turned (an
    absolute threshold) or as its inverse (a relative one).
    """
    state = schedule.plateau or form.start
    rates = schedule.current or schedule.base_lrs
    rate = float(rates[group]) if group < len(rates) else 0.0
    base = schedule.base_lrs[group] if group < len(schedule.base_lrs) else rate
    smallest = form.smallest[min(group, len(form.smallest) - 1)]
    rtol, atol, best, fed = _thresholds(form, state)
    lines = [
        f"{name} = optax.contrib.reduce_on_plateau(factor={form.factor!r}, "
        f"patience={form.patience + 1}, rtol={rtol!r}, atol={atol!r}, "
        f"cooldown={form.cooldown}, min_scale={smallest / base if base else 0.0!r})",
        f"{name}_state = {name}.init(jnp.zeros((), float))._replace(",
        f"    scale=jnp.asarray({rate / base if base else 1.0!r}, float),",
        f"    best_value=jnp.asarray({literal(best)}, float),",
        f"    plateau_count=jnp.asarray({state.bad}, jnp.int32),",
        f"    cooldown_count=jnp.asarray({state.cooldown}, jnp.int32),",
        ")",
        "# once for each metric, where torch calls scheduler.step(metric):",
        f"# _, {name}_state = {name}.update(jnp.zeros(()), {name}_state, value={fed})",
        f"# learning rate = {base!r} * {name}_state.scale",
    ]
    detail = "patience is one more than torch's; metrics are compared in the default precision"
    if form.maximize and form.relative:
        detail += "; holds for metrics above 0"
    if form.eps:
        detail += f"; torch leaves out a last change of {form.eps!r} or less"
    text = "import jax.numpy as jnp\nimport optax\n\n" + "\n".join(lines)
    return Spelled(text, Fate.EQUIVALENT, FLOAT32, detail)


def _thresholds(form: Plateau, state: PlateauState) -> tuple[Number, Number, Number, str]:
    """rtol, atol, the best metric, and what is fed, in optax' terms."""
    if form.relative:
        if not form.maximize:
            rtol, atol = form.threshold, 0.0
            best, fed = state.best, "metric"
        else:
            rtol, atol = form.threshold / (1 + form.threshold), 0.0
            best = math.inf if math.isinf(state.best) or state.best == 0 else 1 / state.best
            fed = "1 / metric"
    else:
        rtol, atol = 0.0, form.threshold
        best, fed = (-state.best, "-metric") if form.maximize else (state.best, "metric")
    if rtol == 0 and atol == 0:
        atol = 1e-300  # optax wants one above 0
    return rtol, atol, best, fed


def _literal(value: Number) -> str:
    return f'float("{value}")' if math.isinf(value) else repr(value)
