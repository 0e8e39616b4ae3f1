"""An OCDBT database, opened for reading: all its keys, and where their values lie."""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice, takewhile
from pathlib import Path
from stat import S_ISREG

from portackpt.bytesource import ByteSource, File, FileRange, InMemory
from portackpt.errors import DamagedError, RefusedError
from portackpt_jax.ocdbt.node import LONGEST_KEY, Reference, Value, parse_manifest, parse_node
from portackpt_jax.ocdbt.wire import FRAME, LARGEST_BODY

MANIFEST_NAME = "manifest.ocdbt"
MOST_KEYS = 4_000_000
"""Keys of one database, at most; two for an array of one chunk."""


class Database:
    """The newest version of the database in the directory `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[str, File] = {}
        self._sorted: list[bytes] | None = None
        self.values = self._walk()

    def read(self, key: str, limit: int) -> bytes | None:
        """The value of `key`, of at most `limit` bytes; None where there is none."""
        value = self.values.get(key.encode())
        if value is None or isinstance(value, bytes):
            return value
        path, offset, length = value
        if length > limit:
            raise RefusedError(f"{key!r} has {length} bytes, over {limit}", str(self.root))
        return self._file(path).read(offset, length)

    def source(self, key: str) -> ByteSource | None:
        """The value of `key`, unread; None where there is none."""
        value = self.values.get(key.encode())
        if value is None:
            return None
        if isinstance(value, bytes):
            return InMemory(value)
        path, offset, length = value
        return FileRange(self._file(path), offset, length)

    def below(self, prefix: str) -> list[str]:
        """The keys that start with `prefix`, in order and without it."""
        start = prefix.encode()
        if self._sorted is None:
            self._sorted = list(self.values)
        first = bisect_left(self._sorted, start)
        return [
            key[len(start) :].decode(errors="surrogateescape")
            for key in takewhile(
                lambda key: key.startswith(start), islice(self._sorted, first, None)
            )
        ]

    def _walk(self) -> dict[bytes, Value]:
        """Every key with its value, from the root down; heights fall, so the walk ends."""
        manifest = self.root / MANIFEST_NAME
        file = open_regular(manifest)
        if file.size > LARGEST_BODY:
            raise RefusedError(f"a manifest of {file.size} bytes", str(manifest))
        root = parse_manifest(file.read(0, file.size), str(manifest))
        values: dict[bytes, Value] = {}
        if root.node is None:
            return values
        stack = [(root.node, root.height, b"", b"")]
        visited = 0
        while stack:
            reference, height, prefix, lower = stack.pop()
            where = f"{self.root / reference.file.path} at {reference.offset}"
            node = parse_node(self._frame(reference), reference.file.base, where)
            visited += len(node.keys)
            if visited > MOST_KEYS:
                raise RefusedError(f"over {MOST_KEYS} keys", str(manifest))
            if node.height != height:
                raise DamagedError(f"node of height {node.height}, expected {height}", where)
            if len(prefix) + max(map(len, node.keys)) > LONGEST_KEY:
                raise DamagedError(f"a key of over {LONGEST_KEY} bytes", where)
            if prefix + node.keys[0] < lower:
                raise DamagedError("a node's keys come before its place in the tree", where)
            if height == 0:
                values.update(zip([prefix + key for key in node.keys], node.values, strict=True))
                continue
            stack.extend(
                (child, height - 1, prefix + child.key[: child.common], prefix + child.key)
                for child in reversed(node.children)
            )
        if len(values) != root.keys:
            raise DamagedError(f"expected {root.keys} keys, found {len(values)}", str(manifest))
        return values

    def _frame(self, reference: Reference) -> bytes:
        if not FRAME <= reference.length <= LARGEST_BODY:
            raise DamagedError(
                f"a B+tree node of {reference.length} bytes", str(self.root / reference.file.path)
            )
        return self._file(reference.file.path).read(reference.offset, reference.length)

    def _file(self, path: str) -> File:
        file = self._files.get(path)
        if file is None:
            file = self._files[path] = open_regular(self.root / path)
        return file


def open_regular(path: Path) -> File:
    """A regular file, by a name whose safety has been checked; anything else is damage."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise DamagedError("the file is missing; the checkpoint is incomplete", str(path)) from None
    except OSError as error:
        raise DamagedError(f"cannot be opened: {error.strerror}", str(path)) from error
    if not S_ISREG(found.st_mode):
        raise RefusedError("not a regular file", str(path))
    return File(path)
