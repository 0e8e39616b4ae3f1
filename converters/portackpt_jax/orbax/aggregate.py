"""The file `checkpoint` of older Orbax and T5X: the tree as msgpack, with values or array names.

    map │ array │ nil │ bool │ int │ float │ str │ bin
    ext 1  ndarray: msgpack of [shape, dtype name, bytes]
    ext 2  complex: msgpack of [real, imaginary]
    ext 3  numpy scalar: like ext 1, without dimensions
    ext 4  tuple: msgpack of the list of its items
    {"__msgpack_chunked_array__": true, "shape": {"0": n, …}, "chunks": {"0": ndarray, …}}
    "PLACEHOLDER://NAME", "AGGREGATED://NAME" the array called NAME beside this file
    {"driver": "zarr", "kvstore": {"path": "NAME/", …}, "metadata": {…}, "dtype": …}   (T5X)

Source: flax/serialization.py, orbax/checkpoint/aggregate_handlers.py, t5x/checkpoints.py. Arrays
stay in the file until they are read.
"""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

from portackpt.bytesource import File, FileRange
from portackpt.dtypes import BY_NAME, DType
from portackpt.errors import DamagedError, RefusedError, UnsupportedError
from portackpt.tensor import Strided, Tensor, c_strides, contiguous
from portackpt.tree import MAX_DEPTH, Node
from portackpt_jax.ocdbt.reader import open_regular
from portackpt_jax.orbax.attributes import NOTHING, NUMPY_SCALAR
from portackpt_jax.zarr.sources import Joined

MOST_NODES = 4_000_000
_WINDOW = 1 << 16
_HEAD = 64
"""Bytes of an array's head that is remembered, at most."""
_Kind: TypeAlias = tuple[DType, tuple[int, ...], tuple[int, ...]]
"""Dtype, shape, strides."""
_CHUNKED = "__msgpack_chunked_array__"
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_SIZED = {  # marker: kind, bytes of the length
    0xC4: ("bin", 1), 0xC5: ("bin", 2), 0xC6: ("bin", 4),
    0xC7: ("ext", 1), 0xC8: ("ext", 2), 0xC9: ("ext", 4),
    0xD9: ("str", 1), 0xDA: ("str", 2), 0xDB: ("str", 4),
    0xDC: ("array", 2), 0xDD: ("array", 4), 0xDE: ("map", 2), 0xDF: ("map", 4),
}  # fmt: skip


def read(path: Path) -> Node:
    """The tree in the file; arrays are lazy."""
    reader = _Reader(open_regular(path))
    tree = reader.node(0)
    if reader.at != reader.file.size:
        raise reader.damaged(f"{reader.file.size - reader.at} bytes after the end")
    return tree


