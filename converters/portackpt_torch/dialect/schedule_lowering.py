"""Schedules as torch's: the class, the code that constructs it, the state dict it loads.

The order that restores a run: construct the scheduler (which writes initial rates into the
optimizer), load its state dict, then load the optimizer's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from portackpt.ledger import Fate
from portackpt.schedules import (
    UPDATES,
    Chain,
    Code,
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Form,
    Held,
    Linear,
    MultiStep,
    OneCycle,
    Piece,
    Plateau,
    Polynomial,
    Schedule,
    Sequence,
    Spelled,
    Step,
    WarmRestarts,
    continued,
    expression,
    unknown,
)
from portackpt.schedules.expression import PYTHON, Expression, Printer, literal
from portackpt.tree import Node
from portackpt_torch.dialect.schedule_states import class_of, groups_of, kind_of, state_of

FLOAT32 = 2e-7
"""What schedules that were computed in float32 differ by from torch's, relative to the highest."""
STAYS = "the learning rate stays as it is"


@dataclass(frozen=True, slots=True)
class Lowered:
    """A torch scheduler: its class, its state dict, what its param groups hold, and its code.

    `groups` have the rates and `initial_lr`; where the momentum is scheduled also `momentum` (or
    `beta1`, the first of the group's `betas`) and its bounds.
    """

    kind: str
    state: dict[Node, Node]
    groups: tuple[dict[str, Any], ...]
    spelled: Spelled


def lower(schedule: Schedule, name: str = "scheduler") -> Lowered:
    """torch's scheduler that goes on as `schedule` does; the code calls it `name`."""
    if isinstance(schedule.form, Code):
        return _lambda_again(schedule, name)
    own = schedule.framework == "pytorch" and kind_of(schedule) is not None
    if not own:
        schedule = replace(_flat(continued(schedule)), extras={})
    code = _Code()
    code.construct(schedule, name)
    text = "\n".join([*code.imports(), "", *code.lines])
    kind = kind_of(schedule) or "LambdaLR"
    spelled = _spelled(schedule, kind, own, text)
    return Lowered(kind, state_of(schedule), groups_of(schedule), spelled)


def _spelled(schedule: Schedule, kind: str, own: bool, code: str) -> Spelled:
    reason = "" if isinstance(schedule.form, Plateau) else unknown(schedule)
    details = [reason] if reason else []
    if schedule.clock != UPDATES:
        clock = schedule.clock
        details.append(f"step() is called {clock.ticks} times every {clock.per} updates")
    if own:
        details.insert(0, f"torch's own {kind}")
        return Spelled(code, Fate.EXACT, None, "; ".join(details))
    if reason:
        return Spelled(code, Fate.DROPPED, None, "; ".join(details), STAYS)
    if kind == "LambdaLR":
        details.insert(0, "no class of torch has this formula: LambdaLR with a function")
    foreign = schedule.framework not in (None, "pytorch")
    return Spelled(code, Fate.EQUIVALENT, FLOAT32 if foreign else 1e-12, "; ".join(details))


def _lambda_again(schedule: Schedule, name: str) -> Lowered:
    reason = unknown(schedule)
    code = f"# {name}: construct it as the training program did ({reason})"
    groups = groups_of(schedule) if schedule.base_lrs else ()
    if schedule.framework == "pytorch":
        spelled = Spelled(code, Fate.EXACT, None, reason)
        return Lowered("LambdaLR", state_of(schedule), groups, spelled)
    return Lowered("LambdaLR", {}, groups, Spelled(code, Fate.DROPPED, None, reason, STAYS))


def _flat(schedule: Schedule) -> Schedule:
    """The schedule with sequences inside sequences as pieces of one."""
    form = schedule.form
    if not isinstance(form, Sequence) or class_of(form):
        return schedule
    pieces: list[Piece] = []
    for i, piece in enumerate(form.pieces):
        inner = _flat(piece.schedule)
        last = form.pieces[i + 1].begin if i + 1 < len(form.pieces) else None
        if not isinstance(inner.form, Sequence):
            pieces.append(replace(piece, schedule=inner))
            continue
        for j, part in enumerate(inner.form.pieces):
            begin = piece.begin if j == 0 else max(piece.begin, part.begin + piece.origin)
            if last is None or begin < last or j == 0:
                pieces.append(Piece(part.schedule, begin, part.origin + piece.origin))
    return replace(schedule, form=Sequence(tuple(pieces)))


