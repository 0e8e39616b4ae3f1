"""What a checkpoint of the JAX world means: optax' states by their fields, the rest by its names.

TrainState   step, params, opt_state, batch_stats   (flax.training, and what is modelled on it)
T5X          optimizer/{target, state/{step, param_states}}
keys         {data, impl}, or uint32 arrays that are called rng or key; nnx {count, key}
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from portackpt.checkpoint import Checkpoint
from portackpt.errors import PortackptError
from portackpt.moved import Lowered, MovedRun, Template
from portackpt.optimizers import Optimizer, Origin
from portackpt.randomness import Library, RandomStream
from portackpt.randomness.keys import Key, from_jax
from portackpt.run import Run, Scheduled, Stream, at, leftovers
from portackpt.schedules import Code, PlateauState, Schedule
from portackpt.tensor import Tensor
from portackpt.tree import Node, children
from portackpt_jax.dialect import optimizers
from portackpt_jax.dialect.transforms import Found, find, number, record, sequence, tensors_below

_MODEL = re.compile(r"^(params|parameters|model|model_params|target|graphdef_state)$")
_STATE = re.compile(r"^(batch_stats|cache|model_state|flax_mutables|non_trainable|stats)$")
_AVERAGE = re.compile(r"(?i)(^|_)(ema|averaged?|polyak|target_params)(_|$)")
_OPTIMIZER = re.compile(r"^(opt_states?|optimizer|optimizer_state|opt)$")
_RANDOM = re.compile(r"(?i)(^|[/_.])(rngs?|prng|keys?|seeds?)([/_.\d]|$)")
_BUFFER = re.compile(r"(^|/)(mean|var)(/value)?$")
_COUNTERS = {"step": "step", "global_step": "step", "epoch": "epoch"}
_DEEPEST = 2
_NO_SCHEDULE = "optax keeps the count of a schedule; the schedule is in the training program"


class _Parts:
    """What was found so far, with the paths of the subtrees that it explains."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.settings = settings
        self.models: list[tuple[str, Node]] = []
        self.states: list[tuple[str, Node]] = []
        self.averages: list[tuple[str, Node]] = []
        self.optimizers: list[Optimizer] = []
        self.stateless: list[tuple[str, dict[str, Origin]]] = []
        self.schedules: list[Scheduled] = []
        self.streams: list[Stream] = []
        self.progress: dict[str, Origin] = {}
        self.known: set[str] = set()
        self.notes: list[str] = []

    def take(self, path: str, node: Node, searched: bool) -> bool:
        """True where the node as a whole is one of the parts."""
        name = path.rpartition("/")[2]
        if self._key(path, node) or self._optimizer(path, node, name, searched):
            return True
        places = ((_STATE, self.states), (_AVERAGE, self.averages), (_MODEL, self.models))
        for pattern, found in places:
            if pattern.search(name) and _tensors_only(node):
                found.append((path, node))
                self.known.add(path)
                return True
        return False

    def _optimizer(self, path: str, node: Node, name: str, searched: bool) -> bool:
        fields = record(node)
        if fields is not None and {"step", "param_states"} <= fields.keys():
            try:
                optimizer, known = optimizers.lift_old(path, node)
            except PortackptError as error:
                self.notes.append(f"{path} is not recognized: {error}")
                return False
            self.optimizers.append(optimizer)
            self.known |= known
            return True
        if searched:
            return False
        found = find(path, node)
        if found:
            self.optimizers += optimizers.lift(path, found, self.settings)
        elif _OPTIMIZER.search(name) and _is_stateless(node, found):
            counts = {place: Origin(place, number(count)) for place, count in found.counts}
            self.stateless.append((path, counts))
            self.known.add(path)
        else:
            return False
        self.known |= found.known
        self.schedules += _schedules(found)
        return True

    def _key(self, path: str, node: Node) -> bool:
        fields = record(node)
        data, kind, count = node, None, None
        if fields is not None and fields.keys() == {"count", "key"} and _RANDOM.search(path):
            count, data = number(_value(fields["count"])), _value(fields["key"])
            fields = record(data)
        if fields is not None and fields.keys() == {"data", "impl"}:
            data, kind = fields["data"], fields["impl"]
        elif not (isinstance(data, Tensor) and _RANDOM.search(path)):
            return False
        if not isinstance(data, Tensor) or data.dtype.name != "uint32" or not data.shape:
            return False
        if not isinstance(kind, str):
            kind = {2: "threefry2x32", 4: "rbg"}.get(data.shape[-1])
        if kind is None:
            return False
        try:
            key: Key = from_jax(data, kind, count=count if isinstance(count, int) else None)
        except PortackptError as error:
            self.notes.append(f"{path} is not recognized: {error}")
            return False
        self.streams.append(Stream(path, RandomStream(path, Library.JAX, key)))
        self.known.add(path)
        return True

    def count(self, path: str, node: Node) -> None:
        """Take the counters that stand in a mapping near the root."""
        if path.count("/") >= _DEEPEST or record(node) is None:
            return
        for name, item in children(node):
            found = number(item) if name in _COUNTERS else None
            if found is not None and not isinstance(found, bool):
                place = at(path, name)
                self.progress.setdefault(_COUNTERS[name], Origin(place, found))
                self.known.add(place)


