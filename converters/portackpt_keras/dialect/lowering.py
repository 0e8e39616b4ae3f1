"""A run as TensorFlow keeps it: the default layout, and the places of a template.

    model/FQN                    parameters and buffers, nested at slashes
    optimizer/iterations         the count of updates, an int64
    optimizer/SLOT/FQN           slots by canonical name (first_moment, …), in Keras' own units
    optimizer/momentum_product   Nadam's

Several optimizers stand under `optimizers/0`, `optimizers/1`, …. The printed code gives these
values, by name, to a model and to an optimizer that it builds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from portackpt.elementwise import computed, scaled
from portackpt.ledger import NONE, Fate
from portackpt.moved import Lowered, Moved, MovedOptimizer, MovedRun, Template, created
from portackpt.optimizers import Algorithm, Group, Slot
from portackpt.run import Scheduled
from portackpt.schedules import UPDATES, Clock, Constant, infer_clock, momentum
from portackpt.tensor import Tensor
from portackpt.tree import Node
from portackpt_keras.dialect import program
from portackpt_keras.dialect.making import Made, carried, fresh, make

BRIDGED = 1e-12
ROUNDED = 1e-15
IN_BFLOAT16 = "torch orthogonalizes in bfloat16, Keras in the dtype of the parameter"
DEPARTS = "each step departs by about 1e-2 of its length"


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """An optimizer made for Keras, with its slots in Keras' units and its schedule."""

    optimizer: MovedOptimizer
    made: Made
    slots: Mapping[str, Mapping[str, Moved]]
    product: Moved | None
    scheduled: Scheduled | None
    notes: Mapping[str, tuple[str, str]]

    @property
    def parameters(self) -> list[str]:
        return [name for group in self.made.groups for name in group.parameters]


def lower(run: MovedRun, like: Template | None) -> Lowered:
    """`run` in the places of a template, or in the default layout."""
    if like is not None:
        from portackpt_keras.dialect.pouring import pour

        return pour(run, like)
    trained = [train(optimizer, run) for optimizer in run.optimizers]
    tree: dict[str, Node] = {"model": nested({**run.parameters, **run.buffers, **_ties(run)})}
    codes = [program.weights()]
    notes: dict[str, tuple[str, str]] = {}
    for index, one in enumerate(trained):
        single = len(trained) == 1
        prefix = "optimizer" if single else f"optimizers/{index}"
        below = _state(one)
        if single:
            tree["optimizer"] = below
        else:
            tree.setdefault("optimizers", {})[str(index)] = below
        codes.append(_code(one, run, prefix, "optimizer" if single else f"optimizer_{index}"))
        notes |= one.notes
    return Lowered(tree, program.imports("\n\n".join(codes)), notes)


def _ties(run: MovedRun) -> dict[str, Moved]:
    owned = {**run.parameters, **run.buffers}
    return {name: owned[owner] for name, owner in run.ties.items() if owner in owned}


def nested(values: Mapping[str, Node]) -> dict[str, Node]:
    """Values by name as dicts in dicts; as they are where a name begins another's path."""
    root: dict[str, Node] = {}
    for name, value in values.items():
        *outer, last = name.split("/")
        node = root
        for part in outer:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                return dict(values)
        if last in node:
            return dict(values)
        node[last] = value
    return root


def train(optimizer: MovedOptimizer, run: MovedRun) -> Trained:
    """What Keras needs to go on with `optimizer`."""
    scheduled = _scheduled(run, optimizer)
    moves = scheduled is not None and not isinstance(scheduled.schedule.form, Constant)
    made = make(optimizer, moves, _momentum(optimizer, scheduled))
    notes: dict[str, tuple[str, str]] = {}
    slots: dict[str, dict[str, Moved]] = {}
    group_of = {name: group for group in made.groups for name in group.parameters}
    for name, own in optimizer.slots.items():
        for given, value in own.items():
            slot = _NAMES.get((optimizer.algorithm, given), given)
            if slot == Slot.MOMENTUM_PRODUCT:
                continue
            if slot not in made.attributes:
                lost = (f"Keras' {made.kind} has no {slot}", "the run goes on without it")
                if optimizer.algorithm is Algorithm.ASGD:  # eta and mu
                    lost = ("a function of the count, which the class in the code computes", NONE)
                notes |= dict.fromkeys(value.sources, lost)
            elif _is_factor(value, name, slot, run):
                slots.setdefault(slot, {})[name] = _in_units(
                    value, made, optimizer, slot, group_of.get(name, made.groups[0])
                )
    for slot in made.attributes:
        for name in group_of:
            if name not in slots.get(slot, {}) and name in run.parameters:
                missing = _missing(made, slot, run.parameters[name], optimizer)
                if missing is not None:
                    slots.setdefault(slot, {})[name] = missing
    if scheduled is not None:
        notes[scheduled.path] = program.told(made, scheduled)
    return Trained(optimizer, made, slots, _product(optimizer), scheduled, notes)


