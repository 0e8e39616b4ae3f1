"""Names that Orbax cannot keep apart, and other names for them.

The data of a leaf lie under its keys joined by dots: `{"a.b": x}` and `{"a": {"b": x}}` meet. Text
lies at that name taken for a JSON pointer, so that a tilde must be `~0` or `~1`, and no text can
have a name that goes on, after a slash, where another's ends.
"""

from __future__ import annotations

import re
from itertools import count
from typing import TypeAlias

from portackpt.renaming import Renames
from portackpt.tree import Node, escape
from portackpt_jax.orbax.keys import MAPPING, Key, joined_name, key_prefix
from portackpt_jax.orbax.spelling import walk

JOINED = "Orbax joins names with dots, and another leaf has this name then"
POINTER = "Orbax takes the name of a text for a JSON pointer"
NO_TEXT = "UTF-8 cannot spell the name"
_BAD_TILDE = re.compile(r"~(?![01])")
_Path: TypeAlias = tuple[Key, ...]


def renames(tree: Node) -> Renames:
    """Paths of keys of dicts, with the key that each gets and why."""
    found: dict[str, tuple[str, str]] = {}
    taken: dict[str, _Path] = {}
    pointers = Pointers()
    for path, value in walk(tree):
        joined = joined_name(path)
        if not joined.isascii():
            _spell_surrogates(path, found)
        if isinstance(value, str):
            parts = pointer(joined)
            if parts is None:
                _spell_tildes(path, found)
            elif not pointers.add(parts):
                _rename(tree, path, found, POINTER)
        elif value is not None and not _is_empty(value):
            other = taken.setdefault(key_prefix(joined), path)
            if other is not path:
                _rename(tree, path, found, JOINED) or _rename(tree, other, found, JOINED)
    return found


def pointer(joined: str) -> tuple[str, ...] | None:
    """The parts of a JSON pointer (RFC 6901) after its first slash; None where it is not one."""
    if _BAD_TILDE.search(joined):
        return None
    return tuple([part.replace("~1", "/").replace("~0", "~") for part in joined.split("/")])


class Pointers:
    """Pointers to values of one JSON document: none may lead through another."""

    def __init__(self) -> None:
        self._ends: set[tuple[str, ...]] = set()
        self._ways: set[tuple[str, ...]] = set()

    def add(self, parts: tuple[str, ...]) -> bool:
        """False where there is no room for the pointer."""
        ways = [parts[:count] for count in range(1, len(parts))]
        if parts in self._ways or parts in self._ends or not self._ends.isdisjoint(ways):
            return False
        self._ends.add(parts)
        self._ways.update(ways)
        return True


def _is_empty(value: Node) -> bool:
    return isinstance(value, (dict, list, tuple)) and not value


def _spell_tildes(path: _Path, found: dict[str, tuple[str, str]]) -> None:
    for index, (key, kind) in enumerate(path):
        if kind == MAPPING and "~" in key:
            found[_spell(path[: index + 1])] = (key.replace("~", "~0"), POINTER)


def _spell_surrogates(path: _Path, found: dict[str, tuple[str, str]]) -> None:
    for index, (key, _) in enumerate(path):
        spelled = key.encode("utf-8", "backslashreplace").decode()
        if spelled != key:
            found[_spell(path[: index + 1])] = (spelled, NO_TEXT)


def _rename(tree: Node, path: _Path, found: dict[str, tuple[str, str]], why: str) -> bool:
    """Ask for another name of the innermost key of a dict on the way to a leaf, if there is one."""
    index = max((i for i, (_, kind) in enumerate(path) if kind == MAPPING), default=None)
    if index is None:
        return False
    node = tree
    for key, kind in path[:index]:
        node = node[key if kind == MAPPING else int(key)]
    key = path[index][0]
    used = {*node, *[chosen for chosen, _ in found.values()]}
    stem = key.replace("/", "_").replace(".", "_") or "_"
    candidates = (f"{stem}_{number}" for number in count(2))
    other = stem if stem not in used else next(name for name in candidates if name not in used)
    found.setdefault(_spell(path[: index + 1]), (other, why))
    return True


def _spell(path: _Path) -> str:
    """A path as trees have it."""
    return "/".join([escape(key) for key, _ in path])
