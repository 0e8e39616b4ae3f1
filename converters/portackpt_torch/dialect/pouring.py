"""A run in the places of a template: a checkpoint that the target's program wrote itself.

Its names, nesting, numbering and groups stay; the values of parameters, slots, counts and options
are the run's. A template from before training has no slots: they are put where torch keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from portackpt.elementwise import cast
from portackpt.errors import AmbiguousError, UsageError
from portackpt.ledger import NONE, Fate
from portackpt.models import identity
from portackpt.moved import Lowered, Moved, MovedOptimizer, MovedRun, Template, created, placed
from portackpt.optimizers import Group, Optimizer
from portackpt.run import Scheduled, at
from portackpt.schedules.regrouping import regrouped
from portackpt.tensor import Tensor
from portackpt.tree import Node, assemble, children, escape, rebuild, walk
from portackpt_torch.dialect.lowering import Places, Trained, code, model, notes
from portackpt_torch.dialect.state_reader import mapping

_KEPT = "an option of the template's program"
_ANEW = "the optimizer starts anew"


def regroup(run: MovedRun, like: Template) -> tuple[MovedRun, tuple[Optimizer, ...]]:
    """`run` with its optimizers' parameters in the groups of the template's, and those.

    What the source does not say of a hyperparameter, the template's groups do.
    """
    wanted = like.run.optimizers
    if not wanted or not run.optimizers:
        return replace(run, optimizers=(), schedules=()), ()
    if len(wanted) != len(run.optimizers):
        raise UsageError(
            f"the template has {len(wanted)} optimizers, the source {len(run.optimizers)}: make "
            "the template with as many"
        )
    optimizers, schedules = [], list(run.schedules)
    for index, (own, there) in enumerate(zip(run.optimizers, wanted, strict=True)):
        found, origins = _regrouped(own, there)
        optimizers.append(found)
        if len(run.schedules) in (1, len(wanted)):
            place = index if len(run.schedules) == len(wanted) else 0
            schedules[place] = _rescheduled(run.schedules[place], origins, len(own.groups))
    return replace(run, optimizers=tuple(optimizers), schedules=tuple(schedules)), wanted


def _rescheduled(scheduled: Scheduled, origins: Sequence[int], count: int) -> Scheduled:
    if scheduled.schedule.groups != count:
        return scheduled
    found = regrouped(scheduled.schedule, [(index, 1.0) for index in origins])
    return scheduled if found is None else replace(scheduled, schedule=found)


def _regrouped(own: MovedOptimizer, like: Optimizer) -> tuple[MovedOptimizer, list[int]]:
    """`own` in the groups of `like`, and which of its groups each of them is."""
    if like.algorithms and own.algorithm not in like.algorithms:
        raise UsageError(
            f"the template's optimizer is {like.title}, the source's {own.algorithm}: its state "
            "is of no use there. Make the template with the optimizer that the ledger prints "
            "without --like, or carry the model alone with --set optimizer=native"
        )
    if like.ambiguity and len(like.algorithms) == 1:
        raise AmbiguousError(f"the template: {like.ambiguity}", like.name)
    places = {name: i for i, group in enumerate(own.groups) for name in group.parameters}
    groups, origins = [], []
    for group in like.groups:
        found = {places[name] for name in group.parameters if name in places}
        if not found and group.parameters and places:
            raise UsageError(
                f"the template's optimizer trains {', '.join(group.parameters[:3])}, which the "
                "source's does not know by that name; give the order with --set parameters=FILE, "
                "or a mapping with --map"
            )
        kept = {repr(_told(own.groups[index])): index for index in sorted(found)}
        if len(kept) > 1:
            raise UsageError(
                f"the template has one parameter group where the source has {len(kept)} with "
                "different hyperparameters: make the template with the same groups"
            )
        index = min(found, default=0)
        told = {**group.hyperparameters, **_told(own.groups[index])}
        groups.append(Group(group.parameters, told, group.native))
        origins.append(index)
    return replace(own, groups=tuple(groups)), origins


def _told(group: Group) -> Mapping[str, Any]:
    return group.hyperparameters


@dataclass(frozen=True, slots=True)
class _Place:
    """An optimizer of the template and where its scheduler is, by path."""

    optimizer: Optimizer
    scheduler: str | None


def poured(
    run: MovedRun, wanted: Sequence[Optimizer], trained: Sequence[Trained], like: Template
) -> Lowered:
    """The template's tree with the run's values; `run` is in its groups."""
    values = _weights(run, like)
    tree = placed(like.tree, values)
    found = [scheduled.path for scheduled in like.run.schedules]
    places = [
        _Place(optimizer, found[i] if i < len(found) else None)
        for i, optimizer in enumerate(wanted)
    ]
    nodes: dict[str, Node] = {}
    for place, one in zip(places, trained, strict=True):
        nodes[place.optimizer.name] = _optimizer(_node(like.tree, place.optimizer.name), one)
        if place.scheduler is not None and one.scheduler is not None:
            nodes[place.scheduler] = _scheduler(_node(like.tree, place.scheduler), one.scheduler)
    tree = _grafted(tree, nodes)
    spots = []
    for index, (place, one) in enumerate(zip(places, trained, strict=True)):
        where = None if place.scheduler is None else expression(like.tree, place.scheduler)
        if where is None and one.scheduler is not None and isinstance(tree, dict):
            key = "lr_scheduler" if index == 0 else f"lr_scheduler_{index}"
            tree = {**tree, key: one.scheduler}
            where = f'state["{key}"]'
        members = tuple([group.parameters for group in place.optimizer.groups])
        named = all("param_names" in g for g in _groups(_node(like.tree, place.optimizer.name)))
        spots.append(
            Places(
                expression(like.tree, place.optimizer.name), where or "", None if named else members
            )
        )
    lost = notes(trained)
    return Lowered(tree, code(_model(like), trained, spots), lost)


def _weights(run: MovedRun, like: Template) -> dict[str, Moved]:
    """Values of parameters and buffers by the template's paths, its tied names among them."""
    there = {**like.run.parameters, **like.run.buffers}
    state = model(run)
    values = {
        origin.path: _fitted(state[name], origin.value)
        for name, origin in there.items()
        if name in state
    }
    if not like.run.ties:
        return values
    owners = {
        identity(origin.value): origin.path
        for origin in there.values()
        if isinstance(origin.value, Tensor)
    }
    for path, leaf in walk(like.tree):
        if isinstance(leaf, Tensor) and path not in values:
            owner = owners.get(identity(leaf))
            if owner in values:
                values[path] = values[owner]
    return values


