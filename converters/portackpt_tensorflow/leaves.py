"""The tree of a checkpoint as keys and tensors: names spelled as TensorFlow does, and the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from portackpt.collector import paused_collector
from portackpt.errors import WriteError
from portackpt.renaming import Renames
from portackpt.tensor import Tensor, from_strings
from portackpt.tree import Node, escape
from portackpt_tensorflow.bundlewriter import Leaf
from portackpt_tensorflow.naming import GRAPH, Path, digest, object_key
from portackpt_tensorflow.objectgraph import build_graph


def spell_leaves(tree: Node, details: Mapping[str, Any]) -> list[Leaf]:
    """Every tensor of `tree` under its key, in order.

    `details` are those of a checkpoint that was read: that its names were plain, or its object
    graph, the keys that stand whole at the root, and a digest of all keys. Without them, or where
    the keys have changed since, a new graph is made of the tree.
    """
    with paused_collector():
        return _spell(tree, details)


def _spell(tree: Node, details: Mapping[str, Any]) -> list[Leaf]:
    found = list(_walk(tree, ()))
    if details.get("layout") == "names":
        return [_leaf("/".join(path), tensor) for path, tensor in found]
    whole = frozenset(details.get("whole", ()))
    keys = [
        path[0] if len(path) == 1 and path[0] in whole else object_key(path) for path, _ in found
    ]
    leaves = [_leaf(key, tensor) for key, (_, tensor) in zip(keys, found, strict=True)]
    if details.get("keys") == digest(keys):
        graph = details["graph"]
    else:
        graph = build_graph((path, leaf.key) for (path, _), leaf in zip(found, leaves, strict=True))
    return [*leaves, _leaf(GRAPH, from_strings([graph], ()))]


def _walk(node: Node, path: Path) -> Iterator[tuple[Path, Tensor]]:
    if isinstance(node, Tensor):
        yield path, node
    elif isinstance(node, dict):
        for name, part in node.items():
            yield from _walk(part, (*path, name))
    else:
        raise WriteError(f"a bundle holds tensors, not a {type(node).__name__}", "/".join(path))


def other_names(tree: Node) -> Renames:
    """Names that are no Unicode text, by path, and what to call them instead."""
    found: dict[str, tuple[str, str]] = {}
    _find_others(tree, "", found)
    return found


def _find_others(node: dict[str, Any], prefix: str, found: dict[str, tuple[str, str]]) -> None:
    for name, part in node.items():
        if not name.isascii() and _spelled(name) != name:
            other = _spelled(name)
            while other in node:
                other += "~"
            found[prefix + escape(name)] = (other, "TensorFlow's names are Unicode text")
        elif isinstance(part, dict):
            _find_others(part, f"{prefix}{escape(name)}/", found)


def _spelled(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _leaf(key: str, tensor: Tensor) -> Leaf:
    try:
        return Leaf(key.encode(), tensor)
    except UnicodeEncodeError:
        raise WriteError(f"a name that is not Unicode text: {key[:80]!r}") from None
