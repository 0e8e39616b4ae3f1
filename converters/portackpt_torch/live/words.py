"""torch's sizes, dtypes and devices: values whose names say all."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from portackpt.errors import UnsupportedError
from portackpt.tree import Node, Object

if TYPE_CHECKING:
    from portackpt.live import Capture, Restoring


def capture(value: Any, scene: Capture, path: str) -> Node:
    kind = type(value).__name__
    if kind == "Size":
        return Object("torch.Size", items=[int(n) for n in value])
    if kind == "dtype":
        return Object(str(value))
    index = () if value.index is None else (value.index,)
    return Object("torch.device", args=(value.type, *index))


def compare(value: Any, node: Node, scene: Restoring, path: str) -> None:
    wanted = "torch." if type(value).__name__ == "dtype" else f"torch.{type(value).__name__}"
    if not isinstance(node, Object) or not node.type.startswith(wanted):
        scene.fault(path, f"expected a torch.{type(value).__name__}")


def restore(value: Any, node: Object, scene: Restoring, path: str) -> Any:
    return make(node)


def make(node: Object) -> Any:
    """The value that `node` names. Raises `UnsupportedError`."""
    torch: Any = sys.modules["torch"]
    if node.type == "torch.Size":
        return torch.Size(node.items or [])
    if node.type == "torch.device":
        return torch.device(*node.args)
    name = node.type.removeprefix("torch.")
    found = getattr(torch, name, None) if name.isidentifier() else None
    if not isinstance(found, torch.dtype):
        raise UnsupportedError(f"a {node.type} cannot be made from a checkpoint")
    return found
