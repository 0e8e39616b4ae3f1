"""torch's learning-rate schedulers: recognized by the keys of their state dicts.

    StepLR step_size gamma              MultiStepLR milestones gamma     ConstantLR factor
    LinearLR start_factor               ExponentialLR gamma              PolynomialLR power
    CosineAnnealingLR T_max             CosineAnnealingWarmRestarts T_0  OneCycleLR _schedule_phases
    CyclicLR max_lrs                    ReduceLROnPlateau patience       SequentialLR _milestones
    ChainedScheduler _schedulers        LambdaLR, MultiplicativeLR lr_lambdas

read in torch/optim/lr_scheduler.py (1.1 to 2.13). A state dict has no class name; the keys are
distinct but for LambdaLR and MultiplicativeLR, both of which are code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Many
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from portackpt.errors import DamagedError, RefusedError, UsageError, located
from portackpt.schedules import (
    Chain,
    Code,
    Cosine,
    Cyclic,
    Exponential,
    Form,
    Held,
    Linear,
    Momentum,
    MultiStep,
    OneCycle,
    Piece,
    Plateau,
    PlateauState,
    Polynomial,
    Schedule,
    Sequence,
    Step,
    WarmRestarts,
)
from portackpt.schedules.expression import Number
from portackpt.tree import Node, Object
from portackpt_torch.dialect.schedule_states import state_of
from portackpt_torch.dialect.state_reader import Reader, is_narrow, mapping, number, sequence

FRAMEWORK = "pytorch"
MAX_NESTING = 16
MAX_MILESTONES = 4096


def is_scheduler(node: Node) -> bool:
    """Whether a node looks like the state dict of a learning-rate scheduler."""
    state = mapping(node)
    return state is not None and (
        ("last_epoch" in state and ("base_lrs" in state or "num_bad_epochs" in state))
        or "_schedulers" in state
    )


def lift(node: Node, groups: Many[Node] = ()) -> Schedule:
    """The schedule that a scheduler's state dict describes, at its position.

    `groups` are the param groups of the optimizer's state dict: what OneCycleLR needs, and a second
    checksum of the rates. A class that is not known is `Code`, with the reason.
    """
    return _lift(node, [mapping(group) or {} for group in groups], 0)


def _lift(node: Node, groups: list[dict[Node, Node]], depth: int) -> Schedule:
    if depth > MAX_NESTING:
        raise RefusedError(f"schedulers inside schedulers, more than {MAX_NESTING} deep")
    state = mapping(node)
    if state is None:
        raise DamagedError("expected the state dict of a scheduler, found something else")
    with _parsed():
        schedule = _read(Reader(state), groups, depth)
    if depth == 0 and groups and all("lr" in group for group in groups):
        rates = [number(group["lr"], f"param_groups[{i}].lr") for i, group in enumerate(groups)]
        if schedule.groups not in (0, len(rates)):
            raise DamagedError(
                f"the scheduler knows {schedule.groups} parameter groups, the optimizer has "
                f"{len(rates)}: they do not belong together"
            )
        narrow = any(is_narrow(group["lr"]) for group in groups)
        tolerance = 1e-4 if narrow else schedule.tolerance
        schedule = replace(schedule, live_lrs=tuple(rates), tolerance=tolerance)
    return replace(schedule, extras=_extras(schedule, state))


@contextmanager
def _parsed() -> Iterator[None]:
    """Parameters that no schedule has are a fault of the file."""
    try:
        yield
    except UsageError as error:
        raise DamagedError(error.message, *error.places) from error


def _read(reader: Reader, groups: list[dict[Node, Node]], depth: int) -> Schedule:
    if reader.has("_schedulers"):
        return _composite(reader, groups, depth)
    if reader.has("patience", "num_bad_epochs"):
        return _plateau(reader)
    rates = sequence(reader.state.get("_last_lr"))
    schedule = Schedule(
        Code("an unknown scheduler"),
        reader.number("last_epoch"),
        reader.numbers("base_lrs"),
        None if rates is None else reader.numbers("_last_lr"),
        tolerance=1e-4 if rates is not None and any(map(is_narrow, rates)) else 1e-9,
        framework=FRAMEWORK,
    )
    if schedule.last_lrs is not None:
        _each(schedule.last_lrs, len(schedule.base_lrs), "_last_lr")
    if reader.has("T_0", "T_cur"):
        return _restarts(reader, schedule)
    return replace(schedule, form=_form(reader, groups, len(schedule.base_lrs)))


def _form(reader: Reader, groups: list[dict[Node, Node]], count: int) -> Form:
    for keys, read in _FORMS:
        if reader.has(*keys):
            return read(reader, groups, count)
    known = (
        "base_lrs last_epoch _step_count _is_initial _get_lr_called_within_step _last_lr verbose"
    )
    own = sorted(str(key) for key in reader.state if str(key) not in known.split())
    return Code(f"a scheduler of an unknown class with the state {', '.join(own) or 'of any'}")


def _lambda(reader: Reader, groups: list[dict[Node, Node]], count: int) -> Form:
    return Code(
        "LambdaLR and MultiplicativeLR are Python functions of the training program; "
        "no checkpoint holds them"
    )


def _multi_step(reader: Reader, groups: list[dict[Node, Node]], count: int) -> Form:
    found = mapping(reader.state["milestones"])
    if found is None:
        raise DamagedError("expected a Counter of milestones", "milestones")
    if len(found) > MAX_MILESTONES:
        raise RefusedError(
            f"{len(found)} milestones, at most {MAX_MILESTONES} are read", "milestones"
        )
    times = [(number(m, "milestones"), number(n, f"milestones[{m}]")) for m, n in found.items()]
    if any(m != int(m) or n != int(n) for m, n in times):
        raise DamagedError("expected whole numbers", "milestones")
    return MultiStep(tuple([(int(m), int(n)) for m, n in times]), reader.number("gamma"))


def _cyclic(reader: Reader, groups: list[dict[Node, Node]], count: int) -> Form:
    moved = reader.flag("cycle_momentum")
    mode = reader.text("mode")
    expected = "iterations" if mode == "exp_range" else "cycle"
    custom = reader.state.get("_scale_fn_custom") is not None
    if custom or mode not in ("triangular", "triangular2", "exp_range") or (
        reader.state.get("scale_mode", expected) != expected
    ):  # fmt: skip
        return Code("CyclicLR with a scale_fn of its own, a function of the training program")
    highs = _each(reader.numbers("max_lrs"), count, "max_lrs")
    momentum = None
    if moved:
        low = _each(reader.numbers("base_momentums"), count, "base_momentums")
        high = _each(reader.numbers("max_momentums"), count, "max_momentums")
        momentum = Momentum(low, high, reader.flag("use_beta1"))
    return Cyclic(
        reader.number("total_size"),
        reader.number("step_ratio"),
        highs,
        mode,
        reader.number("gamma"),
        momentum,
    )


def _each(found: tuple[Number, ...], count: int, key: str) -> tuple[Number, ...]:
    if len(found) != count:
        raise DamagedError(f"expected one number for each of {count} groups, found {len(found)}",
                           key)  # fmt: skip
    return found


def _one_cycle(reader: Reader, groups: list[dict[Node, Node]], count: int) -> Form:
    phases = [mapping(phase) for phase in sequence(reader.state["_schedule_phases"]) or ()]
    ends = tuple([Reader(phase or {}).number("end_step") for phase in phases])
    momentum = None
    names = ["max_lr", "min_lr"]
    moved = reader.flag("cycle_momentum")
    if moved:
        names += ["base_momentum", "max_momentum"]
    if len(groups) != count or not all(name in group for group in groups for name in names):
        return Code(
            "OneCycleLR keeps max_lr, min_lr and its momenta in the optimizer's param groups, "
            "which are not in this checkpoint"
        )
    values = [_each(tuple([number(g[n], f"param_groups.{n}") for g in groups]), count, n)
              for n in names]  # fmt: skip
    if moved:
        momentum = Momentum(values[2], values[3], reader.flag("use_beta1"))
    curve = "linear" if _is_linear(reader.state) else "cosine"
    return OneCycle(reader.integer("total_steps"), ends, values[0], values[1], curve, momentum)


def _is_linear(state: Any) -> bool:
    # until torch 2.0 the annealing function itself was kept, by name
    found = state.get("_anneal_func_type", state.get("anneal_func"))
    names = [found]
    while isinstance(names[-1], Object) and names[-1].args:
        names.append(names[-1].args[-1])
    return any(str(n.type if isinstance(n, Object) else n).endswith("linear") for n in names)


_FORMS: tuple[tuple[tuple[str, ...], Callable[[Reader, list[dict[Node, Node]], int], Form]], ...]
_FORMS = (
    (("lr_lambdas",), _lambda),
    (("step_size", "gamma"), lambda r, g, n: Step(r.number("step_size"), r.number("gamma"))),
    (("milestones", "gamma"), _multi_step),
    (("max_lrs", "total_size"), _cyclic),
    (("_schedule_phases",), _one_cycle),
    (("T_max",), lambda r, g, n: Cosine(r.number("T_max"), r.number("eta_min"))),
    (
        ("start_factor", "end_factor"),
        lambda r, g, n: Linear(
            r.number("start_factor"), r.number("end_factor"), r.integer("total_iters")
        ),
    ),
    (("power", "total_iters"), lambda r, g, n: Polynomial(r.integer("total_iters"),
                                                          r.number("power"))),
    (("factor", "total_iters"), lambda r, g, n: Held(r.number("factor"),
                                                     r.integer("total_iters"))),
    (("gamma",), lambda r, g, n: Exponential(r.number("gamma"))),
)  # fmt: skip


def _restarts(reader: Reader, schedule: Schedule) -> Schedule:
    """CosineAnnealingWarmRestarts, whose T_cur tells a position within an epoch, too."""
    form = WarmRestarts(reader.integer("T_0"), reader.integer("T_mult"), reader.number("eta_min"))
    inside = reader.number("T_cur")
    whole = schedule.position
    if form.growth == 1:
        begin = whole // form.first * form.first
    else:
        begin = max([0, *[start for start in form.restarts() if start <= whole]])
    position = begin + inside if math.floor(begin + inside) == whole else whole
    return replace(schedule, form=form, position=position)


def _plateau(reader: Reader) -> Schedule:
    mode, relative = reader.text("mode"), reader.text("threshold_mode")
    best = reader.state.get("best")
    if not isinstance(best, float) or math.isfinite(best):
        best = reader.number("best")
    rates = reader.numbers("_last_lr") if reader.has("_last_lr") else None
    form = Plateau(
        reader.number("factor"),
        reader.integer("patience"),
        reader.number("threshold"),
        relative == "rel",
        mode == "max",
        reader.integer("cooldown"),
        reader.numbers("min_lrs"),
        reader.number("eps"),
    )
    state = PlateauState(best, reader.integer("num_bad_epochs"), reader.integer("cooldown_counter"))
    return Schedule(form, reader.number("last_epoch"), (), rates, plateau=state,
                    framework=FRAMEWORK)  # fmt: skip


def _composite(reader: Reader, groups: list[dict[Node, Node]], depth: int) -> Schedule:
    nodes = sequence(reader.state["_schedulers"])
    if not nodes:
        raise DamagedError("expected a list of schedulers", "_schedulers")
    children = []
    for i, node in enumerate(nodes):
        with located(f"_schedulers[{i}]"):
            children.append(_lift(node, groups, depth + 1))
    tolerance = max(child.tolerance for child in children)
    base = children[0].base_lrs
    for i, child in enumerate(children):
        _each(child.base_lrs, len(base), f"_schedulers[{i}].base_lrs")
    rates = None
    if reader.has("_last_lr"):
        rates = _each(reader.numbers("_last_lr"), len(base), "_last_lr")
    if not reader.has("_milestones"):
        position = children[0].position
        pieces = [Piece(child, 0, position - child.position) for child in children]
        form: Form = Chain(tuple(pieces))
    else:
        position = reader.number("last_epoch")
        begins = (0, *reader.numbers("_milestones"))
        if len(begins) != len(children):
            raise DamagedError(
                f"expected {len(children) - 1} milestones for {len(children)} schedulers, found "
                f"{len(begins) - 1}",
                "_milestones",
            )
        form = Sequence(tuple(_pieces(children, begins, position)))
    return Schedule(form, position, base, rates, tolerance=tolerance, framework=FRAMEWORK)


def _pieces(children: list[Schedule], begins: tuple[Number, ...], position: Number) -> list[Piece]:
    """The pieces of a sequence; where each counts from is told by the count it has."""
    active = sum(begin <= position for begin in begins[1:])
    found = []
    for i, (child, begin) in enumerate(zip(children, begins, strict=True)):
        if i == active:
            origin = position - child.position
        elif i < active:
            origin = begins[i + 1] - 1 - child.position
        else:
            origin = begin
        found.append(Piece(child, begin, origin))
    return found


def _extras(schedule: Schedule, state: dict[Node, Node]) -> dict[str, Any]:
    """What the neutral description does not give back as it was."""
    try:
        rebuilt = state_of(schedule)
    except UsageError:
        rebuilt = {}
    return {
        key: value
        for key, value in state.items()
        if key != "_schedulers" and not (key in rebuilt and _same(rebuilt[key], value))
    }


def _same(ours: Node, theirs: Node) -> bool:
    if isinstance(ours, Object):
        return mapping(ours) == mapping(theirs)
    if isinstance(ours, list):
        return (
            isinstance(theirs, list) and len(ours) == len(theirs) and all(map(_same, ours, theirs))
        )
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and [*ours] == [*theirs] and all(
            _same(ours[key], theirs[key]) for key in ours
        )  # fmt: skip
    return type(ours) is type(theirs) and ours == theirs
