"""The meaning of a checkpoint: a training run, in no framework's words.

A dialect lifts a checkpoint into a `Run`. Every value keeps the path of the leaf it came from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from portackpt.optimizers import Optimizer, Origin
from portackpt.tree import Node, children

if TYPE_CHECKING:
    from portackpt.randomness import RandomStream
    from portackpt.schedules import Schedule


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A schedule found at `path`."""

    path: str
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class Stream:
    """A random stream found at `path`: the leaves below that path are its own."""

    path: str
    stream: RandomStream


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A training run at one moment, as far as its checkpoint tells.

    `parameters` and `buffers` by FQN (a tied name is in `ties`: name → the name that owns it);
    `averages` are moving averages of the model, by path and FQN; `scaler` the gradient scaler in
    canonical names (`scale`, `growth_factor`, `backoff_factor`, `growth_interval`,
    `growth_tracker`); `progress` holds `step`, `epoch`, `samples`, `batch_in_epoch` where known.
    `unrecognized` are the highest paths below which nothing has a meaning here; `notes` sentences
    on parts that look like something known and cannot be read as that.
    """

    parameters: Mapping[str, Origin] = field(default_factory=dict)
    buffers: Mapping[str, Origin] = field(default_factory=dict)
    ties: Mapping[str, str] = field(default_factory=dict)
    optimizers: tuple[Optimizer, ...] = ()
    schedules: tuple[Scheduled, ...] = ()
    streams: tuple[Stream, ...] = ()
    averages: Mapping[str, Mapping[str, Origin]] = field(default_factory=dict)
    scaler: Mapping[str, Origin] = field(default_factory=dict)
    progress: Mapping[str, Origin] = field(default_factory=dict)
    unrecognized: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def at(path: str, component: str) -> str:
    """The path of a child; the root's own path is empty."""
    return f"{path}/{component}" if path else component


def leftovers(tree: Node, known: Collection[str]) -> tuple[str, ...]:
    """The highest paths of `tree` with nothing of `known` (paths of whole subtrees) in them.

    What is empty needs no meaning.
    """
    claimed = set(known)
    above: set[str] = {""} if claimed else set()
    for path in claimed:
        while path:
            path = path.rpartition("/")[0]
            if path in above and path:
                break
            above.add(path)
    found: list[str] = []
    stack: list[tuple[str, Node]] = [("", tree)]
    while stack:
        path, node = stack.pop()
        if path in claimed:
            continue
        if path not in above:
            if node not in (None, {}, [], ()):
                found.append(path)
            continue
        below = [(at(path, name), item) for name, item in children(node)]
        stack.extend(reversed(below))
    return tuple(found)
