"""How DCP flattens a tree: dotted names, the places they stand for, and what is an item.

Dicts are taken apart, their keys as text; lists only where a tensor or a dict is in them; what is
left is a tensor or an object that torch.save writes (a tuple, a number). Source: torch/distributed/
checkpoint/{_nested_dict,_traverse}.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from portackpt.tensor import Strided, Tensor
from portackpt.tree import Node, Object, spell_key, tensors
from portackpt_torch.dcp_metadata import Place

_MAPPINGS = frozenset(("collections.OrderedDict", "collections.defaultdict", "collections.Counter"))
_RESTORED = frozenset(("requires_grad",))
"""Attributes of a tensor that DCP keeps."""
ALONE = "value"
"""The name of a tree that is no dict."""


@dataclass(frozen=True, slots=True)
class Flat:
    """One item: its dotted name, where it stands, what it is."""

    name: str
    place: Place
    node: Node


@dataclass(frozen=True, slots=True)
class Projection:
    """The items; `is_whole` says that they are all there is, so that DCP gives back the tree."""

    items: tuple[Flat, ...]
    is_whole: bool


def project(tree: Node) -> Projection:
    """The items of `tree`."""
    root = tree if _entries(tree) is not None else {ALONE: tree}
    projector = _Projector(root is tree and type(tree) is dict)
    items = tuple(projector.items(root))
    return Projection(items, projector.is_whole)


def _entries(node: Node) -> dict[Node, Node] | None:
    """The entries of what torch takes for a mapping."""
    if type(node) is dict:
        return node
    if isinstance(node, Object) and node.type in _MAPPINGS:
        return node.entries or {}
    return None


class _Projector:
    def __init__(self, is_whole: bool) -> None:
        self.is_whole = is_whole
        self._names: set[str] = set()
        self._sources: set[int] = set()

    def items(self, root: Node) -> Iterator[Flat]:
        stack: list[Iterator[tuple[Place, Node]]] = [iter(self._parts((), root))]
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
                continue
            place, node = entry
            if _entries(node) is not None or (type(node) is list and _is_open(node)):
                stack.append(iter(self._parts(place, node)))
            else:
                self._look(node)
                yield Flat(self._name(place), place, node)

    def _parts(self, place: Place, node: Node) -> list[tuple[Place, Node]]:
        entries = _entries(node)
        if entries is None:
            return [((*place, index), part) for index, part in enumerate(node)]
        texts = [key if type(key) is str else spell_key(key) for key in entries]
        if len(set(texts)) < len(texts):
            texts = [f"{text}~{number}" for number, text in enumerate(texts)]
        plain = type(node) is dict and all(type(key) is str for key in node)
        self.is_whole &= plain and (bool(node) or not place)
        return [((*place, text), part) for text, part in zip(texts, entries.values(), strict=True)]

    def _name(self, place: Place) -> str:
        name = plain = ".".join(map(str, place))
        number = 2
        while name in self._names:
            name = f"{plain}~{number}"
            number += 1
        self._names.add(name)
        return name

    def _look(self, node: Node) -> None:
        """Take note of what DCP does not keep: attributes, views, storage that items share."""
        own = set()
        if isinstance(node, Tensor):
            self.is_whole &= node.attributes.keys() <= _RESTORED
            layout = node.layout
            if isinstance(layout, Strided):
                self.is_whole &= layout.covers(node.dtype, node.shape)
            own.add(id(layout.source) if isinstance(layout, Strided) else id(layout))
        elif isinstance(node, (list, tuple, Object)):
            for _, tensor in tensors(node):
                layout = tensor.layout
                own.add(id(layout.source) if isinstance(layout, Strided) else id(layout))
        self.is_whole &= self._sources.isdisjoint(own)
        self._sources |= own


def _is_open(node: list[Node]) -> bool:
    """True where torch takes the list apart."""
    for part in node:
        if isinstance(part, Tensor) or _entries(part) is not None:
            return True
        if type(part) is list and _is_open(part):
            return True
    return False
