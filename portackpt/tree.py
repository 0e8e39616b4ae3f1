"""Trees: what a checkpoint holds, as plain data with named leaves.

A node is one of

* `dict` (keys in order, of any hashable plain type), `list`, `tuple`
* `Tensor`, or a plain value: `None`, `bool`, `int`, `float`, `complex`, `str`, `bytes`
* `Object`: a value of any other type, as the name of that type and the plain data it is made of.

A leaf is a tensor, a plain value, or a container with nothing in it. Its path is slash-joined, with
`~1` for a slash and `~0` for a tilde inside a name (RFC 6901). Parts of an `Object` that have no
key of their own stand under `~(N)` (the N-th argument) and `~.NAME` (the attribute NAME).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from portackpt.tensor import Tensor

Node: TypeAlias = Any
PLAIN = (type(None), bool, int, float, complex, str, bytes)
MAX_DEPTH = 256
"""Containers inside containers, at most; readers refuse deeper trees."""


@dataclass(frozen=True, slots=True, eq=False)
class Object:
    """A value of a type that plain data cannot spell; nothing of that type is ever imported.

    `type` is a dotted name, kept as data. The rest says how such a value is made, in the terms of
    Python's `object.__reduce_ex__`: constructor arguments, then `items` (appended), `entries` (set
    by key), `state` (attributes).
    """

    type: str
    args: tuple[Node, ...] = ()
    items: list[Node] | None = None
    entries: dict[Node, Node] | None = None
    state: Node = None


CONTAINERS = (dict, list, tuple, Object)


def escape(name: str) -> str:
    """`name` as one component of a path."""
    if "~" in name or "/" in name:
        return name.replace("~", "~0").replace("/", "~1")
    return name


def unescape(component: str) -> str:
    return component.replace("~1", "/").replace("~0", "~")


def plain_name(path: str) -> str:
    """`path` without escapes, for people and for comparing names across formats."""
    return path.replace("~1", "/").replace("~0", "~") if "~" in path else path


def children(node: Node) -> Iterator[tuple[str, Node]]:
    """The parts of a container with their (escaped, distinct) path components; empty for leaves."""
    if isinstance(node, dict):
        yield from _entries(node)
    elif isinstance(node, (list, tuple)):
        for index, item in enumerate(node):
            yield str(index), item
    elif isinstance(node, Object):
        for index, item in enumerate(node.args):
            yield f"~({index})", item
        for index, item in enumerate(node.items or ()):
            yield str(index), item
        yield from _entries(node.entries or {}, taken=len(node.items or ()))
        if isinstance(node.state, dict):
            for key, item in _entries(node.state):
                yield f"~.{key}", item
        elif node.state is not None:
            yield "~.", node.state


def _entries(mapping: dict[Node, Node], taken: int = 0) -> Iterable[tuple[str, Node]]:
    if not taken and set(map(type, mapping)) <= {str}:  # distinct, and so are their escapes
        return zip(map(escape, mapping), mapping.values(), strict=True)
    return _set_apart(mapping, {str(index) for index in range(taken)})


def _set_apart(mapping: dict[Node, Node], used: set[str]) -> Iterator[tuple[str, Node]]:
    for key, item in mapping.items():
        component = escape(key) if isinstance(key, str) else escape(spell_key(key))
        if component in used:
            component = _apart(f"{component}~{type(key).__name__}", used)
        used.add(component)
        yield component, item


def _apart(component: str, used: set[str]) -> str:
    """A component like this one that is not in use; `~2` and up are no escapes."""
    found, count = component, 1
    while found in used:
        count += 1
        found = f"{component}~{count}"
    return found


def spell_key(key: Node) -> str:
    """A key that is not a string, for a path: `0`, `None`, `(1, 'a')`, `my.Kind('a')`."""
    if not isinstance(key, Object):
        return str(key)
    made_of = ", ".join(
        spell_key(arg) if isinstance(arg, Object) else repr(arg) for arg in key.args
    )
    return f"{key.type}({made_of})" if key.args else key.type


def is_leaf(node: Node) -> bool:
    """True for tensors, plain values, and containers with nothing in them."""
    if isinstance(node, (dict, list, tuple)):
        return not node
    if isinstance(node, Object):
        return next(children(node), None) is None
    return True


def walk(node: Node) -> Iterator[tuple[str, Node]]:
    """Every leaf with its path, in order. Iterative: depth costs no Python stack."""
    if is_leaf(node):
        yield "", node
        return
    stack: list[tuple[str, Iterator[tuple[str, Node]]]] = [("", children(node))]
    while stack:
        base, parts = stack[-1]
        for component, item in parts:
            path = base + component
            if isinstance(item, CONTAINERS) and not is_leaf(item):
                stack.append((f"{path}/", children(item)))
                break
            yield path, item
        else:
            stack.pop()


def tensors(node: Node) -> Iterator[tuple[str, Tensor]]:
    """Every tensor with its path, in order (a tensor that stands twice comes twice)."""
    for path, leaf in walk(node):
        if isinstance(leaf, Tensor):
            yield path, leaf


def rebuild(node: Node, change: Callable[[str, Node], Node]) -> Node:
    """A copy of the tree with `change(path, leaf)` in place of every leaf."""
    return _rebuild(node, change, "", True)


def _rebuild(node: Node, change: Callable[[str, Node], Node], path: str, top: bool) -> Node:
    if is_leaf(node):
        return change(path, node)
    parts = iter(
        [
            _rebuild(item, change, component if top else f"{path}/{component}", False)
            for component, item in children(node)
        ]
    )
    return assemble(node, parts)


def assemble(node: Node, parts: Iterator[Node]) -> Node:
    """A container like `node` with `parts` in place of its children, in their order."""
    if isinstance(node, dict):
        return {key: next(parts) for key in node}
    if isinstance(node, list):
        return list(parts)
    if isinstance(node, tuple):
        return tuple(parts)
    return Object(
        node.type,
        tuple([next(parts) for _ in node.args]),
        None if node.items is None else [next(parts) for _ in node.items],
        None if node.entries is None else {key: next(parts) for key in node.entries},
        {key: next(parts) for key in node.state}
        if isinstance(node.state, dict)
        else None
        if node.state is None
        else next(parts),
    )
