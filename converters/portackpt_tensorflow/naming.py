"""Names: from the keys of a bundle to the paths of a tree, and back.

    of an object graph  a/b/.ATTRIBUTES/VARIABLE_VALUE                    a → b
                        a/b/.ATTRIBUTES/NAME                              a → b → .ATTRIBUTES → NAME
    a slot variable     a/b/.OPTIMIZER_SLOT/o/m/.ATTRIBUTES/VARIABLE_VALUE
                                                              o → .OPTIMIZER_SLOT → m → a → b
    name-based          a/b                                               a → b

Components are escaped in keys (`.` as `..`, `/` as `.S`) and spelled out in the tree. A variable
that has parts of its own keeps `.ATTRIBUTES → VARIABLE_VALUE`. A key with another shape stands at
the root, whole; when even that leaves two keys one place, or the tree would be too deep, all do.

Source: tensorflow/python/trackable/trackable_utils.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, TypeAlias

from portackpt.tree import MAX_DEPTH

ATTRIBUTES = ".ATTRIBUTES"
VALUE = "VARIABLE_VALUE"
SLOTS = ".OPTIMIZER_SLOT"
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"

Path: TypeAlias = tuple[str, ...]
Leaf: TypeAlias = Any
Nested: TypeAlias = dict[str, Any]
_SUFFIX = f"/{ATTRIBUTES}/"
_MIDDLE = f"/{SLOTS}/"
_ESCAPED = re.compile(r"\.[.S]")
_DEEPEST = MAX_DEPTH - 3


def escape(name: str) -> str:
    if "." in name or "/" in name:
        return name.replace(".", "..").replace("/", ".S")
    return name


def _unescape(component: str) -> str:
    return _ESCAPED.sub(lambda found: "/" if found[0] == ".S" else ".", component)


def object_path(key: str) -> Path | None:
    """Where the tensor `key` of an object graph stands in the tree; None for a key unlike those."""
    place, suffix, attribute = key.rpartition(_SUFFIX)
    if not suffix:
        return None
    if "." not in place and attribute == VALUE:
        return tuple(place.split("/"))
    variable, slot, optimizer = place.partition(_MIDDLE)
    path = tuple([_unescape(part) for part in variable.split("/")])
    if slot:
        owner, _, name = optimizer.rpartition("/")
        before = [_unescape(part) for part in owner.split("/")] if owner else []
        path = (*before, SLOTS, _unescape(name), *path)
    if attribute != VALUE:
        path = (*path, ATTRIBUTES, _unescape(attribute))
    return path if object_key(path) == key else None


def object_key(path: Path) -> str:
    """The key of the tensor at `path` in an object graph."""
    attribute = VALUE
    if len(path) > 1 and path[-2] == ATTRIBUTES:
        attribute = escape(path[-1])
        path = path[:-2]
    if SLOTS in path[:-2]:
        at = path.index(SLOTS)
        variable = _joined(path[at + 2 :])
        place = f"{variable}{_MIDDLE}{_joined(path[:at])}/{escape(path[at + 1])}"
    else:
        place = _joined(path)
    return f"{place}{_SUFFIX}{attribute}"


def _joined(path: Path) -> str:
    return "/".join(map(escape, path))


def nest_objects(leaves: Mapping[str, Leaf]) -> tuple[Nested, list[str]]:
    """The tree of an object graph's tensors, and the keys that stand in it whole, at the root."""
    root: Nested = {}
    whole = []
    for key, leaf in leaves.items():
        path = object_path(key)
        if path is None:
            whole.append(key)
        elif len(path) > _DEEPEST or not _insert(root, path, leaf):
            return dict(leaves), list(leaves)
    if not root.keys().isdisjoint(whole):
        return dict(leaves), list(leaves)
    root.update((key, leaves[key]) for key in whole)
    return root, whole


def _insert(root: Nested, path: Path, leaf: Leaf) -> bool:
    """Put `leaf` at `path`, beside the parts of the object there if it has any."""
    node = root
    before = ""
    for name in path[:-1]:
        part = node.get(name)
        if part is None:
            part = node[name] = {}
        elif type(part) is not dict:
            if before == ATTRIBUTES:
                return False
            part = node[name] = {ATTRIBUTES: {VALUE: part}}
        node = part
        before = name
    name = path[-1]
    if name in node:
        node = node[name]
        if type(node) is not dict or before == ATTRIBUTES:
            return False
        node = node.setdefault(ATTRIBUTES, {})
        name = VALUE
        if type(node) is not dict or name in node:
            return False
    node[name] = leaf
    return True


def nest_names(leaves: Mapping[str, Leaf]) -> Nested:
    """The tree of plain names: nested at slashes, unless one name begins the path of another."""
    root: Nested = {}
    for key, leaf in leaves.items():
        *outer, name = key.split("/")
        node = root
        for part in outer:
            node = node.setdefault(part, {})
            if type(node) is not dict:
                return dict(leaves)
        if name in node or len(outer) > _DEEPEST:
            return dict(leaves)
        node[name] = leaf
    return root


def digest(keys: Iterable[str]) -> str:
    """A name for a set of keys."""
    told = "\0".join(sorted(keys)).encode("utf-8", "surrogatepass")
    return blake2b(told, digest_size=16).hexdigest()
