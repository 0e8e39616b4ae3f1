"""Python's containers as nodes, and back: a fixed table, so that no name of a file is imported."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

from portackpt.errors import UnsupportedError
from portackpt.tree import Node, Object

_FACTORIES: dict[str, Any] = {
    f"builtins.{kind.__name__}": kind for kind in (bool, bytes, dict, float, int, list, set, str)
}
_NAMES = {kind: name for name, kind in _FACTORIES.items()}
_MAPPINGS: dict[type, str] = {
    OrderedDict: "collections.OrderedDict",
    Counter: "collections.Counter",
    defaultdict: "collections.defaultdict",
}
_SEQUENCES: dict[type, str] = {
    deque: "collections.deque",
    set: "builtins.set",
    frozenset: "builtins.frozenset",
}


def spell(value: Any, items: Callable[[], list[Node]], entries: Callable[[], Any]) -> Node | None:
    """A container of the standard library, with its parts spelled; None for anything else."""
    kind = type(value)
    if kind in _MAPPINGS:
        return Object(_MAPPINGS[kind], _arguments(value), entries=entries())
    if kind in _SEQUENCES:
        return Object(_SEQUENCES[kind], _arguments(value), items=items())
    return None


def _arguments(value: Any) -> tuple[Node, ...]:
    if isinstance(value, defaultdict):
        factory = value.default_factory
        if factory is None:
            return (None,)
        if factory not in _NAMES:
            raise UnsupportedError(
                f"a defaultdict that makes {getattr(factory, '__name__', factory)}: only "
                f"{', '.join(kind.__name__ for kind in _NAMES)} can be saved"
            )
        return (Object(_NAMES[factory]),)
    if isinstance(value, deque) and value.maxlen is not None:
        return ((), value.maxlen)
    return ()


def is_container(node: Object) -> bool:
    return node.type in _MAPPINGS.values() or node.type in _SEQUENCES.values()


def make(node: Object, parts: Iterable[Any]) -> Any:
    """The container that `node` spells, with its parts (of a mapping: pairs) made already."""
    if node.type == "collections.OrderedDict":
        return OrderedDict(parts)
    if node.type == "collections.Counter":
        return Counter(dict(parts))
    if node.type == "collections.defaultdict":
        factory = node.args[0] if node.args else None
        return defaultdict(_FACTORIES[factory.type] if factory is not None else None, parts)
    if node.type == "collections.deque":
        return deque(parts, node.args[1] if len(node.args) == 2 else None)
    return set(parts) if node.type == "builtins.set" else frozenset(parts)


def mapping(node: Node) -> dict[Node, Node] | None:
    """The entries of a dict or of an object that is one; None for anything else."""
    if isinstance(node, dict):
        return node
    if isinstance(node, Object) and node.type in _MAPPINGS.values():
        return node.entries or {}
    return None


def fields_of(value: Any) -> tuple[str, ...] | None:
    """The fields of a named tuple; None for anything else."""
    found = getattr(type(value), "_fields", None)
    return found if isinstance(value, tuple) and isinstance(found, tuple) else None
