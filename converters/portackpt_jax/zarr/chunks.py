"""Arrays as lazy tensors over the chunks of a store."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise, product
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

from portackpt.bytesource import ByteSource, FileRange, InMemory
from portackpt.errors import DamagedError, RefusedError
from portackpt.tensor import Layout, Strided, Tensor, c_strides
from portackpt_jax.zarr.ahead import Ahead
from portackpt_jax.zarr.grid import Grid, Index
from portackpt_jax.zarr.metadata import Array
from portackpt_jax.zarr.sharding import ShardIndex
from portackpt_jax.zarr.sources import Filled, Joined, Later

if TYPE_CHECKING:
    pass

LARGEST_FILL = 1 << 40
MOST_CHUNKS = 1 << 22


class Store(Protocol):
    """Values by key."""

    def source(self, key: str) -> ByteSource | None:
        """The value of `key`, unread; None where there is none."""

    def below(self, prefix: str) -> list[str]:
        """The keys that start with `prefix`, without it."""


def tensor(
    array: Array,
    store: Store,
    prefix: str,
    attributes: Mapping[str, Any],
    *,
    may_lack: bool,
    ahead: Ahead,
    where: str,
) -> tuple[Tensor, int]:
    """The array whose chunks have keys below `prefix`, and how many of its chunks are absent.

    `may_lack` says whether an absent chunk means the fill value (else it is damage). Chunks that
    are read from end to end join `ahead`.
    """
    dtype, shape = array.dtype, array.shape
    if array.only_chunk is not None:
        encoded = store.source(prefix + array.only_chunk)
        if encoded is not None:
            source = array.chain.decode(encoded, array.chunk_nbytes, dtype, where)
            source = ahead.add(source) if array.chain.compressed else source
            return Tensor(dtype, shape, Strided(source, 0, array.strides), attributes), 0
    if prod(shape) == 0:
        layout: Layout = Strided(InMemory(b""), 0, c_strides(shape, dtype.itemsize))
        return Tensor(dtype, shape, layout, attributes), 0
    count = prod(array.grid)
    found = _present(array, count, store, prefix, where)
    absent = count - len(found)
    if absent:
        _check_absent(array, found, absent, may_lack, where)
    cells = _Cells(array, found, where)
    if count == 1:
        layout = cells((0,) * len(shape), ahead)
    elif count <= MOST_CHUNKS and _in_order(array):
        sources = [cells.source(index, ahead) for index in product(*map(range, array.grid))]
        layout = Strided(_join(sources), 0, c_strides(shape, dtype.itemsize))
    else:
        layout = Grid(shape, array.chunk, dtype.itemsize, cells, compressed=array.coding.compressed)
    return Tensor(dtype, shape, layout, attributes), absent


def _present(
    array: Array, count: int, store: Store, prefix: str, where: str
) -> dict[Index, ByteSource]:
    """The chunks that are there. A grid larger than what is there is not walked."""
    if count <= 64:
        indices = product(*map(range, array.grid))
        sources = [(index, store.source(prefix + array.key(index))) for index in indices]
        return {index: source for index, source in sources if source is not None}
    found = {}
    keys = store.below(prefix)
    if len(keys) > MOST_CHUNKS:
        raise RefusedError(f"an array of over {MOST_CHUNKS} chunks", where)
    for key in keys:
        index = _index(array, key)
        source = None if index is None else store.source(prefix + key)
        if index is not None and source is not None:
            found[index] = source
    return found


def _index(array: Array, key: str) -> Index | None:
    """The place in the grid that `key` means; None when it is not a chunk's key."""
    parts = key.split(array.separator)
    if array.prefix and parts.pop(0) != array.prefix:
        return None
    numbers = all(part.isascii() and part.isdigit() for part in parts)
    if len(parts) != len(array.grid) or not numbers:
        return None
    index = tuple([int(part) for part in parts if len(part) < 20])
    return index if array.key(index) == key and all(map(int.__lt__, index, array.grid)) else None


def _check_absent(
    array: Array, found: Mapping[Index, ByteSource], absent: int, may_lack: bool, where: str
) -> None:
    if not may_lack:
        raise DamagedError(
            f"{absent} of {prod(array.grid)} chunks are missing; the checkpoint is incomplete",
            where,
        )
    if absent * array.chunk_nbytes > LARGEST_FILL:
        raise RefusedError(f"{absent * array.chunk_nbytes} bytes of absent chunks", where)


class _Cells:
    """The chunks of one array as layouts, made when asked for."""

    __slots__ = ("_array", "_found", "_where")

    def __init__(self, array: Array, found: Mapping[Index, ByteSource], where: str) -> None:
        self._array = array
        self._found = found
        self._where = where

    def __call__(self, index: Index, ahead: Ahead | None = None) -> Layout:
        array = self._array
        encoded = self._found.get(index)
        if array.shards is not None and encoded is not None and array.shards.chunk != array.chunk:
            return _divided(array, encoded, f"{self._where} chunk {array.key(index)}")
        return Strided(self.source(index, ahead), 0, array.strides)

    def source(self, index: Index, ahead: Ahead | None = None) -> ByteSource:
        """The decoded bytes of a chunk that is not divided any further."""
        array = self._array
        encoded = self._found.get(index)
        if encoded is None:
            return Filled(array.fill, array.chunk_nbytes)
        where = f"{self._where} chunk {index}"
        if array.shards is None:
            decoded = array.chain.decode(encoded, array.chunk_nbytes, array.dtype, where)
        else:
            inner = ShardIndex(array, encoded, where)
            decoded = Later(array.chunk_nbytes, lambda: inner.source(0))
        return ahead.add(decoded) if ahead is not None and array.coding.compressed else decoded


def _divided(array: Array, encoded: ByteSource, where: str) -> Layout:
    """A shard of several inner chunks."""
    assert array.shards is not None
    shards = array.shards
    index = ShardIndex(array, encoded, where)
    strides = shards.chain.strides(shards.chunk, array.dtype.itemsize)
    steps = c_strides(index.grid, 1)

    def cell(place: Index) -> Layout:
        number = sum(a * b for a, b in zip(place, steps, strict=True))
        return Strided(index.source(number), 0, strides)

    return Grid(
        array.chunk, shards.chunk, array.dtype.itemsize, cell, compressed=shards.chain.compressed
    )


def _in_order(array: Array) -> bool:
    """True when the chunks, one after another, are the array in C order."""
    divided = array.shards is not None and array.shards.chunk != array.chunk
    if divided or array.coding.order is not None:
        return False
    axis = next((i for i, n in enumerate(array.chunk) if n > 1), len(array.chunk))
    if axis == len(array.chunk):
        return True
    shape, chunk = array.shape, array.chunk
    whole = axis == 0 or shape[axis] % chunk[axis] == 0
    return whole and chunk[axis + 1 :] == shape[axis + 1 :]


def _join(sources: list[ByteSource]) -> ByteSource:
    """One source for all; where they follow each other in one file, a range of that file."""
    ranges = [source for source in sources if isinstance(source, FileRange)]
    first = sources[0]
    if len(ranges) == len(sources) and isinstance(first, FileRange):
        follows = all(
            a.file is b.file and a.start + a.nbytes == b.start for a, b in pairwise(ranges)
        )
        if follows:
            return FileRange(first.file, first.start, sum(source.nbytes for source in ranges))
    return Joined(sources)
