"""What torch's scheduler classes keep: the keys of each, and its state dict from a schedule.

A state dict is the object's `__dict__` without the optimizer: configuration and state together, no
class name. Rates that OneCycleLR moves between, and the momentum, are in the optimizer's groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from portackpt.schedules import (
    After,
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
    Plateau,
    Polynomial,
    Schedule,
    Sequence,
    Step,
    WarmRestarts,
    evaluate,
    momentum,
    value,
)
from portackpt.tree import Node, Object


def class_of(form: Form) -> str | None:
    """The torch class whose formula this is; None where none has it (LambdaLR can be anything)."""
    match form:
        case Constant():
            return "ConstantLR"
        case Held(factor=factor) if 0 < factor <= 1:
            return "ConstantLR"
        case Linear(start=start, end=end) if 0 < start <= 1 and 0 <= end <= 1:
            return "LinearLR"
        case Exponential(begin=0, limit=None, steps=1, staircase=False):
            return "ExponentialLR"
        case Step(size=int()):
            return "StepLR"
        case MultiStep():
            return "MultiStepLR"
        case Polynomial(end=end, begin=0, cycle=False) if end == 0:
            return "PolynomialLR"
        case Cosine(after=After.CONTINUE, exponent=1):
            return "CosineAnnealingLR"
        case WarmRestarts(first=int(), growth=int(), shrink=1):
            return "CosineAnnealingWarmRestarts"
        case OneCycle():
            return "OneCycleLR"
        case Cyclic():
            return "CyclicLR"
        case Plateau():
            return "ReduceLROnPlateau"
        case Sequence() if _constructible(form):
            return "SequentialLR"
        case Chain(pieces=pieces) if all(class_of(p.schedule.form) for p in pieces):
            return "ChainedScheduler"
    return None


def kind_of(schedule: Schedule) -> str | None:
    """The class of the schedule; what torch itself composed it goes on composing."""
    if schedule.framework == "pytorch" and isinstance(schedule.form, Sequence | Chain):
        return "SequentialLR" if isinstance(schedule.form, Sequence) else "ChainedScheduler"
    return class_of(schedule.form)


def _constructible(sequence: Sequence, nested: bool = False) -> bool:
    """Whether SequentialLR can run the pieces: it restarts all but the first by a closed form.

    A sequence inside another's first place counts one ahead of it: its constructor is stepped once
    more than the children that are taken back.
    """
    first, *rest = sequence.pieces
    form = first.schedule.form
    if isinstance(form, Sequence):
        fits = not nested and first.origin == -1 and _constructible(form, nested=True)
    else:
        fits = first.origin == int(nested) and _stock(form)
    return fits and all(
        piece.origin == piece.begin
        and _stock(piece.schedule.form)
        and not isinstance(piece.schedule.form, Sequence | Chain)
        for piece in rest
    )


def _stock(form: Form) -> bool:
    return isinstance(form, Code) or class_of(form) not in (None, "ReduceLROnPlateau")


def state_of(schedule: Schedule) -> dict[Node, Node]:
    """The state dict of the scheduler; the form has a class, or is LambdaLR's."""
    form = schedule.form
    if isinstance(form, Plateau):
        state = _plateau(schedule, form)
    elif isinstance(form, Sequence | Chain) and kind_of(schedule) is not None:
        state = {"_last_lr": list(rates(schedule))}
        if isinstance(form, Sequence):
            begins = [piece.begin for piece in form.pieces[1:]]
            state = {"_milestones": begins, "last_epoch": schedule.position, **state}
        state |= {k: v for k, v in schedule.extras.items() if k not in state}
        state["_schedulers"] = [state_of(piece.schedule) for piece in form.pieces]
    else:
        state = _configuration(form, schedule)
        state |= {
            "base_lrs": list(schedule.base_lrs),
            "last_epoch": math.floor(schedule.position),
            "_step_count": _step_count(schedule),
            "_is_initial": False,
            "_get_lr_called_within_step": False,
            "_last_lr": list(rates(schedule)),
        }
        if isinstance(form, Cyclic):
            state["_scale_fn_custom"] = None
        if class_of(form) is None and not isinstance(form, Code):
            state["lr_lambdas"] = [None] * len(schedule.base_lrs)
    return {**state, **schedule.extras}


def rates(schedule: Schedule) -> tuple[Any, ...]:
    """The rates noted last: as they were found, else as the formula gives them."""
    if schedule.last_lrs is not None:
        return schedule.last_lrs
    position = max(schedule.position, 0)
    return tuple([value(schedule, position, group) for group in range(schedule.groups)])


def _step_count(schedule: Schedule) -> int:
    if class_of(schedule.form) == "CosineAnnealingWarmRestarts":
        return 0  # its own step() does not count
    return max(math.floor(schedule.position), 0) + 1


