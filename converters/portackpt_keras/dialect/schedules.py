"""Schedules as Keras code: a LearningRateSchedule where one has the formula, else a small subclass.

Keras keeps a schedule as configuration (`{module, class_name, config}`) and counts with the
optimizer's `iterations`: updates, or micro-steps where gradients are accumulated. Its own classes
compute in float32; PiecewiseConstantDecay's boundaries are the last counts of a value, one less
than torch's milestones.
"""

from __future__ import annotations

from portackpt.ledger import Fate
from portackpt.schedules import (
    UPDATES,
    After,
    Constant,
    Cosine,
    Exponential,
    Form,
    Linear,
    MultiStep,
    Piecewise,
    Plateau,
    Polynomial,
    Schedule,
    Sequence,
    Spelled,
    continued,
    expression,
    momentum,
    unknown,
)
from portackpt.schedules.curves import InverseTime
from portackpt.schedules.expression import (
    COUNT,
    Expression,
    Number,
    Printer,
    Spelling,
    Term,
    literal,
    named,
    substitute,
    whole,
)
from portackpt.schedules.float32 import gentle
from portackpt.schedules.replay import HORIZON, table_code

FLOAT32 = 2e-7
"""How far rates computed in float32 are off, relative to the highest; float64 ones: 1e-12."""

OPS = Spelling(
    {"minimum": "ops.minimum", "maximum": "ops.maximum", "floor": "ops.floor",
     "ceil": "ops.ceil", "cos": "ops.cos", "exp": "ops.exp", "pi": "math.pi"},
    where=lambda condition, yes, no: f"ops.where({condition}, {yes}, {no})",
    lookup=lambda x, bounds, values:
        f"ops.take(ops.convert_to_tensor({values}, dtype), "
        f"ops.sum(ops.cast(ops.convert_to_tensor({bounds}, dtype) <= {x}, \"int32\")))",
    exponential=True,
)  # fmt: skip


def spell(
    schedule: Schedule, group: int = 0, name: str = "schedule", accumulation: int = 1
) -> Spelled:
    """Code that defines `name`, a learning rate for a Keras optimizer: the one of `group`.

    The count is the optimizer's `iterations`. With `gradient_accumulation_steps` these are
    micro-steps: `accumulation` says how many make an update. A plateau schedule becomes a callback.
    """
    if isinstance(schedule.form, Plateau):
        return spell_plateau(schedule, schedule.form, group, name)
    reason = unknown(schedule)
    if reason:
        current = schedule.current or schedule.base_lrs
        rate = current[group] if group < len(current) else 0.0
        return Spelled(f"{name} = {rate!r}  # {reason}", Fate.DROPPED, None, reason,
                       f"the learning rate stays at {rate!r}")  # fmt: skip
    where = schedule.position
    schedule = continued(schedule)
    base = schedule.base_lrs[group] if group < len(schedule.base_lrs) else 0.0
    plain = schedule.clock == UPDATES and accumulation == 1
    stock = _stock(schedule.form, base, group) if plain else None
    detail = f"Keras' iterations are the count; the schedule stands at {where}"
    if stock is not None:
        head = "" if isinstance(schedule.form, Constant) else "import keras\n\n"
        return Spelled(f"{head}{name} = {stock}", Fate.EQUIVALENT, FLOAT32, detail)
    formula = expression(schedule, group)
    if formula is None:
        code = _table(schedule, group, name, accumulation)
        detail += f"; a table of {HORIZON} rates, computed when the code runs"
        consequence = f"after {HORIZON} more ticks the rate stays"
        return Spelled(code, Fate.EQUIVALENT, FLOAT32, detail, consequence)
    code = _function(name, substitute(formula, _count(schedule, accumulation)))
    return Spelled(code, Fate.EQUIVALENT, FLOAT32, f"{detail}; a subclass, computed in floatx")