_NAMES: Mapping[tuple[Algorithm, str], str] = {
    (Algorithm.ADAMAX, Slot.SECOND_MOMENT): Slot.INFINITY_NORM
}
"""optax keeps its infinity norm under the name of a second moment."""


def _momentum(optimizer: MovedOptimizer, scheduled: Scheduled | None) -> str:
    """The option that the schedule moves beside the learning rate."""
    if scheduled is None or momentum(scheduled.schedule) is None:
        return ""
    return "beta_1" if "beta1" in optimizer.groups[0].hyperparameters else "momentum"


def _is_factor(value: Moved, name: str, slot: str, run: MovedRun) -> bool:
    """False for what stands in for a slot that the parameter does not have."""
    if slot not in (Slot.ROW_MOMENT, Slot.COLUMN_MOMENT):
        return True
    return isinstance(value.value, Tensor) and len(value.value.shape) > 0


def _in_units(
    value: Moved, made: Made, optimizer: MovedOptimizer, slot: str, group: Group
) -> Moved:
    factor = carried(made, optimizer, slot, group)
    if factor != 1 and isinstance(value.value, Tensor):
        value = value.then(scaled(value.value, factor), Fate.EQUIVALENT,
                           f"times {factor!r}: Keras' momentum carries the learning rate",
                           "", ROUNDED)  # fmt: skip
    if optimizer.of("ns_dtype") == "bfloat16":
        return value.then(value.value, Fate.APPROXIMATE, IN_BFLOAT16, DEPARTS, 1e-2)
    if made.step is not None:
        value = value.then(
            value.value,
            Fate.EQUIVALENT,
            f"with the class in the code: {made.step.told}",
            "",
            BRIDGED,
        )
    return value


def _missing(made: Made, slot: str, parameter: Moved, optimizer: MovedOptimizer) -> Moved | None:
    tensor = parameter.value
    if not isinstance(tensor, Tensor):
        return None
    if optimizer.algorithm is Algorithm.ADAFACTOR:
        return None
    start = fresh(made, slot)
    if slot == Slot.ANCHOR:
        return created(tensor, "the parameter itself, as before the first step")

    def filled(array: Any) -> Any:
        import numpy as np

        return np.full_like(array, start)

    return created(computed(filled, tensor), "as before the first step: the source has none")


def _product(optimizer: MovedOptimizer) -> Moved | None:
    if optimizer.algorithm is not Algorithm.NADAM:
        return None
    for own in optimizer.slots.values():
        if Slot.MOMENTUM_PRODUCT in own:
            found = own[Slot.MOMENTUM_PRODUCT]
            more = [v[Slot.MOMENTUM_PRODUCT].sources for v in optimizer.slots.values()
                    if Slot.MOMENTUM_PRODUCT in v]  # fmt: skip
            return replace(found, sources=tuple([path for paths in more for path in paths]))
    beta, step = optimizer.of("beta1"), int(optimizer.step.value)
    decay = optimizer.of("momentum_decay")
    product = 1.0
    for t in range(1, step + 1):
        product *= beta if decay is None else beta * (1 - 0.5 * 0.96 ** (t * decay))
        if product < 1e-300:
            break
    return created(product, "the product of all momenta so far, computed from the count")


def _scheduled(run: MovedRun, optimizer: MovedOptimizer) -> Scheduled | None:
    """The schedule, with a clock by which the optimizer's count gives its position."""
    if not run.schedules:
        return None
    found = run.schedules[0]
    schedule, step = found.schedule, int(optimizer.step.value)
    if schedule.clock == UPDATES and schedule.position != step and schedule.position >= 0:
        clock = infer_clock(schedule.position, step)
        if clock is None:
            clock = Clock(shift=int(schedule.position) - step)
        schedule = replace(schedule, clock=clock)
    return replace(found, schedule=schedule)


def _state(one: Trained) -> dict[str, Node]:
    tree: dict[str, Node] = {"iterations": iterations(one)}
    for slot, values in one.slots.items():
        tree[slot] = nested(values)
    if one.product is not None:
        tree[Slot.MOMENTUM_PRODUCT] = one.product
    return {str(name): node for name, node in tree.items()}


def iterations(one: Trained) -> Moved:
    """The count of updates, as a whole number."""
    step = one.optimizer.step
    return replace(step, value=int(step.value))


def _code(one: Trained, run: MovedRun, prefix: str, target: str) -> str:
    made = one.made
    schedule, rates, _ = program.rate_functions(made, one.scheduled)
    owned: Sequence[str] = one.parameters
    everything = set(owned) >= set(run.parameters)
    trainable = "model.trainable_variables" if everything else f"{target}_variables"
    listed = "" if everything else f"{trainable} = {program.filtered(owned)}\n"
    helper = program.rate_helper(made) if "def rate_of" not in schedule else ""
    parts = [
        schedule,
        program.momentum_code(one.scheduled),
        program.class_code(made),
        helper,
        listed + program.construction(made, rates, target, trainable),
        program.state(made, prefix, target, trainable, one.product is not None),
    ]
    return "\n\n".join(filter(None, parts))