def _configuration(form: Form, schedule: Schedule) -> dict[Node, Node]:
    match form:
        case Constant():
            return {"factor": 1.0, "total_iters": 0}
        case Held():
            return {"factor": form.factor, "total_iters": form.steps}
        case Linear():
            return {
                "start_factor": form.start,
                "end_factor": form.end,
                "total_iters": form.steps,
            }
        case Exponential(begin=0, limit=None, steps=1, staircase=False):
            return {"gamma": form.gamma}
        case Step():
            return {"step_size": form.size, "gamma": form.gamma}
        case MultiStep():
            counts = Object("collections.Counter", entries=dict(form.milestones))
            return {"milestones": counts, "gamma": form.gamma}
        case Polynomial(end=end, begin=0, cycle=False) if end == 0:
            return {"total_iters": form.steps, "power": form.power}
        case Cosine(after=After.CONTINUE, exponent=1):
            return {"T_max": form.steps, "eta_min": form.floor}
        case WarmRestarts(first=int(), growth=int(), shrink=1):
            return _restarts(form, schedule)
        case OneCycle():
            return _one_cycle(form)
        case Cyclic():
            return _cyclic(form, len(schedule.base_lrs))
    return {}


def _restarts(form: WarmRestarts, schedule: Schedule) -> dict[Node, Node]:
    position = max(schedule.position, 0)
    if form.growth == 1:
        begin, length = position // form.first * form.first, form.first
    else:
        passed = [start for start in form.restarts() if start <= position]
        begin = passed[-1] if passed else 0
        length = form.first * form.growth ** len(passed)
    return {
        "T_0": form.first,
        "T_i": length,
        "T_mult": form.growth,
        "eta_min": form.floor,
        "T_cur": position - begin,
    }


_PHASES = {
    2: (("initial_lr", "max_lr", "max_momentum", "base_momentum"),
        ("max_lr", "min_lr", "base_momentum", "max_momentum")),
    3: (("initial_lr", "max_lr", "max_momentum", "base_momentum"),
        ("max_lr", "initial_lr", "base_momentum", "max_momentum"),
        ("initial_lr", "min_lr", "max_momentum", "max_momentum")),
}  # fmt: skip


def _one_cycle(form: OneCycle) -> dict[Node, Node]:
    names = ("start_lr", "end_lr", "start_momentum", "end_momentum")
    phases = [
        {"end_step": end, **dict(zip(names, rest, strict=True))}
        for end, rest in zip(form.ends, _PHASES[len(form.ends)], strict=True)
    ]
    state: dict[Node, Node] = {
        "total_steps": form.total,
        "_schedule_phases": phases,
        "_anneal_func_type": "cos" if form.curve == "cosine" else "linear",
        "cycle_momentum": form.momentum is not None,
    }
    return state if form.momentum is None else {**state, "use_beta1": form.momentum.beta}


def _cyclic(form: Cyclic, groups: int) -> dict[Node, Node]:
    state: dict[Node, Node] = {
        "max_lrs": list(form.highs),
        "total_size": form.size,
        "step_ratio": form.up,
        "mode": form.mode,
        "gamma": form.gamma,
        "scale_mode": "iterations" if form.mode == "exp_range" else "cycle",
        "cycle_momentum": form.momentum is not None,
    }
    if form.momentum is not None:
        state |= {
            "use_beta1": form.momentum.beta,
            "base_momentums": list(form.momentum.low),
            "max_momentums": list(form.momentum.high),
        }
    return state


def _plateau(schedule: Schedule, form: Plateau) -> dict[Node, Node]:
    memory = schedule.plateau or form.start
    same = len({*form.smallest}) == 1
    return {
        "factor": form.factor,
        "default_min_lr": form.smallest[0] if same else None,
        "min_lrs": list(form.smallest),
        "patience": form.patience,
        "cooldown": form.cooldown,
        "eps": form.eps,
        "last_epoch": schedule.position,
        "_last_lr": list(schedule.last_lrs or schedule.current or ()),
        "mode_worse": -math.inf if form.maximize else math.inf,
        "mode": "max" if form.maximize else "min",
        "threshold": form.threshold,
        "threshold_mode": "rel" if form.relative else "abs",
        "best": memory.best,
        "cooldown_counter": memory.cooldown,
        "num_bad_epochs": memory.bad,
    }


def groups_of(schedule: Schedule) -> tuple[dict[str, Any], ...]:
    """What the scheduler also keeps in each of the optimizer's parameter groups."""
    current = schedule.current or rates(schedule)
    found: list[dict[str, Any]] = []
    for group, rate in enumerate(current):
        entry: dict[str, Any] = {"lr": rate}
        if not isinstance(schedule.form, Plateau):
            entry["initial_lr"] = schedule.base_lrs[group]
        for part in _parts(schedule):
            entry |= _bounds(part, group)
        formula = momentum(schedule, group)
        if formula is not None:
            key = "beta1" if entry.pop("beta") else "momentum"
            entry[key] = evaluate(formula, schedule.position)
        found.append(entry)
    return tuple(found)


def _parts(schedule: Schedule) -> Iterator[Schedule]:
    yield schedule
    if isinstance(schedule.form, Sequence | Chain):
        for piece in schedule.form.pieces:
            yield from _parts(piece.schedule)


def _bounds(schedule: Schedule, group: int) -> dict[str, Any]:
    """What OneCycleLR and CyclicLR write into a group when they are constructed."""
    form = schedule.form
    found: dict[str, Any] = {}
    if isinstance(form, OneCycle):
        found |= {
            "initial_lr": schedule.base_lrs[group],
            "max_lr": form.peaks[group],
            "min_lr": form.finals[group],
        }
    if isinstance(form, OneCycle | Cyclic) and form.momentum is not None:
        found |= {
            "max_momentum": form.momentum.high[group],
            "base_momentum": form.momentum.low[group],
            "beta": form.momentum.beta,
        }
    return found
