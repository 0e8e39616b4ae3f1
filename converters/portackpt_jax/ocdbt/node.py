"""The manifest and the nodes of the B+tree, from bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from portackpt.errors import RefusedError, UnsupportedError
from portackpt_jax.ocdbt.wire import MANIFEST, NODE, Cursor, unframe

Place: TypeAlias = tuple[str, int, int]
"""A range of bytes: path of the file below the root of the database, offset, length."""
Value: TypeAlias = bytes | Place

MISSING = (1 << 64) - 1
LONGEST_KEY = 65535
LONGEST_PATH = 65535
MOST_ENTRIES = 1 << 20
MOST_VERSIONS = 1 << 16
_SAFE = re.compile(r"[A-Za-z0-9._-]{1,255}(/[A-Za-z0-9._-]{1,255})*")


@dataclass(frozen=True, slots=True)
class DataFile:
    """One line of a data file table: where the file is, and what prefixes the paths inside it."""

    base: str
    path: str


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a node lies. `common` is the part of `key` that all keys of its subtree start with."""

    file: DataFile
    offset: int
    length: int
    key: bytes = b""
    common: int = 0


@dataclass(frozen=True, slots=True)
class Root:
    """The newest version: its tree (None when it is empty), the height and the number of keys."""

    node: Reference | None
    height: int
    keys: int


def parse_manifest(data: bytes, where: str) -> Root:
    """The newest version that a manifest refers to."""
    cursor = unframe(MANIFEST, data, where)
    cursor.take(16)  # uuid
    if cursor.byte() != 0:
        raise UnsupportedError("OCDBT with numbered manifests cannot be read", where)
    cursor.varint()  # max_inline_value_bytes
    cursor.varint()  # max_decoded_node_bytes
    arity = cursor.byte()
    if not 1 <= arity <= 16:
        raise cursor.damaged(f"version tree arity 2^{arity}")
    method = cursor.varint()
    if method > 1:
        raise UnsupportedError(f"unknown compression method {method} of an OCDBT database", where)
    cursor.take(4 * method)  # zstd level
    files = _files(cursor, "")
    root = _newest(cursor, files)
    _skip_version_nodes(cursor, len(files))
    cursor.end()
    return root


def _newest(cursor: Cursor, files: list[DataFile]) -> Root:
    count = cursor.count(MOST_VERSIONS, "versions")
    if count == 0:
        raise cursor.damaged("no version")
    generations = cursor.varints(count)
    if any(b <= a for a, b in zip([0, *generations], generations, strict=False)):
        raise cursor.damaged("generations are not in order")
    height = cursor.take(count)[-1]
    file, offset, length, keys, _, _ = [cursor.varints(count)[-1] for _ in range(6)]
    cursor.take(8 * count)  # commit times
    if offset == length == MISSING:
        return Root(None, 0, 0)
    return Root(Reference(_file(cursor, files, file), offset, length), height, keys)


def _skip_version_nodes(cursor: Cursor, files: int) -> None:
    """Older versions are not read, but their list must be whole."""
    count = cursor.count(64, "version nodes")
    for _ in range(5):  # generation, file, offset, length, number of generations
        cursor.varints(count)
    cursor.take(9 * count)  # commit time, height


def _files(cursor: Cursor, transitive: str) -> list[DataFile]:
    count = cursor.count(MOST_ENTRIES, "data files")
    prefixes = [0, *cursor.varints(count - 1)] if count else []
    suffixes = cursor.varints(count)
    bases = cursor.varints(count)
    files = []
    path = b""
    for prefix, suffix, base in zip(prefixes, suffixes, bases, strict=True):
        if prefix > len(path) or base > prefix + suffix or prefix + suffix > LONGEST_PATH:
            raise cursor.damaged("lengths of a data file's path do not fit each other")
        path = path[:prefix] + cursor.take(suffix)
        text = transitive + path.decode("ascii", "replace")
        if not _SAFE.fullmatch(text) or not {".", ".."}.isdisjoint(text.split("/")):
            raise RefusedError(f"a data file outside the checkpoint: {text!r}", cursor.where)
        files.append(DataFile(transitive + path[:base].decode("ascii"), text))
    return files


def _file(cursor: Cursor, files: list[DataFile], index: int) -> DataFile:
    if index >= len(files):
        raise cursor.damaged(f"data file {index} of {len(files)}")
    return files[index]


@dataclass(frozen=True, slots=True)
class Node:
    """Keys, without the prefix that their path from the root gives, and values or children."""

    height: int
    keys: list[bytes]
    values: list[Value]
    children: list[Reference]


def parse_node(data: bytes, transitive: str, where: str) -> Node:
    cursor = unframe(NODE, data, where)
    height = cursor.byte()
    files = _files(cursor, transitive)
    count = cursor.count(MOST_ENTRIES, "entries")
    if count == 0:
        raise cursor.damaged("an empty node")
    prefixes = [0, *cursor.varints(count - 1)]
    suffixes = cursor.varints(count)
    common = cursor.varints(count) if height else []
    keys = _keys(cursor, prefixes, suffixes)
    if height:
        children = _children(cursor, files, keys, common)
        cursor.end()
        return Node(height, keys, [], children)
    values = _values(cursor, files, count)
    cursor.end()
    return Node(height, keys, values, [])


def _keys(cursor: Cursor, prefixes: list[int], suffixes: list[int]) -> list[bytes]:
    data, at = cursor.data, cursor.at
    cursor.take(sum(suffixes))
    keys: list[bytes] = []
    key = b""
    total = 0
    for prefix, suffix in zip(prefixes, suffixes, strict=True):
        if prefix > len(key) or prefix + suffix > LONGEST_KEY:
            raise cursor.damaged("lengths of a key do not fit each other")
        total += prefix + suffix
        if total > 1 << 30:
            raise RefusedError("keys of over 1 GiB in one node", cursor.where)
        following = key[:prefix] + data[at : at + suffix]
        if keys and following <= key:
            raise cursor.damaged("keys are not in order")
        keys.append(following)
        key = following
        at += suffix
    return keys


def _children(
    cursor: Cursor, files: list[DataFile], keys: list[bytes], common: list[int]
) -> list[Reference]:
    count = len(keys)
    columns = [cursor.varints(count) for _ in range(6)]
    children = []
    for key, shared, file, offset, length in zip(keys, common, *columns[:3], strict=True):
        if shared > len(key):
            raise cursor.damaged("a common prefix longer than its key")
        children.append(Reference(_file(cursor, files, file), offset, length, key, shared))
    return children


def _values(cursor: Cursor, files: list[DataFile], count: int) -> list[Value]:
    lengths = cursor.varints(count)
    kinds = cursor.take(count)
    if kinds.strip(b"\0\1"):
        raise cursor.damaged("a value is neither here nor in a file")
    outside = kinds.count(1)
    places = iter(list(zip(cursor.varints(outside), cursor.varints(outside), strict=True)))
    values: list[Value] = []
    for length, kind in zip(lengths, kinds, strict=True):
        if kind:
            file, offset = next(places)
            values.append((_file(cursor, files, file).path, offset, length))
        else:
            values.append(cursor.take(length))
    return values
