"""Opening a checkpoint: where it lies, its tensors by name, the tree they make."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from portackpt.checkpoint import Checkpoint
from portackpt.collector import paused_collector
from portackpt.dtypes import STRING
from portackpt.errors import DamagedError, UnsupportedError
from portackpt.tensor import Tensor
from portackpt.tree import Node
from portackpt_tensorflow.bundle import read_bundle
from portackpt_tensorflow.location import Kind, Location, locate
from portackpt_tensorflow.naming import GRAPH, VALUE, digest, nest_names, nest_objects
from portackpt_tensorflow.singlefile import read_single_file

_PART = re.compile(r"-\d{5}-of-(\d{5})$")
_COUNTERS = ("global_step", f"global_step/.ATTRIBUTES/{VALUE}")
_SAVES = f"save_counter/.ATTRIBUTES/{VALUE}"


def read_checkpoint(path: Path, step: int | None, name: str, framework: str | None) -> Checkpoint:
    """The checkpoint at `path`, lazily."""
    with paused_collector():
        return _read(path, step, name, framework)


def _read(path: Path, step: int | None, name: str, framework: str | None) -> Checkpoint:
    place = locate(path, step)
    if place.kind is Kind.SINGLE_FILE:
        part = _PART.search(place.path.name)
        if part and int(part[1]) > 1:
            raise UnsupportedError(f"one of {int(part[1])} parts of a V1 checkpoint", str(path))
        tensors = read_single_file(place.path)
    else:
        tensors = read_bundle(place.path)
    number = step if step is not None else _step(place, tensors)
    tree, details = _nest(tensors)
    return Checkpoint(tree, name, framework, step=number, details=details, notes=place.notes)


def _nest(tensors: dict[str, Tensor]) -> tuple[Node, dict[str, Any]]:
    """The tree, and what it takes to find the names again."""
    graph = tensors.pop(GRAPH, None)
    if graph is None:
        return nest_names(tensors), {"layout": "names"}
    tree, whole = nest_objects(tensors)
    return tree, {
        "layout": "objects",
        "graph": _bytes(graph),
        "whole": whole,
        "keys": digest(tensors),
    }


def _bytes(graph: Tensor) -> bytes:
    if graph.dtype is not STRING or graph.shape:
        raise DamagedError(f"an object graph of dtype {graph.dtype} and shape {graph.shape}", GRAPH)
    value: bytes = graph.read().item()
    return value


def _step(place: Location, tensors: dict[str, Tensor]) -> int | None:
    """The training step: a counter of steps and the number in the name, where they agree.

    The counter of saves tells it only where there is neither.
    """
    found = {place.step, *(_scalar(tensors, key) for key in _COUNTERS)} - {None}
    if not found:
        found = {_scalar(tensors, _SAVES)}
    return found.pop() if len(found) == 1 else None


def _scalar(tensors: dict[str, Tensor], key: str) -> int | None:
    tensor = tensors.get(key)
    if tensor is None or tensor.shape or not tensor.dtype.name.startswith(("int", "uint")):
        return None
    return int(tensor.item())