def _is_stateless(node: Node, found: Found) -> bool:
    """Whether a chain's states are empty, or only count."""
    return bool(found.counts) or (bool(sequence(node)) and not any(tensors_below("", node)))


def _value(node: Node) -> Node:
    """What an nnx variable holds."""
    fields = record(node)
    return fields["value"] if fields is not None and fields.keys() == {"value"} else node


def _tensors_only(node: Node) -> bool:
    """Whether a container's leaves are tensors, or nothing at all."""
    if record(node) is None and sequence(node) is None:
        return False
    stack, found = [node], False
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor):
            found = True
        elif record(item) is not None or isinstance(item, list | tuple):
            stack += [below for _, below in children(item)]
        elif item is not None:
            return False
    return found


def _schedules(found: Found) -> list[Scheduled]:
    schedules = []
    for path, count in found.counts:
        position = number(count)
        if isinstance(position, int):
            schedules.append(
                Scheduled(path, Schedule(Code(_NO_SCHEDULE), position, framework="jax"))
            )
    for path, state in found.plateaus:
        best, bad, cooldown = (
            number(state[name]) for name in ("best_value", "plateau_count", "cooldown_count")
        )
        if best is not None and isinstance(bad, int) and isinstance(cooldown, int):
            plateau = PlateauState(best, cooldown, bad)
            schedules.append(Scheduled(path, Schedule(
                Code("optax.contrib.reduce_on_plateau; its factor and patience are in the program"),
                plateau=plateau, framework="jax",
            )))  # fmt: skip
    return schedules


def _search(tree: Node, settings: Mapping[str, str]) -> _Parts:
    parts = _Parts(settings)
    stack: list[tuple[str, Node, bool]] = [("", tree, False)]
    while stack:
        path, node, searched = stack.pop()
        if parts.take(path, node, searched) or isinstance(node, Tensor):
            continue
        parts.count(path, node)
        # a sequence was looked into, whatever sequences are in it
        inside = isinstance(node, list | tuple) or sequence(node) is not None
        below = [
            (at(path, name), item, inside and sequence(item) is not None)
            for name, item in children(node)
        ]
        stack.extend(reversed(below))
    return parts


def _leaves(found: list[tuple[str, Node]]) -> dict[str, Origin]:
    """Tensors by FQN; with the path of their collection before it where there are several."""
    several = len(found) > 1
    return {
        place if several else name: Origin(place, tensor)
        for path, node in found
        for name, place, tensor in tensors_below(path, node)
    }


def _collections(found: list[tuple[str, Node]]) -> dict[str, Origin]:
    """Tensors beside the parameters, by the name of their collection and their own."""
    return {
        at(path.rpartition("/")[2], name): Origin(place, tensor)
        for path, node in found
        for name, place, tensor in tensors_below(path, node)
    }


class _Dialect:
    """JAX', with flax and optax."""

    def lift(self, checkpoint: Checkpoint, settings: Mapping[str, str]) -> Run:
        parts = _search(checkpoint.tree, settings)
        if not parts.models and _tensors_only(checkpoint.tree) and not parts.known:
            parts.models.append(("", checkpoint.tree))
            parts.known.add("")
        weights = _leaves(parts.models)
        buffers = {name: origin for name, origin in weights.items() if _BUFFER.search(origin.path)}
        parameters = {name: origin for name, origin in weights.items() if name not in buffers}
        stateless = [
            optimizers.stateless(path, tuple(parameters), counts)
            for path, counts in parts.stateless
        ]
        return Run(
            parameters=parameters,
            buffers=buffers | _collections(parts.states),
            optimizers=(*parts.optimizers, *stateless),
            schedules=tuple(parts.schedules),
            streams=tuple(parts.streams),
            averages={path: _leaves([(path, node)]) for path, node in parts.averages},
            progress=parts.progress,
            unrecognized=leftovers(checkpoint.tree, parts.known),
            notes=tuple(parts.notes),
        )

    def lower(self, run: MovedRun, like: Template | None) -> Lowered:
        from portackpt_jax.dialect.lowering import lower

        return lower(run, like)


DIALECT = _Dialect()
