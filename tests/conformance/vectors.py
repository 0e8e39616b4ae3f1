"""The conformance vectors, and what they say in the terms of the library."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from portackpt.dtypes import STRING
from portackpt.tensor import Strided, Tensor, Tiled
from portackpt.tree import Object, walk

SPEC = Path(__file__).parents[2] / "spec"


@dataclass(frozen=True)
class Vector:
    """One vector: a checkpoint (or a root), and what is expected of it."""

    name: str
    path: Path
    expected: dict[str, Any]


def vectors(kind: str) -> list[Vector]:
    found = []
    for folder in sorted((SPEC / "vectors" / kind).iterdir()):
        expected = json.loads((folder / "expectation.json").read_text())
        found.append(Vector(folder.name, folder / "checkpoint", expected))
    return found


def spelled(node: Any, tensors: dict[int, Tensor], numbers: list[int]) -> Any:
    """A node in the JSON of expectations. `numbers` are those of the tensors, in order."""
    if isinstance(node, Tensor):
        known = next((n for n, tensor in tensors.items() if tensor is node), None)
        if known is not None:
            return ["tensor", known]
        number = numbers.pop(0)
        tensors[number] = node
        parts = [p for item in node.attributes.items() for p in item]
        return ["tensor", number, *(spelled(part, tensors, numbers) for part in parts)]
    if isinstance(node, dict):
        parts = [part for item in node.items() for part in item]
        return ["dict", *(spelled(part, tensors, numbers) for part in parts)]
    if isinstance(node, (list, tuple)):
        return [type(node).__name__, *(spelled(part, tensors, numbers) for part in node)]
    if isinstance(node, Object):
        parts = [node.type, node.args, node.items, node.entries, node.state]
        return ["object", *(spelled(part, tensors, numbers) for part in parts)]
    return scalar(node)


def scalar(value: Any) -> Any:
    if isinstance(value, float):
        return ["float", struct.pack(">d", value).hex()]
    if isinstance(value, complex):
        return ["complex", scalar(value.real), scalar(value.imag)]
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        return ["str", ["bytes", value.encode("utf-8", "surrogatepass").hex()]]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 1 << 53:
        return ["int", str(value)]
    return value


def numbers_in(tree: Any) -> list[int]:
    """The numbers of an expected tree's tensors, each once, in order."""
    found: dict[int, None] = {}
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            if node[:1] == ["tensor"]:
                found.setdefault(node[1])
            stack += reversed(node)
    return list(found)


def facts(tensor: Tensor) -> dict[str, Any]:
    """A tensor as expectations have it."""
    data = b"".join(bytes(piece) for piece in tensor.pieces())
    if tensor.dtype is not STRING:
        assert tensor.read().tobytes() == data
    return {"dtype": tensor.dtype.name, "shape": list(tensor.shape), "bytes": data.hex()}


def share(first: Tensor, second: Tensor) -> bool:
    """True when two tensors lie over one storage."""
    assert isinstance(first.layout, Strided)
    assert isinstance(second.layout, Strided)
    return first.layout.source is second.layout.source


def read_everything(tree: Any) -> None:
    """Read all values, as a program that restores a checkpoint does."""
    for _, leaf in walk(tree):
        if isinstance(leaf, Tensor):
            values = leaf.read()
            assert isinstance(values, np.ndarray)
            assert values.shape == leaf.shape
            assert isinstance(leaf.layout, (Strided, Tiled))