def spell_momentum(
    schedule: Schedule, group: int = 0, name: str = "momentum", accumulation: int = 1
) -> Spelled | None:
    """Code that defines `name`, a momentum (or first beta) of Keras' iterations, where it moves.

    Keras reads a momentum that is a number once, when its step is traced: the step has to ask.
    """
    formula = momentum(schedule, group)
    if formula is None:
        return None
    code = _function(name, substitute(formula, _count(schedule, accumulation)))
    return Spelled(code, Fate.EQUIVALENT, FLOAT32, "a function that the step of the class asks")


def _count(schedule: Schedule, accumulation: int) -> Expression:
    """The schedule's count as an expression of Keras' iterations."""
    clock = schedule.clock
    updates = whole(COUNT, accumulation) if accumulation != 1 else COUNT
    if clock == UPDATES:
        return updates if updates == COUNT else named("updates", updates)
    ticks: Expression = updates * clock.ticks + clock.shift
    if clock.per != 1 and isinstance(ticks, Term):
        ticks = whole(ticks, clock.per)
    return named("ticks", ticks)


def _class(name: str) -> str:
    return "".join([part.capitalize() for part in name.split("_")])


def _function(name: str, formula: Expression) -> str:
    printer = Printer(OPS)
    result = printer.print(formula)
    if "count" not in result and not printer.lines:
        result = f"ops.convert_to_tensor({result}, dtype)"
    return _subclass(name, [*printer.lines, f"return {result}"])


def _table(schedule: Schedule, group: int, name: str, accumulation: int) -> str:
    start = 0 if schedule.current is None else schedule.position
    printer = Printer(OPS)
    place = printer.print(substitute(COUNT - start, _count(schedule, accumulation)))
    body = [
        *printer.lines,
        f'place = ops.cast(ops.clip({place}, 0, {HORIZON - 1}), "int32")',
        f"return ops.take(ops.convert_to_tensor({name}_table, dtype), place)",
    ]
    table = table_code(schedule, group, f"{name}_table")
    return _subclass(name, body, f"{table}\n{name}_table = np.array({name}_table)\n\n\n")


def _subclass(name: str, body: list[str], before: str = "") -> str:
    """A schedule whose `__call__` has the statements `body`, on `count` and `dtype`."""
    text = "\n".join(
        [
            "@keras.saving.register_keras_serializable()",
            f"class {_class(name)}(keras.optimizers.schedules.LearningRateSchedule):",
            "    def __call__(self, step):",
            "        dtype = keras.config.floatx()",
            "        count = ops.cast(step, dtype)",
            *[f"        {line}" for line in body],
            "",
            "    def get_config(self):",
            "        return {}",
            "",
            "",
            f"{name} = {_class(name)}()",
        ]
    )
    return f"{_imports(before + text)}\n\n\n{before}{text}"


def _imports(text: str) -> str:
    found = ["import keras", "from keras import ops"]
    if "np.array(" in text:
        found.insert(1, "import numpy as np")
    if "math." in text:
        found.insert(0, "import math\n")
    if "bisect_right(" in text:
        found.insert(0, "from bisect import bisect_right")
    return "\n".join(found)


def _stock(form: Form, base: Number, group: int) -> str | None:
    """The class of Keras that has this formula, if one has.

    Left out are staircases, which compiled by XLA fall a count too late for some step sizes (41,
    47, 55, …), polynomials of a fractional power, which compiled may end in nan, and
    CosineDecayRestarts, whose float32 loses the place within a cycle late in a run.
    """
    match form:
        case Constant():
            return literal(base)
        case Linear(steps=steps) if steps > 0:
            return _call("PolynomialDecay", base * form.start, decay_steps=steps,
                         end_learning_rate=base * form.end, power=1.0)  # fmt: skip
        case Polynomial(steps=steps, begin=0, cycle=False, power=power) if (
            steps > 0 and power % 1 == 0
        ):
            return _call("PolynomialDecay", base, decay_steps=steps,
                         end_learning_rate=form.end, power=power)  # fmt: skip
        case Exponential(gamma=gamma, begin=0, limit=None, staircase=False) if gamma > 0:
            decay, length = gentle(gamma, form.steps)
            return _call("ExponentialDecay", base, decay_steps=length, decay_rate=decay)
        case MultiStep() | Piecewise():
            rate = form.rate(base, group)
            if isinstance(rate, Term):
                _, bounds, values = rate.parts
                last = [bound - 1 for bound in bounds]  # Keras asks step <= boundary
                return (
                    "keras.optimizers.schedules.PiecewiseConstantDecay("
                    f"boundaries={last!r}, values={list(values)!r})"
                )
            return literal(rate)
        case Cosine(after=After.CLAMP, exponent=1) if base != 0:
            return _call("CosineDecay", base, decay_steps=form.steps, alpha=form.floor / base)
        case InverseTime(staircase=False):
            return _call("InverseTimeDecay", base, decay_steps=form.steps,
                         decay_rate=form.decay)  # fmt: skip
        case Sequence(pieces=(_, _)):
            return _warm_cosine(form, group)
    return None


