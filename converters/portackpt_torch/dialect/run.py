"""What a checkpoint of the PyTorch world means: its parts, found by their form wherever they stand.

A program nests them as it likes: a state dict alone, `{"model": …, "optimizer": …, "epoch": …}`,
Lightning's `state_dict`, `optimizer_states`, `lr_schedulers`, Composer's `state/optimizers/Adam`,
the files of a Hugging Face Trainer's folder. Names only tell what form does not: which of two
models is a moving average, which counter is the epoch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from portackpt.checkpoint import Checkpoint
from portackpt.errors import PortackptError
from portackpt.optimizers import Optimizer, Origin
from portackpt.run import Run, Scheduled, Stream, at, leftovers
from portackpt.tensor import Tensor
from portackpt.tree import Node, Object, children
from portackpt_torch.dialect import models, optimizers, progress
from portackpt_torch.dialect.models import StateDict
from portackpt_torch.dialect.state_reader import mapping

if TYPE_CHECKING:
    from portackpt.moved import Lowered, MovedRun, Template
    from portackpt.randomness import RandomStream
    from portackpt.schedules import Schedule

_SCALER: Mapping[str, str] = {
    "scale": "scale",
    "growth_factor": "growth_factor",
    "backoff_factor": "backoff_factor",
    "growth_interval": "growth_interval",
    "_growth_tracker": "growth_tracker",
}
_RANDOM = re.compile(r"(?i)(rng|random|generator|(^|/)(cuda|cpu|numpy|python|seed)(/|$))")


class _Parts:
    """What was found so far, with the paths of the subtrees that it explains."""

    def __init__(self) -> None:
        self.models: list[StateDict] = []
        self.optimizers: list[tuple[str, Node]] = []
        self.schedulers: list[tuple[str, Node]] = []
        self.streams: list[Stream] = []
        self.scaler: dict[str, Origin] = {}
        self.progress: dict[str, Origin] = {}
        self.known: set[str] = set()
        self.notes: list[str] = []

    def take(self, path: str, node: Node) -> bool:
        """True where the node as a whole is one of the parts."""
        stream = self._stream(path, node)
        if stream is not None:
            self.streams.append(Stream(path, stream))
        elif optimizers.is_state_dict(node):
            self.optimizers.append((path, node))
        elif _is_scheduler(node):
            self.schedulers.append((path, node))
        elif _is_scaler(node):
            for (component, value), name in zip(children(node), mapping(node) or {}, strict=False):
                self.scaler[_SCALER[name]] = Origin(at(path, component), value)
        elif models.is_state_dict(node) and not self._holds_streams(path, node):
            self.models.append(models.read(path, node))
        else:
            return False
        self.known.add(path)
        return True

    def count(self, path: str, node: Node) -> None:
        """Take the counters that stand in a mapping."""
        found = progress.read(path, node)
        if progress.TRAINER_STATE in path or isinstance(node, str):
            found = progress.from_trainer(path, node)
        for name, origin in found.items():
            self.progress.setdefault(name, origin)
            self.known.add(origin.path)

    def _stream(self, path: str, node: Node) -> RandomStream | None:
        if isinstance(node, Tensor):
            likely = node.dtype.name == "uint8" and bool(_RANDOM.search(path))
        elif isinstance(node, tuple | list):
            likely = len(node) in (3, 5)
        else:
            likely = "bit_generator" in (mapping(node) or {})
        if not likely:
            return None
        from portackpt.randomness import recognize  # as late as there is something

        with self.tolerant(path):
            return recognize(node, path)
        return None

    def _holds_streams(self, path: str, node: Node) -> bool:
        return any(
            isinstance(value, Tensor) and value.dtype.name == "uint8"
            and self._stream(at(path, str(name)), value) is not None
            for name, value in (mapping(node) or {}).items()
        )  # fmt: skip

    @contextmanager
    def tolerant(self, path: str) -> Iterator[None]:
        """A part that is not what it looks like stays unrecognized, and a note says so."""
        try:
            yield
        except PortackptError as error:
            self.known.discard(path)
            self.notes.append(f"{path or 'the root'} is not recognized: {error}")


def _is_scheduler(node: Node) -> bool:
    state = mapping(node) or {}
    # Composer keeps a dict of that name, by class
    if not isinstance(state.get("_schedulers", []), list | tuple):
        return False
    if "last_epoch" not in state and "_schedulers" not in state:
        return False
    from portackpt_torch.dialect.schedules import is_scheduler

    return is_scheduler(node)


def _is_scaler(node: Node) -> bool:
    found = mapping(node)
    return found is not None and found.keys() == _SCALER.keys()


def _find(tree: Node) -> _Parts:
    parts = _Parts()
    stack: list[tuple[str, Node]] = [("", tree)]
    while stack:
        path, node = stack.pop()
        if parts.take(path, node) or isinstance(node, Tensor):
            continue
        parts.count(path, node)
        below = [
            (at(path, name), item) for name, item in children(node)
            if isinstance(item, dict | list | tuple | Tensor | Object)
            or name == progress.TRAINER_STATE
        ]  # fmt: skip
        stack.extend(reversed(below))
    return parts


class _Dialect:
    """PyTorch's."""

    def lift(self, checkpoint: Checkpoint, settings: Mapping[str, str]) -> Run:
        parts = _find(checkpoint.tree)
        unknown: list[str] = []
        trained = [model for model in parts.models if not model.averaged]
        candidates = [model.model for model in trained or parts.models]
        lifted: list[Optimizer] = []
        for path, node in parts.optimizers:
            optimizer, rest = optimizers.lift(path, node, candidates, settings)
            lifted.append(optimizer)
            unknown += rest
        return Run(
            parameters=_named(trained, "parameters"),
            buffers=_named(trained, "buffers"),
            ties=_ties(trained),
            optimizers=tuple(lifted),
            schedules=tuple(_schedules(parts)),
            streams=tuple(parts.streams),
            averages={m.path: {**m.parameters, **m.buffers} for m in parts.models if m.averaged},
            scaler=parts.scaler,
            progress=parts.progress,
            unrecognized=(*leftovers(checkpoint.tree, parts.known), *unknown),
            notes=tuple(parts.notes),
        )

    def lower(self, run: MovedRun, like: Template | None) -> Lowered:
        from portackpt_torch.dialect.lowering import lower

        return lower(run, like)