def _fitted(moved: Moved, wanted: Node) -> Moved:
    """`moved` in the dtype that the template has at its place."""
    value = moved.value
    if not isinstance(value, Tensor) or not isinstance(wanted, Tensor):
        return moved
    if value.shape != wanted.shape:
        raise UsageError(
            f"expected shape {list(wanted.shape)}, as the template has it, found "
            f"{list(value.shape)} in the source; a mapping file (--map) declares layouts",
            *moved.sources[:1],
        )
    if value.dtype is wanted.dtype:
        return moved
    import numpy as np

    wider = np.can_cast(value.dtype.to_numpy(), wanted.dtype.to_numpy(), "safe")
    told = f"{value.dtype} {'widened' if wider else 'rounded'} to {wanted.dtype}"
    fate = Fate.RELAYOUT if wider else Fate.APPROXIMATE
    return moved.then(cast(value, wanted.dtype), fate, told)


def _groups(node: Node) -> list[dict[Node, Node]]:
    return list((mapping(node) or {})["param_groups"])


def _optimizer(node: Node, one: Trained) -> dict[Node, Node]:
    """The template's state dict with the state and the options of the run."""
    lowered = one.optimizer
    groups, state = [], {}
    for group, options, members in zip(_groups(node), lowered.groups, lowered.names, strict=True):
        kept = {name: value for name, value in group.items() if name not in options}
        groups.append({**_created(kept), **options})
        for key, name in zip(group["params"], members, strict=True):
            if name in lowered.states:
                state[key] = lowered.states[name]
    more = {name: value for name, value in (mapping(node) or {}).items()
            if name not in ("state", "param_groups")}  # fmt: skip
    return {"state": state, "param_groups": groups, **more}


def _created(node: Node) -> Any:
    return rebuild(node, lambda path, leaf: created(leaf, _KEPT, NONE))


def _scheduler(node: Node, state: Mapping[Node, Node]) -> dict[Node, Node]:
    return dict(state)


def _node(tree: Node, path: str) -> Node:
    """The node at `path`."""
    for component in path.split("/") if path else ():
        tree = next(item for name, item in children(tree) if name == component)
    return tree


def _grafted(tree: Node, nodes: Mapping[str, Node], path: str = "") -> Node:
    """`tree` with other nodes at these paths."""
    if path in nodes:
        return nodes[path]
    if not any(place.startswith(f"{path}/") or not path for place in nodes):
        return tree
    return assemble(
        tree, iter([_grafted(item, nodes, at(path, name)) for name, item in children(tree)])
    )


def expression(tree: Node, path: str) -> str:
    """Python that finds the node at `path` in `state`."""
    found = "state"
    for component in path.split("/") if path else ():
        keys = tree if isinstance(tree, dict) else mapping(tree) or {}
        key: Node = next((k for k in keys if escape(str(k)) == component), None)
        if key is None and component.isdigit():
            key = int(component)
        found += f"[{key!r}]".replace("'", '"')
        tree = next(item for name, item in children(tree) if name == component)
    return found


def _model(like: Template) -> str:
    """Python that finds the state dict of the model."""
    if not like.run.parameters:
        return "state"
    origin = next(iter(like.run.parameters.values()))
    return expression(like.tree, origin.path.rpartition("/")[0])
