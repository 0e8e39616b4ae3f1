"""Stand-in until the live adapters are there: trees of plain data and numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from portackpt.bytesource import InMemory
from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import from_numpy
from portackpt.errors import InputError
from portackpt.strides import as_bytes
from portackpt.tensor import Tensor, contiguous
from portackpt.tree import Node


@dataclass(frozen=True, slots=True)
class Restored:
    objects: Mapping[str, Any]
    ledger: None = None


def capture(objects: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(_down(dict(objects)), "portackpt")


def _down(node: Any) -> Node:
    if isinstance(node, np.ndarray):
        return contiguous(from_numpy(node.dtype), node.shape, InMemory(as_bytes(node)))
    if isinstance(node, dict):
        return {key: _down(item) for key, item in node.items()}
    if isinstance(node, list):
        return [_down(item) for item in node]
    return node


def apply(checkpoint: Checkpoint, objects: Mapping[str, Any]) -> Restored:
    if set(checkpoint.tree) != set(objects):
        raise InputError(f"expected {sorted(objects)}, found {sorted(checkpoint.tree)}")
    return Restored({name: _up(checkpoint.tree[name], objects[name]) for name in objects})


def _up(node: Node, live: Any) -> Any:
    if isinstance(node, Tensor):
        values = node.read()
        if isinstance(live, np.ndarray):
            live[...] = values
            return live
        return values
    if isinstance(node, dict):
        found = {key: _up(item, live.get(key)) for key, item in node.items()}
        live.clear()
        live.update(found)
        return live
    if isinstance(node, list):
        live[:] = [_up(item, None) for item in node]
        return live
    return node