def _call(kind: str, base: Number, **arguments: object) -> str:
    listed = [f"initial_learning_rate={base!r}", *[f"{k}={v!r}" for k, v in arguments.items()]]
    return f"keras.optimizers.schedules.{kind}({', '.join(listed)})"


def _warm_cosine(form: Sequence, group: int) -> str | None:
    """A linear warm-up, then a cosine that stays at its floor: CosineDecay has both."""
    first, second = form.pieces
    warmup, cosine = first.schedule.form, second.schedule.form
    if not isinstance(warmup, Linear) or not isinstance(cosine, Cosine):
        return None
    start, peak = first.schedule.base_lrs[group], second.schedule.base_lrs[group]
    fits = (
        first.origin == 0
        and second.origin == second.begin == warmup.steps > 0
        and cosine.after is After.CLAMP
        and cosine.exponent == 1
        and start * warmup.end == peak != 0
    )
    if not fits:
        return None
    return _call("CosineDecay", start * warmup.start, decay_steps=cosine.steps,
                 alpha=cosine.floor / peak, warmup_target=peak,
                 warmup_steps=warmup.steps)  # fmt: skip


def spell_plateau(schedule: Schedule, form: Plateau, group: int, name: str) -> Spelled:
    """A callback that goes on with the plateau's counters, which no Keras file keeps.

    Keras counts the waiting from the other end, and its cooldown one shorter: patience is one
    more, a cooldown too. Its threshold is absolute: a relative one is a method of the subclass.
    """
    state = schedule.plateau or form.start
    mode = "max" if form.maximize else "min"
    smallest = form.smallest[min(group, len(form.smallest) - 1)]
    cooldown = form.cooldown + 1 if form.cooldown else 0
    left = state.cooldown + 1 if state.cooldown else 0
    arguments = (
        f"monitor=monitor, mode={mode!r}, factor={form.factor!r}, patience={form.patience + 1}, "
        f"min_delta={form.threshold if not form.relative else 0.0!r}, cooldown={cooldown}, "
        f"min_lr={smallest!r}"
    )
    lines = [
        "import keras",
        "",
        "",
        f"class {_class(name)}(keras.callbacks.ReduceLROnPlateau):",
        "    def on_train_begin(self, logs=None):",
        "        super().on_train_begin(logs)",
        f"        self.best = {literal(state.best)}",
        f"        self.wait = {state.bad}",
        f"        self.cooldown_counter = {left}",
    ]
    if form.relative:
        sign, factor = (">", 1.0 + form.threshold) if form.maximize else ("<", 1.0 - form.threshold)
        lines += [
            "",
            "    def _is_improvement(self, monitor_value, reference_value):",
            f"        return monitor_value {sign} reference_value * {factor!r}",
        ]
    lines += ["", "", 'monitor = "val_loss"', f"{name} = {_class(name)}({arguments})"]
    detail = "a callback of fit(); the learning rate itself is the optimizer's"
    if form.eps:
        detail += f"; torch leaves out a change of {form.eps!r} or less"
    return Spelled("\n".join(lines), Fate.EQUIVALENT, FLOAT32, detail)