class _Reader:
    def __init__(self, file: File) -> None:
        self.file = file
        self.at = 0
        self._window = b""
        self._start = 0
        self._nodes = 0
        self._heads: dict[int, dict[bytes, _Kind]] = {}

    def damaged(self, message: str) -> DamagedError:
        return DamagedError(f"damaged msgpack: {message}, at byte {self.at}", str(self.file.path))

    def take(self, count: int) -> bytes:
        if self.at + count > self.file.size:
            raise self.damaged(f"{count} bytes reach over the end of {self.file.size}")
        first = self.at - self._start
        if first < 0 or first + count > len(self._window):
            size = min(max(count, _WINDOW), self.file.size - self.at)
            self._window, self._start, first = self.file.read(self.at, size), self.at, 0
        self.at += count
        return self._window[first : first + count]

    def node(self, depth: int) -> Node:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MOST_NODES:
            raise RefusedError(
                f"over {MAX_DEPTH} levels or {MOST_NODES} values", str(self.file.path)
            )
        marker = self.take(1)[0]
        if marker < 0x80:
            return marker
        if marker >= 0xE0:
            return marker - 0x100
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker in _NUMBERS:
            spelling = _NUMBERS[marker]
            return struct.unpack(spelling, self.take(struct.calcsize(spelling)))[0]
        kind, count = self._head(marker)
        if kind == "map":
            return _joined_chunks(self._map(count, depth), self)
        if kind == "array":
            self._fits(count)
            return [self.node(depth + 1) for _ in range(count)]
        if kind == "ext":
            return self._extension(count, depth)
        if kind == "bin":
            return self.take(count)
        try:
            return self.take(count).decode()
        except UnicodeDecodeError as error:
            raise self.damaged("text that is not UTF-8") from error

    def _head(self, marker: int) -> tuple[str, int]:
        if marker < 0x90:
            return "map", marker & 0x0F
        if marker < 0xA0:
            return "array", marker & 0x0F
        if marker < 0xC0:
            return "str", marker & 0x1F
        if 0xD4 <= marker <= 0xD8:
            return "ext", 1 << (marker - 0xD4)
        if marker not in _SIZED:
            raise self.damaged(f"unknown marker {marker:#04x}")
        kind, size = _SIZED[marker]
        return kind, int.from_bytes(self.take(size), "big")

    def _fits(self, count: int) -> None:
        if count > self.file.size - self.at:
            raise self.damaged(f"{count} items reach over the end")

    def _map(self, count: int, depth: int) -> dict[Node, Node]:
        self._fits(count)
        found: dict[Node, Node] = {}
        for _ in range(count):
            key = self.node(depth + 1)
            if not isinstance(key, (str, int, float, bytes)) and key is not None:
                raise self.damaged(f"a key of type {type(key).__name__}")
            if key in found:
                raise self.damaged(f"key {key!r:.60} twice")
            found[key] = self.node(depth + 1)
        return found

    def _extension(self, count: int, depth: int) -> Node:
        code = self.take(1)[0]
        end = self.at + count
        if code == 2:
            parts = self.node(depth + 1)
            if not (isinstance(parts, list) and len(parts) == 2 and _all(float, parts)):
                raise self.damaged("not a complex number")
            value: Node = complex(*parts)
        elif code == 4:
            parts = self.node(depth + 1)
            if not isinstance(parts, list):
                raise self.damaged("not a tuple")
            value = tuple(parts)
        elif code in (1, 3):
            value = self._array(end, NUMPY_SCALAR if code == 3 else NOTHING)
        else:
            raise UnsupportedError(
                f"msgpack extension {code} is unknown", f"{self.file.path} at byte {self.at}"
            )
        if self.at != end:
            raise self.damaged(f"an extension ends at {self.at}, expected {end}")
        return value

    def _array(self, end: int, attributes: Any) -> Tensor:
        start = self.at
        dtype, shape, strides = self._known(end) or self._kind(end)
        if self.at - start <= _HEAD and start >= self._start:
            window = self._window[start - self._start : self.at - self._start]
            self._heads.setdefault(len(window), {})[window] = (dtype, shape, strides)
        source = FileRange(self.file, self.at, end - self.at)
        self.at = end
        return Tensor(dtype, shape, Strided(source, 0, strides), attributes)

    def _known(self, end: int) -> _Kind | None:
        """What a head that was met before says: large files have few different ones."""
        first = self.at - self._start
        for length, heads in self._heads.items():
            kind = heads.get(self._window[first : first + length])
            if kind is not None and self.at + length + prod(kind[1]) * kind[0].itemsize == end:
                self.at += length
                return kind
        return None

    def _kind(self, end: int) -> _Kind:
        if self._head(self.take(1)[0]) != ("array", 3):
            raise self.damaged("not an array of shape, dtype, bytes")
        shape, spelling = self.node(0), self.node(0)
        if not (isinstance(shape, list) and _all(int, shape) and len(shape) <= 64):
            raise self.damaged(f"a shape of {shape!r:.60}")
        kind, count = self._head(self.take(1)[0])
        if kind not in ("bin", "str") or self.at + count != end:
            raise self.damaged("an array's bytes do not end where it does")
        dtype = self._dtype(spelling)
        if prod(shape) * dtype.itemsize != count or min(shape, default=0) < 0:
            raise self.damaged(f"{dtype} of shape {shape} in {count} bytes")
        return dtype, tuple(shape), c_strides(tuple(shape), dtype.itemsize)

    def _dtype(self, spelling: Node) -> DType:
        name = {"V2": "bfloat16", "|V2": "bfloat16"}.get(spelling, spelling)
        dtype = BY_NAME.get(name) if isinstance(name, str) else None
        if dtype is None or not dtype.exact:
            raise UnsupportedError(f"dtype {spelling!r:.60}", str(self.file.path))
        return dtype


def _all(kind: type, values: list[Node]) -> bool:
    return all(type(value) is kind for value in values)


def _joined_chunks(node: dict[Node, Node], reader: _Reader) -> Node:
    """A dict, or the array that it spells in chunks."""
    if node.get(_CHUNKED) is not True:
        return node
    shape, chunks = node.get("shape"), node.get("chunks")
    if not (isinstance(shape, dict) and isinstance(chunks, dict) and chunks):
        raise reader.damaged("a chunked array without shape or chunks")
    sizes = [size for axis in range(len(shape)) if type(size := shape.get(str(axis))) is int]
    parts = [part for i in range(len(chunks)) if isinstance(part := chunks.get(str(i)), Tensor)]
    if len(sizes) != len(shape) or len(parts) != len(chunks) or min(sizes, default=0) < 0:
        raise reader.damaged("a chunked array of something else")
    first = parts[0]
    sources = []
    for part in parts:
        equal = part.nbytes == first.nbytes or part is parts[-1]
        if not (isinstance(part.layout, Strided) and part.dtype is first.dtype and equal):
            raise reader.damaged("a chunked array of unequal chunks")
        sources.append(part.layout.source)
    return contiguous(first.dtype, tuple(sizes), Joined(sources))
