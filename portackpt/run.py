"""The meaning of a checkpoint: a training run, in no framework's words.

A dialect lifts a tree into a `Run` and lowers a `Run` into a tree of its own. Every value keeps the
path of the source leaf that it came from, so that the ledger can account for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from portackpt.ledger import Entry
from portackpt.optimizers import Optimizer, Origin
from portackpt.randomness import RandomStream
from portackpt.schedules import Schedule
from portackpt.tree import Node


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A schedule found at `path`: the source leaves below that path are its own."""

    name: str
    path: str
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class Stream:
    """A random stream found at `path`."""

    path: str
    stream: RandomStream


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A training run at one moment.

    `parameters` and `buffers` by FQN (a tied name is in `ties`: name → the name that owns it);
    `averages` are EMA copies of parameters, by name of the average and FQN; `scaler` the gradient
    scaler in canonical names (`scale`, `growth_factor`, `backoff_factor`, `growth_interval`,
    `growth_tracker`); `progress` holds `step`, `epoch`, `samples`, `batch_in_epoch` where known;
    `leftovers` every source leaf that was not recognized, by path, in order.
    """

    parameters: Mapping[str, Origin]
    buffers: Mapping[str, Origin] = field(default_factory=dict)
    ties: Mapping[str, str] = field(default_factory=dict)
    optimizers: tuple[Optimizer, ...] = ()
    schedules: tuple[Scheduled, ...] = ()
    streams: tuple[Stream, ...] = ()
    averages: Mapping[str, Mapping[str, Origin]] = field(default_factory=dict)
    scaler: Mapping[str, Origin] = field(default_factory=dict)
    progress: Mapping[str, Origin] = field(default_factory=dict)
    metrics: Mapping[str, Origin] = field(default_factory=dict)
    leftovers: Mapping[str, Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Lowered:
    """A run as a tree of a framework, the entry of every leaf on both sides, and the code that
    builds the optimizer and schedule in the target's program and restores the tree."""

    tree: Node
    entries: tuple[Entry, ...]
    resume: str
