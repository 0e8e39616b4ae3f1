"""Accounting: the entry of every leaf, read off a tree whose leaves know where they came from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from portackpt.ledger import NONE, Entry, Fate
from portackpt.models import identity
from portackpt.moved import Moved
from portackpt.run import at
from portackpt.spelling import Spelling
from portackpt.tensor import Tensor
from portackpt.tree import Node, Object, children, is_leaf, plain_name, rebuild, walk

Lost = Mapping[str, tuple[str, str]]
"""Source paths, of leaves or of whole subtrees, with a reason and a consequence."""
_ABSENT = object()


def account(source: Node, lowered: Node, lost: Lost) -> Spelling:
    """The tree of `lowered` with plain leaves, and an entry for each leaf of it and of `source`.

    Leaves of the source that no `Moved` names are dropped, for the reason in `lost`.
    """
    entries: list[Entry] = []
    used: dict[str, str] = {}

    def settle(path: str, leaf: Node) -> Node:
        if not isinstance(leaf, Moved):
            entries.append(_kept(path, leaf))
            return leaf
        fresh = [place for place in leaf.sources if place not in used]
        used.update(dict.fromkeys(fresh, path))
        entries.extend(_entries(path, leaf, fresh))
        return leaf.value

    tree = rebuild(lowered, settle)
    leaves = dict(walk(source))
    same = {identity(leaves[p]): p for p in used if isinstance(leaves.get(p), Tensor)}
    for path, leaf in leaves.items():
        if path not in used:
            twin = same.get(identity(leaf)) if isinstance(leaf, Tensor) else None
            if twin is not None:
                told = f"the same tensor as {twin}"
                entries.append(Entry(path, used[twin], Fate.EXACT, told))
            else:
                entries.append(Entry(path, None, Fate.DROPPED, *_reason(path, leaf, lost)))
    return Spelling(tree, tuple(entries))


def _entries(path: str, leaf: Moved, fresh: Collection[str]) -> list[Entry]:
    rest = (leaf.detail, leaf.consequence, leaf.tolerance, leaf.assumption)
    if fresh:
        return [Entry(place, path, leaf.fate, *rest) for place in fresh]
    told = f"from {', '.join(leaf.sources[:3])}" if leaf.sources else ""
    detail = "; ".join(filter(None, (told, leaf.detail)))
    return [Entry(None, path, leaf.fate, detail, *rest[1:])]


def _kept(path: str, leaf: Node) -> Entry:
    meaning = NONE if holds_nothing(leaf) else "the target's run starts with the template's value"
    return Entry(None, path, Fate.CREATED, "kept from the template", meaning)


def _reason(path: str, leaf: Node, lost: Lost) -> tuple[str, str]:
    place = path
    while place not in lost:
        if not place:
            if holds_nothing(leaf):
                return "holds nothing", NONE
            if "~." in path:
                return "an attribute of the container that the source's program uses", NONE
            return "the target has no place for it", "the target's run goes on without it"
        place = place.rpartition("/")[0]
    return lost[place]


def holds_nothing(leaf: Node) -> bool:
    return leaf is None or (isinstance(leaf, (dict, list, tuple)) and not leaf)


def rest(tree: Node, claimed: Collection[str]) -> Node:
    """What is left of `tree` without the `claimed` paths (of leaves or subtrees), as `Moved`.

    Containers that lose a part are dicts of what is left, without what holds nothing.
    """
    found = _rest("", tree, set(claimed))
    return {} if found is _ABSENT else found


def _rest(path: str, node: Node, claimed: Collection[str]) -> Node:
    if path in claimed:
        return _ABSENT
    if is_leaf(node):
        return Moved(node, (path,))
    parts = [(name, _rest(at(path, name), item, claimed)) for name, item in children(node)]
    kept = {plain_name(name): part for name, part in parts if part is not _ABSENT}
    if len(kept) < len(parts):
        return {n: p for n, p in kept.items() if not _is_empty(p) and "~." not in n} or _ABSENT
    if isinstance(node, Object):
        return rebuild(node, lambda below, leaf: Moved(leaf, (at(path, below),)))
    if isinstance(node, dict):
        return dict(zip(node, [part for _, part in parts], strict=True))
    return type(node)([part for _, part in parts])


def _is_empty(node: Node) -> bool:
    return isinstance(node, Moved) and holds_nothing(node.value)


def merged(tree: Node, more: Node) -> Node:
    """`tree` with the parts of `more` beside its own.

    Where both have the same number it is one; what else of `more` collides stands below `source`.
    """
    if not isinstance(tree, dict) or not isinstance(more, dict):
        return tree
    both = dict(tree)
    aside = {}
    for name, part in more.items():
        if name not in both:
            both[name] = part
        elif isinstance(both[name], dict) and isinstance(part, dict):
            both[name] = merged(both[name], part)
        elif _is_same(both[name], part):
            both[name] = replace(both[name], sources=(*both[name].sources, *part.sources))
        else:
            aside[name] = part
    if aside:
        both["source"] = aside
    return both


def _is_same(one: Node, other: Node) -> bool:
    """Whether two leaves hold one number."""
    if not isinstance(one, Moved) or not isinstance(other, Moved):
        return False
    numbers = [leaf.value.item() if isinstance(leaf.value, Tensor) and leaf.value.size == 1
               else leaf.value for leaf in (one, other)]  # fmt: skip
    return all(isinstance(n, int | float) for n in numbers) and numbers[0] == numbers[1]