def _named(found: list[StateDict], part: str) -> dict[str, Origin]:
    """By FQN; with the model's path before it where there are several models."""
    several = len(found) > 1
    return {
        at(model.path, name) if several else name: origin
        for model in found
        for name, origin in getattr(model, part).items()
    }


def _ties(found: list[StateDict]) -> dict[str, str]:
    if len(found) > 1:
        return {at(m.path, a): at(m.path, b) for m in found for a, b in m.ties.items()}
    return {name: owner for model in found for name, owner in model.ties.items()}


def _schedules(parts: _Parts) -> Iterator[Scheduled]:
    """Each with the groups of its optimizer, where it is clear which that is."""
    paired = len(parts.optimizers) == len(parts.schedulers)
    for index, (path, node) in enumerate(parts.schedulers):
        groups: list[dict[Node, Node]] = []
        if paired or len(parts.optimizers) == 1:
            groups = optimizers.groups_of(parts.optimizers[index if paired else 0][1])
        with parts.tolerant(path):
            yield Scheduled(path, _schedule(node, groups))


def _schedule(node: Node, groups: list[dict[Node, Node]]) -> Schedule:
    from portackpt_torch.dialect.schedules import lift

    try:
        return lift(node, groups)
    except PortackptError:
        return lift(node)  # of another optimizer, perhaps


DIALECT = _Dialect()
