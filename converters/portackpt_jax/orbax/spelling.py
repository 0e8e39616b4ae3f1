"""A tree as Orbax sees it: leaves in order, each with its keys, its name and its value type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from portackpt.dtypes import BY_NAME, DType
from portackpt.errors import WriteError
from portackpt.tensor import Tensor
from portackpt.tree import MAX_DEPTH, Node, Object
from portackpt_jax.orbax.keys import MAPPING, SEQUENCE, Key, joined_name, key_prefix, spell

RANDOM_KEY = "jax.random.key"
_EMPTY = {dict: "Dict", list: "List", tuple: "Tuple", type(None): "None"}
_NUMBERS: dict[type, DType] = {
    bool: BY_NAME["bool"],
    int: BY_NAME["int64"],
    float: BY_NAME["float64"],
}


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf: `value` is a tensor, a plain value or an empty container.

    `generator` is set where a tensor is the data of a random key.
    """

    path: tuple[Key, ...]
    name: str
    value_type: str
    value: Node
    generator: str | None = None


def is_random_key(node: Object) -> bool:
    """A key that `jax.random.key` made, as its data and the name of its generator."""
    parts = node.entries or {}
    return (
        node.type == RANDOM_KEY
        and parts.keys() == {"data", "impl"}
        and not node.args and node.items is None and node.state is None
        and isinstance(parts["data"], Tensor) and parts["data"].dtype.name == "uint32"
        and isinstance(parts["impl"], str)
    )  # fmt: skip


def leaves(tree: Node) -> Iterator[Leaf]:
    """Every leaf, in order; two that Orbax would keep under one name are an error."""
    if tree is None:
        raise WriteError("None alone is no checkpoint to Orbax")
    taken: dict[str, tuple[Key, ...]] = {}
    for path, value in walk(tree):
        joined = _encodable(joined_name(path))
        leaf = _leaf(path, joined, value)
        if leaf.value_type not in _EMPTY.values():
            _claim(taken, leaf)
        yield leaf


def _claim(taken: dict[str, tuple[Key, ...]], leaf: Leaf) -> None:
    """Take the place where the leaf's value will lie."""
    place = f"text {leaf.name}" if leaf.value_type == "string" else key_prefix(leaf.name)
    other = taken.setdefault(place, leaf.path)
    if other is not leaf.path:
        raise WriteError(
            f"Orbax joins names with dots and cannot tell {spell(leaf.path)!r} from "
            f"{spell(other)!r}; rename one of them"
        )


def walk(node: Node, path: tuple[Key, ...] = ()) -> Iterator[tuple[tuple[Key, ...], Node]]:
    """Every leaf with its keys, in order."""
    if len(path) > MAX_DEPTH:
        raise WriteError(f"containers over {MAX_DEPTH} deep")
    if isinstance(node, dict) and node:
        for key, item in node.items():
            if not isinstance(key, str):
                raise WriteError(f"a key of type {type(key).__name__}", spell(path))
            yield from walk(item, (*path, (key, MAPPING)))
    elif isinstance(node, (list, tuple)) and node:
        for index, item in enumerate(node):
            yield from walk(item, (*path, (str(index), SEQUENCE)))
    else:
        yield path, node


def _encodable(joined: str) -> str:
    try:
        joined.encode()
    except UnicodeEncodeError:
        raise WriteError(f"the name {joined!r} is not text that UTF-8 can spell") from None
    return joined


def _leaf(path: tuple[Key, ...], joined: str, value: Node) -> Leaf:
    kind = type(value)
    if kind is Tensor:
        attributes = value.attributes
        scalar = attributes.get("numpy.class") == "numpy.scalar" and not value.shape
        if scalar and value.dtype not in _NUMBERS.values():
            return Leaf(path, joined, "scalar", value)
        jax = "jax.class" in attributes
        return Leaf(path, joined, "jax.Array" if jax else "np.ndarray", value)
    if kind in _EMPTY:
        return Leaf(path, joined, _EMPTY[kind], value)
    if kind in _NUMBERS:
        return Leaf(path, joined, "scalar", value)
    if kind is str:
        return Leaf(path, joined, "string", value)
    if kind is Object and is_random_key(value):
        return Leaf(path, joined, "jax.Array", value.entries["data"], value.entries["impl"])
    raise WriteError(f"Orbax has no leaf of type {getattr(value, 'type', kind.__name__)}", joined)


def number(value: bool | int | float) -> tuple[DType, bytes]:
    """A plain number as the bytes of its dtype."""
    import numpy as np

    dtype = _NUMBERS[type(value)]
    try:
        return dtype, np.array(value, dtype.to_numpy()).tobytes()
    except OverflowError:
        raise WriteError(f"{value} does not fit in {dtype}") from None