class _Code:
    """Statements that construct schedulers, and the classes they need."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._classes: set[str] = set()
        self._functions = 0

    def imports(self) -> list[str]:
        found = [f"from torch.optim.lr_scheduler import {', '.join(sorted(self._classes))}"]
        text = "\n".join(self.lines)
        if "bisect_right(" in text:
            found.insert(0, "from bisect import bisect_right\n")
        if "math." in text:
            found.insert(0, "import math" + ("" if "bisect_right(" in text else "\n"))
        return found

    def construct(self, schedule: Schedule, name: str) -> None:
        """Append the statements that define `name`."""
        form = schedule.form
        kind = kind_of(schedule)
        if isinstance(form, Sequence | Chain) and kind is not None:
            self._composite(form, kind, name)
        elif kind is not None:
            self._classes.add(kind)
            arguments = _arguments(form, schedule)
            listed = [f"{key}={literal(value)}" for key, value in arguments.items()]
            self.lines.append(f"{name} = {kind}({', '.join(['optimizer', *listed])})")
        else:
            self._lambda(schedule, name)

    def _composite(self, form: Sequence | Chain, kind: str, name: str) -> None:
        names = []
        for i, piece in enumerate(form.pieces):
            names.append(f"{name}_{i}")
            self.construct(piece.schedule, names[-1])
        self._classes.add(kind)
        listed = f"[{', '.join(names)}]"
        if isinstance(form, Sequence):
            begins = [piece.begin for piece in form.pieces[1:]]
            self.lines.append(f"{name} = {kind}(optimizer, {listed}, milestones={begins!r})")
        else:
            self.lines.append(f"{name} = {kind}({listed})")

    def _lambda(self, schedule: Schedule, name: str) -> None:
        """LambdaLR with a function of each group that differs."""
        self._classes.add("LambdaLR")
        if isinstance(schedule.form, Code):
            self.lines.append(
                f"{name} = LambdaLR(optimizer, lr_lambda=...)  # {schedule.form.reason}"
            )
            return
        bodies: dict[str, str] = {}
        for group in range(schedule.groups):
            body = _function(_factor(schedule, group))
            if body not in bodies:
                bodies[body] = f"factor_{self._functions}" if self._functions else "factor"
                self._functions += 1
                self.lines += [f"def {bodies[body]}(count):", *body.splitlines(), "", ""]
        names = [bodies[_function(_factor(schedule, g))] for g in range(schedule.groups)]
        given = names[0] if len({*names}) == 1 else f"[{', '.join(names)}]"
        self.lines.append(f"{name} = LambdaLR(optimizer, lr_lambda={given})")


def _factor(schedule: Schedule, group: int) -> Expression:
    base = schedule.base_lrs[group] if schedule.base_lrs else 0
    if schedule.form.scales:
        factor = schedule.form.rate(1.0, group)
        if factor is not None:
            return factor
    rate = expression(schedule, group)
    if rate is None:
        return 1.0
    return rate / base if base else rate


def _function(formula: Expression) -> str:
    printer = Printer(PYTHON)
    result = printer.print(formula)
    return "\n".join([f"    {line}" for line in [*printer.lines, f"return {result}"]])


def _one(values: tuple[Any, ...]) -> Any:
    """One value for all groups where it is the same, else the list of them."""
    return values[0] if len({*values}) == 1 else list(values)


def _arguments(form: Form, schedule: Schedule) -> dict[str, Any]:
    match form:
        case Constant():
            return {"factor": 1.0, "total_iters": 0}
        case Held():
            return {"factor": form.factor, "total_iters": form.steps}
        case Linear():
            return {"start_factor": form.start, "end_factor": form.end, "total_iters": form.steps}
        case Exponential():
            return {"gamma": form.gamma}
        case Step():
            return {"step_size": form.size, "gamma": form.gamma}
        case MultiStep():
            # a mapping to how often is what MultiStepLR makes of a list
            counts = dict(sorted(form.milestones))
            once = all(times == 1 for times in counts.values())
            return {"milestones": [*counts] if once else counts, "gamma": form.gamma}
        case Polynomial():
            return {"total_iters": form.steps, "power": form.power}
        case Cosine():
            return {"T_max": form.steps, "eta_min": form.floor}
        case WarmRestarts():
            return {"T_0": form.first, "T_mult": form.growth, "eta_min": form.floor}
        case OneCycle():
            return _one_cycle(form, schedule)
        case Cyclic():
            return _cyclic(form, schedule)
        case Plateau():
            return {
                "mode": "max" if form.maximize else "min",
                "factor": form.factor,
                "patience": form.patience,
                "threshold": form.threshold,
                "threshold_mode": "rel" if form.relative else "abs",
                "cooldown": form.cooldown,
                "min_lr": _one(form.smallest),
                "eps": form.eps,
            }
    raise AssertionError(f"no arguments for {form}")


def _one_cycle(form: OneCycle, schedule: Schedule) -> dict[str, Any]:
    base, peak, final = schedule.base_lrs[0], form.peaks[0], form.finals[0]
    found: dict[str, Any] = {
        "max_lr": _one(form.peaks),
        "total_steps": form.total,
        "pct_start": min(max(float(form.ends[0] + 1) / form.total, 0.0), 1.0),
        "anneal_strategy": "cos" if form.curve == "cosine" else "linear",
        "cycle_momentum": form.momentum is not None,
        "div_factor": peak / base if base else float("inf"),
        "final_div_factor": base / final if final else float("inf"),
        "three_phase": len(form.ends) == 3,
    }
    return {**found, **_momenta(form)}


def _momenta(form: OneCycle | Cyclic) -> dict[str, Any]:
    if form.momentum is None:
        return {}
    return {
        "base_momentum": _one(form.momentum.low),
        "max_momentum": _one(form.momentum.high),
    }


def _cyclic(form: Cyclic, schedule: Schedule) -> dict[str, Any]:
    up = form.up * form.size
    return {
        "base_lr": _one(schedule.base_lrs),
        "max_lr": _one(form.highs),
        "step_size_up": up,
        "step_size_down": form.size - up,
        "mode": form.mode,
        "gamma": form.gamma,
        "cycle_momentum": form.momentum is not None,
        **_momenta(form),
    }
