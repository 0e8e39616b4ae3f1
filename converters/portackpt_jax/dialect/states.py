"""The states of a chain as Orbax restores them: NamedTuples as dicts, tuples as lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from portackpt.elementwise import computed, scaled
from portackpt.ledger import Fate
from portackpt.moved import Moved, MovedOptimizer, created
from portackpt.optimizers import Group, Slot
from portackpt.tensor import Tensor, from_array
from portackpt.tree import Node, unescape
from portackpt_jax.dialect.chains import COUNT, EXACT, TICKS, Chain, Link, outside

PARAMETERS = "params"


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """Parameters of one group, all with one count of updates, and the chain for them.

    `ticks` is the count of the schedule, if `scheduled`; `number` the group's place in its
    optimizer.
    """

    optimizer: MovedOptimizer
    group: Group
    number: int
    step: Moved
    ticks: Moved
    scheduled: bool


def state(share: Share, chain: Chain, everyone: Iterable[str], like: Mapping[str, Moved]) -> Node:
    """The states of `chain`: a dict of its fields for each link, or nothing for one without.

    `everyone` are the parameters that the program has, `like` the tensors of those.
    """
    fields = _Fields(share, tuple(everyone), like)
    return [fields.of(link, chain.remark) for link in chain.links]


@dataclass(frozen=True, slots=True, eq=False)
class _Fields:
    share: Share
    everyone: tuple[str, ...]
    like: Mapping[str, Moved]

    def of(self, link: Link, remark: str) -> Node:
        if link.state is None:
            return empty()
        told = remark if link.is_bridge else ""
        own: dict[Node, Node] = {name: self._field(kind, told) for name, kind in link.state.items()}
        if not link.option:
            return own
        ticks = count(self.share.ticks)
        return {
            "count": ticks,
            "hyperparams": {
                name: created(number(value), "computed anew at each update")
                for name, value in link.hyperparameters.items()
            },
            "hyperparams_states": {link.option: {"count": ticks}},
            "inner_state": own,
        }

    def _field(self, kind: str, remark: str) -> Node:
        if kind == COUNT:
            return count(self.share.step)
        if kind == TICKS:
            return count(self.share.ticks)
        slot = Slot(kind)
        if slot is Slot.MOMENTUM_PRODUCT:
            return self._product(slot)
        tree: dict[Node, Node] = {}
        for name in self.everyone:
            own = name in self.share.group.parameters
            put(tree, stem(name), self._slot(name, slot, remark) if own else empty())
        return tree

    def _product(self, slot: Slot) -> Node:
        slots = self.share.optimizer.slots
        for name in self.share.group.parameters:
            if slot in slots.get(name, {}):
                return slots[name][slot]
        return created(number(1.0), "there has been no update")

    def _slot(self, name: str, slot: Slot, remark: str) -> Moved:
        if slot in self.share.optimizer.slots.get(name, {}):
            return settled(self.share, name, slot, remark)
        return self._fresh(name, slot)

    def _fresh(self, name: str, slot: Slot) -> Moved:
        """A slot of a parameter that has had no update."""
        value = 0.0
        if slot is Slot.SUM_OF_SQUARES:
            value = float(self.share.group.hyperparameters.get("initial_accumulator") or 0)
        if slot is Slot.STEP_SIZE:
            value = float(self.share.group.hyperparameters["lr"])
        tensor = self.like[name].value if name in self.like else None
        if not isinstance(tensor, Tensor):
            return created(number(value), "it has had no update")
        filled = computed(lambda array: np.full_like(array, value), tensor)
        return created(filled, "it has had no update")


def settled(share: Share, name: str, slot: str, remark: str) -> Moved:
    """A slot as optax has it; `remark` says why it takes the code's own transformation."""
    value = turned(share.optimizer.slots[name][slot], share.group, slot, share.scheduled)
    if not remark:
        return value
    told = f"{remark}: exact with the transformation in the code"
    return value.then(value.value, Fate.EQUIVALENT, told, "", EXACT)


def stem(name: str) -> str:
    """The name of a parameter below its collection."""
    return name.removeprefix(f"{PARAMETERS}/")


def put(tree: dict[Node, Node], name: str, value: Node) -> None:
    """`value` in dicts by the parts of `name`; whole where a part is a leaf already."""
    parts = [unescape(part) for part in name.split("/")]
    node = tree
    for index, part in enumerate(parts[:-1]):
        below = node.setdefault(part, {})
        if not isinstance(below, dict):
            node["/".join(parts[index:])] = value
            return
        node = below
    last = parts[-1]
    node[last if last not in node else f"{last}~"] = value


def turned(value: Moved, group: Group, slot: str, scheduled: bool) -> Moved:
    """A momentum as optax has it: what carries the learning rate is added to the parameter."""
    known = group.hyperparameters
    if slot != Slot.MOMENTUM or not known.get("lr_in_momentum"):
        return value
    sign = known.get("momentum_sign", -1)
    if outside(known, scheduled):
        factor = sign / known["lr"]
        told = "divided by the learning rate that it carried"
        return value.then(scaled(value.value, factor), Fate.EQUIVALENT, told, "", 1e-15)
    if sign == -1:
        return value
    return value.then(scaled(value.value, -1.0), Fate.EQUIVALENT, "its sign is turned", "", 0.0)


def count(step: Moved) -> Moved:
    """A count of updates, as optax keeps it."""
    return step.then(from_array(np.array(step.value, np.int32)), Fate.RELAYOUT, "an int32 count")


def empty() -> Moved:
    """A state without fields (`EmptyState`, `MaskedNode`)."""
    return created({}, "a state without fields")


def number(value: float) -> Tensor:
    return from_array(np.array(value, np.float64))
