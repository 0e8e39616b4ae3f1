"""The states of optax' gradient transformations, by the names of their fields.

Orbax and Flax keep a NamedTuple as a dict of its fields, a tuple as a list or as a dict of "0",
"1", …, and an EmptyState as nothing. Indices move with every wrapper, names do not: a state is what
its fields say, a parameter the path below a field.

Source: optax/_src/{transform,wrappers,factorized,alias}.py, optax/contrib/*.py (0.2.8);
flax/optim/*.py (0.5) for the optimizers before optax.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from portackpt.errors import PortackptError
from portackpt.optimizers import Algorithm, Slot
from portackpt.run import at
from portackpt.tensor import Tensor
from portackpt.tree import Node, Object, children, walk


@dataclass(frozen=True, slots=True)
class Kind:
    """A state with slots: `fields` are all its fields, `slots` those with one array a parameter."""

    algorithms: tuple[Algorithm, ...]
    fields: frozenset[str]
    slots: Mapping[str, Slot]


def _kind(algorithms: str, fields: str, **slots: Slot) -> Kind:
    names = tuple([Algorithm(name) for name in algorithms.split()])
    return Kind(names, frozenset(fields.split()), slots)


_ADAM = {"mu": Slot.FIRST_MOMENT, "nu": Slot.SECOND_MOMENT}
KINDS: tuple[Kind, ...] = (
    _kind("adam adamax nadam radam lamb", "count mu nu", **_ADAM),
    _kind("adam", "count mu nu nu_max", **_ADAM, nu_max=Slot.MAX_SECOND_MOMENT),
    _kind("lion", "count mu", mu=Slot.FIRST_MOMENT),
    _kind("muon", "count mu ns_coeffs", mu=Slot.MOMENTUM),
    _kind("sgd", "trace", trace=Slot.MOMENTUM),
    _kind("rmsprop", "nu", nu=Slot.SECOND_MOMENT),
    _kind("rmsprop", "count nu", nu=Slot.SECOND_MOMENT),
    _kind("rmsprop", "mu nu", mu=Slot.MEAN_GRADIENT, nu=Slot.SECOND_MOMENT),
    _kind("adagrad", "sum_of_squares", sum_of_squares=Slot.SUM_OF_SQUARES),
    _kind("adadelta", "e_g e_x", e_g=Slot.SECOND_MOMENT, e_x=Slot.MEAN_SQUARED_UPDATE),
    _kind("adafactor", "count v_row v_col v", v_row=Slot.ROW_MOMENT, v_col=Slot.COLUMN_MOMENT,
          v=Slot.SECOND_MOMENT),
    _kind("rprop", "step_sizes prev_updates", step_sizes=Slot.STEP_SIZE,
          prev_updates=Slot.PREVIOUS_SIGN),
    _kind("lbfgs", "count params updates diff_params_memory diff_updates_memory weights_memory"),
    _kind("schedule_free_adamw", "b1 weight_sum step_count max_lr base_optimizer_state z",
          z=Slot.ANCHOR),
)  # fmt: skip
_BY_FIELDS = {kind.fields: kind for kind in KINDS}
_AVERAGE = frozenset(("count", "ema"))
_COUNT = frozenset(("count",))
_PLATEAU = frozenset(
    ("scale", "best_value", "plateau_count", "cooldown_count", "count", "avg_value")
)
# wrappers keep the state of what they wrap in one of these fields
_INNER = ("inner_states", "inner_opt_state", "inner_state", "fast_state", "base_optimizer_state")


@dataclass(slots=True)
class Found:
    """What stands in one optimizer's state.

    `states` with slots: path, kind, fields, and what follows in the chain (`e` for an empty state,
    `c` for the count of a schedule, `s` for any other).
    """

    states: list[tuple[str, Kind, dict[Node, Node], str]] = field(default_factory=list)
    counts: list[tuple[str, Node]] = field(default_factory=list)
    plateaus: list[tuple[str, dict[Node, Node]]] = field(default_factory=list)
    hyperparameters: dict[str, Node] = field(default_factory=dict)
    averages: list[tuple[str, Node]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.states or self.averages or self.plateaus or self.hyperparameters)


_LONGEST = 100


def find(path: str, node: Node) -> Found:
    """The states at `path`, through chains and wrappers. What is nothing of the kind finds nothing.

    Only sequences and wrappers are looked into: a dict of anything else is no optimizer's state.
    """
    found = Found()
    stack: list[tuple[str, Node, str]] = [(path, node, "")]
    while stack:
        place, item, after = stack.pop()
        below = _take(found, place, item, after)
        stack.extend(reversed(below))
    return found


def _take(found: Found, path: str, node: Node, after: str) -> list[tuple[str, Node, str]]:
    """Note the state at `path`; what to look into."""
    parts = sequence(node)
    if parts is not None:
        letters = "".join([_letter(item) for _, item in parts[:_LONGEST]])
        return [(at(path, name), item, letters[i + 1 :]) for i, (name, item) in enumerate(parts)]
    state = record(node)
    if state is None:
        return []
    names = frozenset([name for name in state if isinstance(name, str)])
    kind = _BY_FIELDS.get(names)
    if kind is not None:
        found.states.append((path, kind, state, after))
    elif names == _AVERAGE:
        found.averages.append((at(path, "ema"), state["ema"]))
    elif names == _COUNT:
        found.counts.append((at(path, "count"), state["count"]))
    elif names == _PLATEAU:
        found.plateaus.append((path, state))
    else:
        return _unwrapped(found, path, state)
    found.known.add(path)
    return _unwrapped(found, path, state)


def _letter(node: Node) -> str:
    state = record(node)
    if state is not None and frozenset(state) == _COUNT:
        return "c"
    return "e" if node in (None, {}, (), []) else "s"


def _unwrapped(found: Found, path: str, state: dict[Node, Node]) -> list[tuple[str, Node, str]]:
    """What a wrapper wraps; its own fields are noted."""
    inner = next((name for name in _INNER if name in state), None)
    if inner is None:
        return []
    hyperparameters = record(state.get("hyperparams"))
    if hyperparameters is not None:
        found.hyperparameters |= {str(k): v for k, v in hyperparameters.items()}
        for name, item in (record(state.get("hyperparams_states")) or {}).items():
            count = (record(item) or {}).get("count")
            found.counts.append((f"{at(path, 'hyperparams_states')}/{name}/count", count))
    found.known |= {at(path, name) for name, _ in children(state) if name != inner}
    place = at(path, inner)
    if inner != "inner_states":
        return [(place, state[inner], "")]
    labels = record(state[inner]) or {}
    return [(at(place, name), item, "") for name, item in children(labels)]


def sequence(node: Node) -> list[tuple[str, Node]] | None:
    """The parts of a tuple in any of its spellings, with their path components."""
    if isinstance(node, list | tuple):
        return [(str(index), item) for index, item in enumerate(node)]
    state = record(node)
    if not state or len(state) > 1000:
        return None
    keys = {str(key) for key in state}
    if keys != {str(index) for index in range(len(state))}:
        return None
    return sorted(children(node), key=lambda part: int(part[0]))


def record(node: Node) -> dict[Node, Node] | None:
    """The fields of a NamedTuple or dict; None for anything else."""
    if isinstance(node, dict):
        return node
    return node.entries if isinstance(node, Object) else None


def tensors_below(path: str, node: Node) -> Iterator[tuple[str, str, Tensor]]:
    """The tensors below a field: the parameter's path, the whole path, the tensor."""
    for name, leaf in walk(node):
        if isinstance(leaf, Tensor):
            yield name, at(path, name) if name else path, leaf


def number(node: Node) -> Any:
    """A number, also as a tensor of one; None for anything else."""
    if isinstance(node, Tensor):
        try:
            return node.item() if node.size == 1 and node.dtype.name != "string" else None
        except PortackptError:
            return None
    return node if isinstance(node, int | float) else None
