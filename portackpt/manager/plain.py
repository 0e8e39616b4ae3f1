"""Plain objects: dicts, lists, tuples, numbers, text and numpy arrays, saved and restored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from portackpt.bytesource import InMemory
from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import from_numpy
from portackpt.errors import InputError, UsageError
from portackpt.strides import as_bytes
from portackpt.tensor import Tensor, contiguous, from_array
from portackpt.tree import PLAIN, Node, escape


@dataclass(frozen=True, slots=True)
class Restored:
    """The objects as the checkpoint has them; dicts, lists and arrays were filled in place."""

    objects: Mapping[str, Any]
    ledger: None = None


def capture(objects: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint over the memory of `objects`. Raises `UsageError`, naming what it cannot hold
    by its path."""
    return Checkpoint({name: _node(item, escape(str(name))) for name, item in objects.items()},
                      "portackpt")  # fmt: skip


def _node(item: Any, path: str) -> Node:
    if isinstance(item, np.ndarray):
        if not item.flags.c_contiguous or item.dtype.kind in "OSU" or item.dtype.byteorder == ">":
            return from_array(item)
        return contiguous(from_numpy(item.dtype), item.shape, InMemory(as_bytes(item)))
    if type(item) is dict:
        return {key: _node(value, f"{path}/{escape(str(key))}") for key, value in item.items()}
    if type(item) in (list, tuple):
        return type(item)([_node(value, f"{path}/{n}") for n, value in enumerate(item)])
    if type(item) in PLAIN:
        return item
    kind = f"{type(item).__module__}.{type(item).__qualname__}"
    raise UsageError(f"cannot save a {kind}: it is neither plain data nor a numpy array", path)


def apply(checkpoint: Checkpoint, objects: Mapping[str, Any]) -> Restored:
    """Fill `objects`. Names that only one of the two has are all told at once, before anything is
    changed."""
    tree = checkpoint.tree if isinstance(checkpoint.tree, dict) else {}
    missing = sorted(str(name) for name in objects if name not in tree)
    unexpected = sorted(str(name) for name in tree if name not in objects)
    if missing or unexpected:
        raise InputError(f"the checkpoint has no {missing}, and the call has no {unexpected}")
    return Restored({name: _filled(tree[name], live) for name, live in objects.items()})


def _filled(node: Node, live: Any) -> Any:
    if isinstance(node, Tensor):
        values = node.read()
        same = isinstance(live, np.ndarray) and (live.shape, live.dtype) == (
            values.shape, values.dtype,
        )  # fmt: skip
        if not same:
            return values
        live[...] = values
        return live
    if isinstance(node, dict):
        target = live if isinstance(live, dict) else {}
        found = {key: _filled(item, target.get(key)) for key, item in node.items()}
        target.clear()
        target.update(found)
        return target
    if isinstance(node, list):
        place = live if isinstance(live, list) else []
        old = [*place, *[None] * len(node)]
        place[:] = [_filled(item, old[n]) for n, item in enumerate(node)]
        return place
    if isinstance(node, tuple):
        return tuple([_filled(item, None) for item in node])
    return node
