"""A new OCDBT database: values front to back, then the B+tree over them, then the manifest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

from portackpt.storage.local import Writer, write_file
from portackpt_jax.ocdbt.reader import MANIFEST_NAME
from portackpt_jax.ocdbt.wire import MANIFEST, NODE, encode_varint, encode_varints, frame

INLINE = 1024
"""Values of at most this many bytes stand in the tree, as Orbax asks for."""
LARGEST_NODE = 2 << 20
LARGEST_FILE = 2 << 30
"""A data file grows to about this size, as Orbax's own do."""
_LARGEST_DECODED_NODE = 100_000_000
_ARITY = 4

Entry = TypeVar("Entry")
Value: TypeAlias = "bytes | tuple[int, int, int]"
"""The value itself, or the index of its data file, its offset there and its length."""


@dataclass(frozen=True, slots=True)
class Subtree:
    """A node that was written: its place, what its parent must know about its keys, its sums."""

    first: bytes
    common: int
    place: tuple[int, int, int]
    keys: int
    tree_bytes: int
    value_bytes: int


class DatabaseWriter:
    """Writes a database into the directory `root`, which must exist.

    `identity` names this save: it gives the data files their names and the database its id.
    """

    def __init__(self, root: Path, identity: str) -> None:
        self._root = root
        self._identity = identity
        self._files: list[str] = []
        self._entries: list[tuple[bytes, Value]] = []
        self._writer: Writer | None = None
        (root / "d").mkdir()

    def put(self, key: str, value: bytes) -> None:
        """A value that is at hand."""
        small = len(value) <= INLINE
        self._entries.append((key.encode(), value if small else self._append(value)))

    def begin(self, key: str) -> Writer:
        """A value of any size: write it to what this returns, then `end`."""
        writer = self._open()
        self._entries.append((key.encode(), (len(self._files) - 1, writer.position, 0)))
        return writer

    def end(self) -> None:
        """The value that was begun last has been written."""
        key, value = self._entries[-1]
        assert self._writer is not None and isinstance(value, tuple)
        file, start, _ = value
        self._entries[-1] = key, (file, start, self._writer.position - start)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the tree and the manifest; afterwards everything is on the disk."""
        if kind is None:
            self._entries.sort(key=lambda entry: entry[0])
            root = self._write_tree()
        if self._writer is not None:
            self._writer.__exit__(kind, error, trace)
        if kind is None:
            write_file(self._root / MANIFEST_NAME, frame(MANIFEST, self._manifest(root)))

    def _append(self, data: bytes) -> tuple[int, int, int]:
        writer = self._open()
        start = writer.position
        writer.write(data)
        return len(self._files) - 1, start, len(data)

    def _open(self) -> Writer:
        if self._writer is not None and self._writer.position >= LARGEST_FILE:
            self._writer.close()
            self._writer = None
        if self._writer is None:
            seed = f"{self._identity}/{len(self._files)}".encode()
            path = f"d/{blake2b(seed, digest_size=16).hexdigest()}"
            self._files.append(path)
            self._writer = Writer(self._root / path)
        return self._writer

    def _write_tree(self) -> tuple[Subtree, int] | None:
        if not self._entries:
            return None
        height = 0
        level = self._leaves()
        while len(level) > 1:
            height += 1
            level = self._interior(level, height)
        return level[0], height

    def _leaves(self) -> list[Subtree]:
        groups = list(_groups(self._entries, lambda entry: len(entry[0]) + _size(entry[1])))
        return [self._leaf(group, root=len(groups) == 1) for group in groups]

    def _leaf(self, entries: list[tuple[bytes, Value]], *, root: bool) -> Subtree:
        keys = [key for key, _ in entries]
        values = [value for _, value in entries]
        common = 0 if root else shared_length(keys[0], keys[-1])
        outside = [value for value in values if isinstance(value, tuple)]
        used, table = self._table(file for file, _, _ in outside)
        body = b"".join((
            b"\0", table, encode_varint(len(keys)), _encode_keys(keys, common),
            encode_varints([_length(value) for value in values]),
            bytes([isinstance(value, tuple) for value in values]),
            encode_varints([used[file] for file, _, _ in outside]),
            encode_varints([offset for _, offset, _ in outside]),
            *[value for value in values if isinstance(value, bytes)],
        ))  # fmt: skip
        data = frame(NODE, body)
        return Subtree(keys[0], common, self._append(data), len(keys), len(data),
                       sum(length for _, _, length in outside))  # fmt: skip

    def _interior(self, level: list[Subtree], height: int) -> list[Subtree]:
        groups = list(_groups(level, lambda child: len(child.first) + 40, least=2))
        return [self._branch(group, height, root=len(groups) == 1) for group in groups]

    def _branch(self, children: list[Subtree], height: int, *, root: bool) -> Subtree:
        keys = [child.first for child in children]
        common = 0 if root else min(
            shared_length(keys[0], keys[-1]), *[child.common for child in children]
        )  # fmt: skip
        used, table = self._table(child.place[0] for child in children)
        body = b"".join((
            bytes([height]), table, encode_varint(len(keys)),
            _encode_keys(keys, common, [child.common for child in children]),
            encode_varints([used[child.place[0]] for child in children]),
            encode_varints([child.place[1] for child in children]),
            encode_varints([child.place[2] for child in children]),
            encode_varints([child.keys for child in children]),
            encode_varints([child.tree_bytes for child in children]),
            encode_varints([child.value_bytes for child in children]),
        ))  # fmt: skip
        data = frame(NODE, body)
        return Subtree(
            keys[0], common, self._append(data), sum(child.keys for child in children),
            len(data) + sum(child.tree_bytes for child in children),
            sum(child.value_bytes for child in children),
        )  # fmt: skip

    def _table(self, files: Iterable[int]) -> tuple[dict[int, int], bytes]:
        """The data file table of `files`, and where each stands in it."""
        order = sorted(set(files), key=lambda file: self._files[file])
        paths = [self._files[file].encode() for file in order]
        prefixes = [shared_length(a, b) for a, b in pairwise(paths)]
        suffixes = [path[at:] for path, at in zip(paths, [0, *prefixes], strict=False)]
        table = b"".join((
            encode_varint(len(paths)), encode_varints(prefixes),
            encode_varints([len(suffix) for suffix in suffixes]),
            bytes(len(paths)),  # no base path
            *suffixes,
        ))  # fmt: skip
        return {file: index for index, file in enumerate(order)}, table

    def _manifest(self, root: tuple[Subtree, int] | None) -> bytes:
        identity = blake2b(self._identity.encode(), digest_size=16).digest()
        config = b"".join((
            identity, b"\0", encode_varint(INLINE), encode_varint(_LARGEST_DECODED_NODE),
            bytes([_ARITY]), encode_varint(0),
        ))  # fmt: skip
        if root is None:
            missing = encode_varint((1 << 64) - 1)
            table = encode_varint(1) + b"\1\0" + b"d"  # the reference names a file, any file
            version = b"\0\0" + missing + missing + bytes(3)
        else:
            tree, height = root
            _, table = self._table([tree.place[0]])
            version = bytes([height]) + encode_varints(
                [0, *tree.place[1:], tree.keys, tree.tree_bytes, tree.value_bytes]
            )
        commit_time = time.time_ns().to_bytes(8, "little")
        # one version, of generation 1, and no version nodes
        return config + table + b"\1\1" + version + commit_time + b"\0"


def _groups(
    entries: list[Entry], size: Callable[[Entry], int], least: int = 1
) -> Iterator[list[Entry]]:
    """Runs of `entries` of about `LARGEST_NODE` bytes, of at least `least` entries each."""
    start = total = 0
    for index, entry in enumerate(entries):
        total += size(entry)
        if total > LARGEST_NODE and index - start >= least and len(entries) - index >= least:
            yield entries[start:index]
            start, total = index, size(entry)
    yield entries[start:]


def _encode_keys(keys: list[bytes], common: int, shared: list[int] | None = None) -> bytes:
    """Keys without their first `common` bytes, each without what it shares with the one before."""
    prefixes = [shared_length(a, b) - common for a, b in pairwise(keys)]
    suffixes = [key[common + at :] for key, at in zip(keys, [0, *prefixes], strict=True)]
    return b"".join((
        encode_varints(prefixes), encode_varints([len(suffix) for suffix in suffixes]),
        encode_varints([at - common for at in shared or ()]), *suffixes,
    ))  # fmt: skip


def shared_length(a: bytes, b: bytes) -> int:
    """Length of the common prefix: the position of the first bit in which they differ."""
    count = min(len(a), len(b))
    difference = int.from_bytes(a[:count], "big") ^ int.from_bytes(b[:count], "big")
    return count - (difference.bit_length() + 7) // 8


def _size(value: Value) -> int:
    return len(value) + 4 if isinstance(value, bytes) else 16


def _length(value: Value) -> int:
    return len(value) if isinstance(value, bytes) else value[2]
