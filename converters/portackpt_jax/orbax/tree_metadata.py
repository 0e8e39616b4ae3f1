"""`_METADATA`: the leaves of a pytree, their keys and their kinds.

    {"tree_metadata": {"('a', '0')": {
         "key_metadata": [{"key": "a", "key_type": 2}, {"key": "0", "key_type": 1}],
         "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": false}}, …},
     "use_ocdbt": true, "use_zarr3": false, "store_array_data_equal_to_fill_value": true,
     "custom_metadata": null}

A key_type is 1 for a place in a sequence, 2 for a key of a mapping or an attribute. Value types are
`jax.Array`, `np.ndarray`, `scalar`, `string`, and `None`, `Dict`, `List`, `Tuple`, `NamedTuple` for
what has nothing in it. The data of a leaf are stored under its keys joined by dots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from portackpt.errors import DamagedError, RefusedError
from portackpt.tree import MAX_DEPTH, Node
from portackpt_jax.orbax.keys import MAPPING, SEQUENCE, Key, spell

FILE = "_METADATA"
LARGEST = 256 << 20
EMPTY: dict[str, Node] = {
    "None": None, "NamedTuple": None, "Dict": {}, "List": [], "Tuple": (),
}  # fmt: skip


class KeyEntry(msgspec.Struct, gc=False):
    key: str
    key_type: int


class ValueEntry(msgspec.Struct, gc=False):
    value_type: str
    skip_deserialize: bool = False


class LeafEntry(msgspec.Struct, gc=False):
    key_metadata: list[KeyEntry]
    value_metadata: ValueEntry


class Document(msgspec.Struct):
    """The whole file. `value_metadata_tree` is the same tree with its tuples and named tuples."""

    tree_metadata: dict[str, LeafEntry]
    use_ocdbt: bool | None = None
    use_zarr3: bool | None = None
    store_array_data_equal_to_fill_value: bool = False
    custom_metadata: Any = None
    value_metadata_tree: Any = None


def read(path: Path) -> Document:
    """`_METADATA` at `path`."""
    from portackpt_jax.orbax.directory import read_file, read_json

    data = read_file(path, LARGEST)
    try:
        document = msgspec.json.decode(data, type=Document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Python writes NaN in custom metadata, which strict JSON has not
        try:
            document = msgspec.convert(read_json(path, LARGEST), Document)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise DamagedError(f"no metadata of a pytree: {error}", str(path)) from error
    return document


def paths(document: Document, where: str) -> Iterator[tuple[tuple[Key, ...], ValueEntry]]:
    """Every leaf: its keys and what it is."""
    for entry in document.tree_metadata.values():
        if len(entry.key_metadata) > MAX_DEPTH:
            raise RefusedError(f"a leaf {len(entry.key_metadata)} levels deep", where)
        yield tuple([(key.key, key.key_type) for key in entry.key_metadata]), entry.value_metadata


class _Sequence(dict[int, Node]):
    """A list whose items come in any order."""


def build(leaves: Iterable[tuple[tuple[Key, ...], Node]], where: str) -> Node:
    """The tree that has these leaves. An empty container gives way to what stands inside it."""
    root: dict[Any, Node] = {}
    for path, leaf in leaves:
        node = root
        place: Any = ""
        for key, kind in path:
            child: Any = node.get(place)
            if not _is_container(child, kind):
                if place in node and not _is_empty(child):
                    raise DamagedError(f"two leaves at {spell(path)!r}", where)
                child = node[place] = _Sequence() if kind == SEQUENCE else {}
            node, place = child, _place(key, kind, path, where)
        if place not in node:
            node[place] = leaf
        elif not _is_empty(leaf):
            raise DamagedError(f"two leaves at {spell(path)!r}", where)
    if not root:
        raise DamagedError("the metadata name no leaf", where)
    return _finish(root[""], where)


def _place(key: str, kind: int, path: tuple[Key, ...], where: str) -> Any:
    if kind == MAPPING:
        return key
    if kind != SEQUENCE or not (key.isascii() and key.isdigit() and len(key) < 10):
        raise DamagedError(f"key {key!r:.60} of type {kind} in {spell(path)!r}", where)
    return int(key)


def _is_container(node: Node, kind: int) -> bool:
    return type(node) is (_Sequence if kind == SEQUENCE else dict) and bool(node)


def _is_empty(node: Node) -> bool:
    return node is None or (type(node) in (dict, list, tuple) and not node)


def _finish(node: Node, where: str) -> Node:
    if type(node) is dict:
        return {key: _finish(item, where) for key, item in node.items()}
    if type(node) is _Sequence:
        if any(index not in node for index in range(len(node))):
            raise DamagedError(f"a list of {len(node)} items with a gap", where)
        return [_finish(node[index], where) for index in range(len(node))]
    return node


def empty(value_type: str) -> Node:
    """The container with nothing in it that a value type means."""
    value = EMPTY[value_type]
    return type(value)() if value is not None else None


def digest(found: Iterable[tuple[Key, ...]]) -> str:
    """Short for these keys in any order."""
    return blake2b(repr(sorted(found)).encode("utf-8", "replace"), digest_size=16).hexdigest()
