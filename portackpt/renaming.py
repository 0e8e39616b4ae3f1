"""Other names for what a format could not keep apart; the ledger says which, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from portackpt.errors import UsageError
from portackpt.ledger import Entry
from portackpt.tree import Node, children, escape

Renames: TypeAlias = Mapping[str, tuple[str, str]]
"""Paths of parts of dicts: the key that each gets, and why."""
_MOST_ROUNDS = 32


def rename(
    tree: Node, entries: Sequence[Entry], find: Callable[[Node], Renames]
) -> tuple[Node, tuple[Entry, ...]]:
    """`tree` and its entries, with new names until `find` asks for none."""
    for _ in range(_MOST_ROUNDS):
        renames = find(tree)
        if not renames:
            return tree, tuple(entries)
        tree = _renamed(tree, renames, None)
        entries = [_moved(entry, renames) for entry in entries]
    raise UsageError(f"the target cannot keep {next(iter(renames))!r} apart from other names")


def _renamed(node: Node, renames: Renames, path: str | None) -> Node:
    if not isinstance(node, (dict, list, tuple)):
        return node
    places = [name if path is None else f"{path}/{name}" for name, _ in children(node)]
    if not isinstance(node, dict):
        pairs = zip(node, places, strict=True)
        return type(node)([_renamed(item, renames, place) for item, place in pairs])
    return {
        renames[place][0] if place in renames else key: _renamed(item, renames, place)
        for (key, item), place in zip(node.items(), places, strict=True)
    }


def _moved(entry: Entry, renames: Renames) -> Entry:
    """The entry, with the path that its target has now."""
    if entry.target is None:
        return entry
    old = entry.target.split("/")
    new = list(old)
    why = []
    for index in range(len(old)):
        found = renames.get("/".join(old[: index + 1]))
        if found is not None:
            new[index] = escape(found[0])
            why.append(f"renamed: {found[1]}")
    if not why:
        return entry
    told = [entry.detail] if entry.detail else []
    return replace(entry, target="/".join(new), detail="; ".join([*told, *why]))
