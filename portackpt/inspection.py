"""What is in a checkpoint, as values: from its indexes and a few numbers, without reading a tensor.

What it means comes from the dialect of the framework that wrote it; where that has no answer, a
tensor's role is taken from its name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from portackpt import dialects
from portackpt.checkpoint import Checkpoint
from portackpt.collector import paused_collector
from portackpt.conversion import open_checkpoint
from portackpt.description import describe_optimizer, describe_schedule, describe_stream
from portackpt.roles import Role, role
from portackpt.run import Run
from portackpt.tensor import Strided, Tensor
from portackpt.tree import CONTAINERS, Node, Object, children, plain_name, unescape, walk


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One tensor as the index describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    role: Role
    item: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """The contents of one checkpoint.

    `nbytes` counts shared storage once. `values` are the leaves that are no tensors, by path;
    `unrecognized` the highest paths below which nothing has a known meaning.
    """

    path: str
    format: str
    framework: str | None
    framework_version: str | None
    step: int | None
    nbytes: int
    tensors: tuple[TensorFacts, ...]
    optimizers: tuple[dict[str, Any], ...]
    schedules: tuple[dict[str, Any], ...]
    randomness: tuple[dict[str, Any], ...]
    progress: dict[str, Any]
    values: dict[str, Node] = field(repr=False)
    unrecognized: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of the command-line contract."""
        return {
            "format": self.format,
            "framework": self.framework,
            "framework_version": self.framework_version,
            "step": self.step,
            "nbytes": self.nbytes,
            "tensors": [
                {
                    "name": fact.name,
                    "dtype": fact.dtype,
                    "shape": list(fact.shape),
                    "nbytes": fact.nbytes,
                    "role": str(fact.role),
                    "item": fact.item,
                }
                for fact in self.tensors
            ],
            "optimizers": list(self.optimizers),
            "schedules": list(self.schedules),
            "randomness": list(self.randomness),
            "progress": self.progress,
            "unrecognized": list(self.unrecognized),
        }


def inspect(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    step: int | None = None,
    match: str | None = None,
    settings: Mapping[str, str] | None = None,
) -> Inspection:
    """What is in the checkpoint at `path`. `match` keeps the tensors whose name fits a glob.

    `settings` settle what the checkpoint leaves open: `{"optimizer": "adamw"}`.
    """
    with paused_collector():
        checkpoint = open_checkpoint(path, format=format, step=step)
        return _inspect(checkpoint, str(path), match, settings or {})


def _inspect(
    checkpoint: Checkpoint, path: str, match: str | None, settings: Mapping[str, str]
) -> Inspection:
    run = lift(checkpoint, settings)
    roles = _roles(run)
    streams = dict.fromkeys([stream.path for stream in run.streams])
    facts: list[TensorFacts] = []
    values: dict[str, Node] = {}
    storages: dict[int, int] = {}
    for place, leaf in walk(checkpoint.tree):
        if not isinstance(leaf, Tensor):
            values[place] = leaf
            continue
        layout = leaf.layout
        if isinstance(layout, Strided):
            storages[id(layout.source)] = layout.source.nbytes
        else:
            storages[id(leaf)] = leaf.nbytes
        if match is None or fnmatchcase(plain_name(place), match) or fnmatchcase(place, match):
            facts.append(
                TensorFacts(
                    place,
                    leaf.dtype.name,
                    leaf.shape,
                    leaf.nbytes,
                    Role.RANDOMNESS
                    if streams and _below(place, streams)
                    else roles.get(place) or role(place, leaf),
                    unescape(place.partition("/")[0]),
                )
            )
    progress = {name: origin.value for name, origin in run.progress.items()}
    if checkpoint.step is not None:
        progress["step"] = checkpoint.step
    found = progress.get("step")
    return Inspection(
        path,
        checkpoint.format,
        checkpoint.framework,
        checkpoint.framework_version,
        found if isinstance(found, int) else None,
        sum(storages.values()),
        tuple(facts),
        tuple([describe_optimizer(optimizer) for optimizer in run.optimizers]),
        tuple([describe_schedule(found.path, found.schedule) for found in run.schedules]),
        tuple([describe_stream(stream) for stream in run.streams]),
        progress,
        values,
        _unrecognized(run, checkpoint.tree),
        (*checkpoint.notes, *run.notes),
    )


def lift(checkpoint: Checkpoint, settings: Mapping[str, str]) -> Run:
    """What the checkpoint means to the framework that wrote it; nothing where none is known."""
    dialect = None if checkpoint.framework is None else dialects.get(checkpoint.framework)
    return Run() if dialect is None else dialect.lift(checkpoint, settings)


def _roles(run: Run) -> dict[str, Role]:
    """The roles that the run knows, by path."""
    roles = {origin.path: Role.PARAMETER for origin in run.parameters.values()}
    roles |= {origin.path: Role.BUFFER for origin in run.buffers.values()}
    for optimizer in run.optimizers:
        for slots in optimizer.slots.values():
            roles |= {origin.path: Role.SLOT for origin in slots.values()}
    return roles


def _unrecognized(run: Run, tree: Node) -> tuple[str, ...]:
    """What the dialect leaves, and objects of types that nobody here knows."""
    found = dict.fromkeys(run.unrecognized)
    for place, node in _objects(tree):
        if not node.type.startswith(_KNOWN_PREFIXES) and not _below(place, found):
            found[place] = None
    return tuple(found)


def _below(place: str, paths: Mapping[str, None]) -> bool:
    """Whether `place` is one of the paths or below one."""
    while place not in paths:
        if not place:
            return False
        place = place.rpartition("/")[0]
    return True


_KNOWN_PREFIXES = ("collections.", "builtins.", "torch.", "numpy.", "jax.", "tensorflow.",
                   "datetime.", "pathlib.", "portackpt.", "keras.")  # fmt: skip


def _objects(tree: Node) -> list[tuple[str, Object]]:
    found: list[tuple[str, Object]] = []
    stack: list[tuple[str | None, Node]] = [(None, tree)]
    while stack:
        place, node = stack.pop()
        if isinstance(node, Object):
            found.append((place or "", node))
        below = [(_at(place, name), item) for name, item in children(node)
                 if isinstance(item, CONTAINERS)]  # fmt: skip
        stack.extend(reversed(below))
    return found


def _at(place: str | None, name: str) -> str:
    return name if place is None else f"{place}/{name}"
