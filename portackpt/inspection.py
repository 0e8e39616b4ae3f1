"""What is in a checkpoint, as values: from its indexes alone, without reading a tensor."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from portackpt.conversion import open_checkpoint
from portackpt.roles import Role, role
from portackpt.tensor import Strided, Tensor
from portackpt.tree import Node, Object, children, plain_name, unescape, walk


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
    `unrecognized` the paths of objects whose types are unknown here.
    """

    path: str
    format: str
    framework: str | None
    framework_version: str | None
    step: int | None
    nbytes: int
    tensors: tuple[TensorFacts, ...]
    optimizers: tuple[dict[str, Any], ...]
    randomness: tuple[dict[str, Any], ...]
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
            "schedules": [],
            "randomness": list(self.randomness),
            "progress": {} if self.step is None else {"step": self.step},
            "unrecognized": list(self.unrecognized),
        }


def inspect(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    step: int | None = None,
    match: str | None = None,
) -> Inspection:
    """What is in the checkpoint at `path`. `match` keeps the tensors whose name fits a glob."""
    checkpoint = open_checkpoint(path, format=format, step=step)
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
                    role(place, leaf),
                    unescape(place.partition("/")[0]),
                )
            )
    objects = list(_objects(checkpoint.tree))
    return Inspection(
        str(path),
        checkpoint.format,
        checkpoint.framework,
        checkpoint.framework_version,
        checkpoint.step,
        sum(storages.values()),
        tuple(facts),
        tuple(_optimizers(checkpoint.tree)),
        tuple(
            {"name": fact.name, "engine": None} for fact in facts if fact.role is Role.RANDOMNESS
        ),
        values,
        tuple(place for place, node in objects if _unknown(node)),
        checkpoint.notes,
    )


_KNOWN_PREFIXES = ("collections.", "builtins.", "torch.", "numpy.", "jax.", "tensorflow.",
                   "datetime.", "pathlib.", "portackpt.", "keras.")  # fmt: skip


def _unknown(node: Object) -> bool:
    return not node.type.startswith(_KNOWN_PREFIXES)


def _objects(tree: Node) -> list[tuple[str, Object]]:
    found: list[tuple[str, Object]] = []
    stack: list[tuple[str | None, Node]] = [(None, tree)]
    while stack:
        place, node = stack.pop()
        if isinstance(node, Object):
            found.append((place or "", node))
        if isinstance(node, (dict, list, tuple, Object)):
            below = [(_at(place, name), item) for name, item in children(node)]
            stack.extend(reversed(below))
    return found


def _at(place: str | None, name: str) -> str:
    return name if place is None else f"{place}/{name}"


def _optimizers(tree: Node) -> list[dict[str, Any]]:
    """Optimizer states in PyTorch's form: `state` by parameter and `param_groups`."""
    found: list[dict[str, Any]] = []
    stack: list[tuple[str | None, Node]] = [(None, tree)]
    while stack:
        place, node = stack.pop()
        mapping = node.entries if isinstance(node, Object) else node
        if not isinstance(mapping, dict):
            continue
        groups = mapping.get("param_groups")
        if isinstance(mapping.get("state"), dict) and isinstance(groups, list):
            found.append(_optimizer(place or "", mapping["state"], groups))
            continue
        below = [(_at(place, name), item) for name, item in children(mapping)]
        stack.extend(reversed(below))
    return found


def _optimizer(place: str, state: dict[Node, Node], groups: list[Node]) -> dict[str, Any]:
    slots: dict[str, None] = {}
    step: Any = None
    for slot in state.values():
        if isinstance(slot, dict):
            slots.update(dict.fromkeys(str(name) for name in slot))
            if step is None and isinstance(slot.get("step"), (int, float)):
                step = slot["step"]
    slots.pop("step", None)
    plain_groups = [group for group in groups if isinstance(group, dict)]
    count = sum(len(g["params"]) for g in plain_groups if isinstance(g.get("params"), list))
    return {
        "name": place,
        "algorithm": None,
        "hyperparameters": [
            {str(k): v for k, v in group.items() if k != "params" and _simple(v)}
            for group in plain_groups
        ],
        "slots": list(slots),
        "step": step,
        "parameters": count,
    }


def _simple(value: Node) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_simple(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))
