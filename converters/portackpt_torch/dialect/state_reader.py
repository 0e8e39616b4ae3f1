"""Reading a state dict of plain data: every value checked, every fault named by its key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from portackpt.errors import DamagedError
from portackpt.tensor import Tensor
from portackpt.tree import Node, Object

if TYPE_CHECKING:
    from portackpt.schedules.expression import Number

LARGEST = 1 << 63


def mapping(node: Node) -> dict[Node, Node] | None:
    """The entries of a dict, an OrderedDict or a Counter; None for anything else."""
    if isinstance(node, dict):
        return node
    if isinstance(node, Object):
        if node.entries is not None:
            return node.entries
        if len(node.args) == 1 and isinstance(node.args[0], dict):
            return node.args[0]
        if node.type in ("collections.OrderedDict", "collections.Counter"):
            return {}
    return None


def sequence(node: Node) -> list[Node] | None:
    """The items of a list or tuple; None for anything else."""
    return list(node) if isinstance(node, list | tuple) else None


def number(node: Node, key: str) -> Number:
    """A number, or a tensor of one; finite."""
    found = _scalar(node)
    if found is None:
        raise DamagedError(f"expected a number, found {_kind(node)}", key)
    if isinstance(found, int) and abs(found) >= LARGEST:
        raise DamagedError("expected a number below 2**63, found a larger one", key)
    if not math.isfinite(found):
        raise DamagedError(f"expected a finite number, found {found}", key)
    return found


def _scalar(node: Node) -> Number | None:
    if isinstance(node, bool):
        return None
    if isinstance(node, int | float):
        return node
    if isinstance(node, Tensor) and node.size == 1 and node.dtype.name.startswith(
        ("float", "bfloat", "int", "uint")
    ):  # fmt: skip
        value: Any = node.read().reshape(())[()]
        return int(value) if "int" in node.dtype.name else float(value)
    return None


def is_narrow(node: Node) -> bool:
    """True for a tensor that keeps fewer digits than float64."""
    return isinstance(node, Tensor) and node.dtype.name != "float64"


def _kind(node: Node) -> str:
    return node.type if isinstance(node, Object) else type(node).__name__


class Reader:
    """A state dict, key by key."""

    def __init__(self, state: Mapping[Node, Node]) -> None:
        self.state = state

    def has(self, *keys: str) -> bool:
        return all(key in self.state for key in keys)

    def number(self, key: str, default: Number | None = None) -> Number:
        if default is not None and key not in self.state:
            return default
        return number(self._get(key), key)

    def integer(self, key: str) -> int:
        found = self.number(key)
        if found != int(found):
            raise DamagedError(f"expected a whole number, found {found}", key)
        return int(found)

    def numbers(self, key: str) -> tuple[Number, ...]:
        items = sequence(self._get(key))
        if items is None:
            raise DamagedError(f"expected a list of numbers, found {_kind(self._get(key))}", key)
        return tuple([number(item, f"{key}[{i}]") for i, item in enumerate(items)])

    def flag(self, key: str, default: bool = False) -> bool:
        found = self.state.get(key, default)
        if not isinstance(found, bool):
            raise DamagedError(f"expected True or False, found {_kind(found)}", key)
        return found

    def text(self, key: str) -> str:
        found = self._get(key)
        if not isinstance(found, str):
            raise DamagedError(f"expected text, found {_kind(found)}", key)
        return found

    def _get(self, key: str) -> Node:
        if key not in self.state:
            raise DamagedError(f"the state has no {key!r}")
        return self.state[key]
