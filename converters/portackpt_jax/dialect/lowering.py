"""A run as a JAX program with optax keeps it.

    params          parameters, nested by the slashes in their names
    batch_stats, …  other collections, by the first part of their names; else `buffers`
    opt_state       the states of the chain that the code builds: NamedTuples as dicts, tuples as
                    lists, as Orbax restores them (`opt_state_1` and on of further optimizers)
    step            the count of updates

With a template, values go to the places where its own optimizer has the same slot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from portackpt.elementwise import scaled
from portackpt.errors import UsageError
from portackpt.ledger import NONE, Fate
from portackpt.moved import Lowered, Moved, MovedOptimizer, MovedRun, Template, placed
from portackpt.optimizers import Algorithm, Group, Slot
from portackpt.run import Scheduled
from portackpt.schedules import Schedule
from portackpt.schedules.clock import infer_clock
from portackpt.tensor import Tensor, from_array
from portackpt.tree import Node
from portackpt_jax.dialect import bridges
from portackpt_jax.dialect.chains import COUNT, EXACT, Chain, chain
from portackpt_jax.dialect.schedules import spell

_COLLECTIONS = ("batch_stats", "cache", "model_state")
_PARAMETERS = "params"


def lower(run: MovedRun, like: Template | None) -> Lowered:
    """`run` in the places of a template, or in the default layout."""
    lowering = _Lowering(run)
    optimizers = [lowering.optimizer(index) for index in range(len(run.optimizers))]
    code = lowering.code(like is None)
    if like is not None:
        return Lowered(placed(like.tree, dict(_poured(run, like))), code, lowering.notes)
    tree: dict[Node, Node] = {}
    for name, value in run.parameters.items():
        _put(tree, f"{_PARAMETERS}/{name.removeprefix(f'{_PARAMETERS}/')}", value)
    for name, value in run.buffers.items():
        known = name.partition("/")[0] in _COLLECTIONS
        _put(tree, name if known else f"buffers/{name}", value)
    for index, state in enumerate(optimizers):
        tree[_name("opt_state", index)] = state
    if run.optimizers:
        tree["step"] = _count(run.optimizers[0].step, "")
    return Lowered(tree, code, lowering.notes)


def _put(tree: dict[Node, Node], name: str, value: Moved) -> None:
    """`value` in dicts by the parts of `name`; whole where a part is a leaf already."""
    parts = name.split("/")
    node = tree
    for index, part in enumerate(parts[:-1]):
        below = node.setdefault(part, {})
        if not isinstance(below, dict):
            node["/".join(parts[index:])] = value
            return
        node = below
    last = parts[-1]
    node[last if last not in node else f"{last}~"] = value


def _name(word: str, index: int) -> str:
    return f"{word}_{index}" if index else word


@dataclass(slots=True)
class _Lowering:
    """The code that grows as optimizers are lowered."""

    run: MovedRun
    notes: dict[str, tuple[str, str]] = field(default_factory=dict)
    definitions: dict[str, None] = field(default_factory=dict)
    schedules: list[str] = field(default_factory=list)
    builders: list[str] = field(default_factory=list)

    def optimizer(self, index: int) -> Node:
        """The state of one optimizer; its code is noted."""
        optimizer = self.run.optimizers[index]
        optimizer.need("lr")
        groups = [group for group in optimizer.groups if group.parameters] or [optimizer.groups[0]]
        chains: list[Chain] = []
        for group in groups:
            number = optimizer.groups.index(group)
            rate, scheduled = self._rate(optimizer, group, number, index)
            chains.append(chain(optimizer, group, rate, scheduled))
            self.definitions |= dict.fromkeys(chains[-1].bridges)
        names = tuple(self.run.parameters)
        if len(groups) == 1:
            self.builders.append(f"{_name('tx', index)} = {_spelled(chains[0])}")
            return _state(optimizer, groups[0], chains[0], groups[0].parameters or names)
        self.builders.append(_labelled(chains, groups, _name("tx", index)))
        everyone = [name for group in groups for name in group.parameters]
        return {"inner_states": {
            f"group_{number}": {"inner_state": _state(optimizer, group, one, everyone)}
            for number, (group, one) in enumerate(zip(groups, chains, strict=True))
        }}  # fmt: skip

    def _rate(
        self, optimizer: MovedOptimizer, group: Group, number: int, index: int
    ) -> tuple[str, bool]:
        """The learning rate as an expression, and whether it is a function of the count."""
        scheduled = _schedule_of(self.run, index)
        rate = group.hyperparameters["lr"]
        lr_decay = group.hyperparameters.get("lr_decay") or 0
        name = f"{_name('schedule', index)}{number or ''}"
        if scheduled is None:
            if optimizer.algorithm is Algorithm.ADAGRAD and lr_decay:
                self.schedules.append(
                    f"def {name}(count):\n    return {rate!r} / (1 + count * {lr_decay!r})\n"
                )
                return name, True
            return repr(rate), False
        schedule, told = _clocked(scheduled.schedule, optimizer.step.value)
        spelled = spell(schedule, number, name)
        if spelled.fate is Fate.DROPPED:
            self.notes[scheduled.path] = (spelled.detail, spelled.consequence)
        else:
            detail = "; ".join(filter(None, ("in the code, as a function of the count", told)))
            self.notes[scheduled.path] = (detail, NONE)
        self.schedules.append(spelled.code)
        return name, True

    def code(self, default: bool) -> str:
        """Code for the target's program, after the format's own, which defines `state`."""
        if not self.run.optimizers:
            return ""
        text = "\n".join((*self.definitions, *self.builders))
        lines = [
            *(["from typing import NamedTuple", ""] if "NamedTuple" in text else []),
            "import jax", "import jax.numpy as jnp", "import optax", "",
            *self.definitions, *self.schedules,
        ]  # fmt: skip
        if default:
            lines += ["", bridges.RESTORE]
        lines += ['params = jax.tree.map(jnp.asarray, state["params"])'] if default else []
        for index, builder in enumerate(self.builders):
            lines.append(builder)
            if default:
                tx, saved = _name("tx", index), _name("opt_state", index)
                lines.append(f'{saved} = as_saved({tx}.init(params), state["{saved}"])')
        return "\n".join(lines) + "\n"


def _schedule_of(run: MovedRun, index: int) -> Scheduled | None:
    """The schedule of the optimizer at `index`: the only one, or that of the same place."""
    several = len(run.optimizers) > 1
    if several and len(run.schedules) != len(run.optimizers):
        return None
    place = index if several else 0
    return run.schedules[place] if place < len(run.schedules) else None


def _clocked(schedule: Schedule, step: int) -> tuple[Schedule, str]:
    """`schedule` as a function of the updates, `step` of which have been."""
    clock = infer_clock(schedule.position, step)
    if clock is None or clock == schedule.clock:
        return schedule, ""
    told = f"{schedule.position} ticks at {step} updates: {clock.ticks} every {clock.per} updates"
    return replace(schedule, clock=clock), told


def _spelled(one: Chain) -> str:
    lines = "".join([f"    {link.code},\n" for link in one.links])
    return f"optax.chain(\n{lines})"


def _labelled(chains: Sequence[Chain], groups: Sequence[Group], name: str) -> str:
    labels: dict[str, str] = {
        parameter: f"group_{number}"
        for number, group in enumerate(groups)
        for parameter in group.parameters
    }
    inner = ",\n".join([f'    "group_{i}": {_spelled(one)}' for i, one in enumerate(chains)])
    return (
        f"labels = {labels!r}\n"
        f"{name} = optax.multi_transform(\n    {{\n{inner},\n    }},\n"
        "    lambda tree: jax.tree_util.tree_map_with_path(\n"
        '        lambda path, leaf: labels["/".join(str(part.key) for part in path)], tree\n'
        "    ),\n)"
    )


def _state(optimizer: MovedOptimizer, group: Group, one: Chain, names: Sequence[str]) -> list[Node]:
    """The states of a chain: a dict of its fields, or None for a state without."""
    states: list[Node] = []
    for link in one.links:
        if link.state is None:
            states.append(None)
            continue
        remark = one.remark if link.code.startswith("scale_by_") else ""
        states.append({
            name: _count(optimizer.step, remark) if kind == COUNT
            else _field(optimizer, group, Slot(kind), names, remark)
            for name, kind in link.state.items()
        })  # fmt: skip
    return states


def _field(
    optimizer: MovedOptimizer, group: Group, slot: Slot, names: Sequence[str], remark: str
) -> Node:
    if slot is Slot.MOMENTUM_PRODUCT:
        return next(own[slot] for own in optimizer.slots.values() if slot in own)
    tree: dict[Node, Node] = {}
    for name in names:
        value = optimizer.slots.get(name, {}).get(slot) if name in group.parameters else None
        if name in group.parameters and value is None:
            value = _fresh(optimizer, slot, name)
        if value is not None:
            value = _turned(value, group, slot)
            if remark:
                told = f"{remark}: exact with the transformation in the code"
                value = value.then(value.value, Fate.EQUIVALENT, told, "", EXACT)
        _put(tree, name.removeprefix(f"{_PARAMETERS}/"), value)  # type: ignore[arg-type]
    return tree


def _fresh(optimizer: MovedOptimizer, slot: Slot, name: str) -> Moved:
    """A slot of a parameter that has had no update."""
    raise UsageError(
        f"expected {slot} of {name} in the optimizer's state, found none: it has had no gradient",
        optimizer.name,
    )


def _turned(value: Moved, group: Group, slot: Slot) -> Moved:
    """optax adds a momentum that carries the learning rate to the parameter."""
    known = group.hyperparameters
    if slot is not Slot.MOMENTUM or not known.get("lr_in_momentum"):
        return value
    if known.get("momentum_sign", -1) == -1:
        return value
    return value.then(scaled(value.value, -1.0), Fate.EQUIVALENT, "its sign is turned", "", 0.0)


def _count(step: Moved, remark: str) -> Moved:
    import numpy as np

    tensor = from_array(np.array(step.value, np.int32))
    return step.then(tensor, Fate.RELAYOUT, "an int32 count")


def _poured(run: MovedRun, like: Template) -> Iterator[tuple[str, Moved]]:
    """Values by the template's paths: parameters, buffers, slots and counts."""
    there = {**like.run.parameters, **like.run.buffers}
    for name, value in {**run.parameters, **run.buffers}.items():
        if name in there:
            yield there[name].path, _like(value, there[name].value)
    slots: dict[str, Mapping[str, Moved]] = {}
    for optimizer in run.optimizers:
        slots |= optimizer.slots
    groups = {n: g for o in run.optimizers for g in o.groups for n in g.parameters}
    found = False
    for wanted in like.run.optimizers:
        for name, own in wanted.slots.items():
            for slot, origin in own.items():
                value = slots.get(name, {}).get(slot)
                if value is not None:
                    found = True
                    turned = _turned(value, groups[name], Slot(slot)) if name in groups else value
                    yield origin.path, _like(turned, origin.value)
        for origin in (*wanted.counts.values(), *_schedule_counts(like)):
            if run.optimizers:
                yield origin.path, _count(run.optimizers[0].step, "")
    expected = [o for o in like.run.optimizers if o.slots]
    if expected and slots and not found:
        mine = ", ".join([str(o.algorithm) for o in run.optimizers])
        raise UsageError(
            f"the template's optimizer is {expected[0].title}, the source's {mine}: their slots do "
            "not fit; make the template with the optimizer that the ledger's code builds",
        )


def _schedule_counts(like: Template) -> list[Any]:
    from portackpt.optimizers import Origin

    return [Origin(scheduled.path, None) for scheduled in like.run.schedules]


def _like(value: Moved, wanted: Any) -> Moved:
    """`value` in the dtype that the template has at its place."""
    if not isinstance(value.value, Tensor) or not isinstance(wanted, Tensor):
        return value
    if value.value.dtype is wanted.dtype:
        return value
    import numpy as np

    from portackpt.elementwise import cast

    widened = np.can_cast(value.value.dtype.to_numpy(), wanted.dtype.to_numpy(), "safe")
    fate = Fate.RELAYOUT if widened else Fate.APPROXIMATE
    told = f"{value.value.dtype} {'widened' if widened else 'rounded'} to {wanted.dtype}"
    return value.then(cast(value.value, wanted.dtype), fate, told)
