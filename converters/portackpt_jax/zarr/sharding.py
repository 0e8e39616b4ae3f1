"""Shards: chunks that hold inner chunks and an index of them."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from portackpt.bytesource import ByteSource
from portackpt.errors import DamagedError, RefusedError
from portackpt_jax.zarr.codecs import extend_crc32c
from portackpt_jax.zarr.metadata import Array
from portackpt_jax.zarr.sources import Filled, Part

if TYPE_CHECKING:
    import numpy as np

ABSENT = (1 << 64) - 1
LARGEST_INDEX = 64 << 20


class ShardIndex:
    """Where the inner chunks of one shard lie; read when first asked for."""

    __slots__ = ("_array", "_data", "_index", "_shard", "_where", "grid")

    def __init__(self, array: Array, shard: ByteSource, where: str) -> None:
        assert array.shards is not None
        self._array = array
        self._shard = shard
        self._where = where
        self._index: np.ndarray[Any, Any] | None = None
        self._data = (0, 0)
        self.grid = tuple([a // b for a, b in zip(array.chunk, array.shards.chunk, strict=True)])

    def source(self, number: int) -> ByteSource:
        """The decoded bytes of an inner chunk, by its number in C order."""
        array = self._array
        shards = array.shards
        assert shards is not None
        if self._index is None:
            self._index = self._read()
        offset, length = map(int, self._index[number])
        nbytes = prod(shards.chunk) * array.dtype.itemsize
        if offset == length == ABSENT:
            return Filled(array.fill, nbytes)
        first, last = self._data
        if not first <= offset <= offset + length <= last:
            raise DamagedError(
                f"inner chunk {number} at bytes {offset} to {offset + length}, outside the data at "
                f"{first} to {last}",
                self._where,
            )
        part = Part(self._shard, offset, length)
        return shards.chain.decode(part, nbytes, array.dtype, self._where)

    def _read(self) -> np.ndarray[Any, Any]:
        import numpy as np

        shards = self._array.shards
        assert shards is not None
        size = 16 * prod(self.grid)
        total = size + 4 * shards.checksum
        if size > LARGEST_INDEX:
            raise RefusedError(f"a shard index of {size} bytes", self._where)
        if total > self._shard.nbytes:
            raise DamagedError(
                f"the index of a shard takes {total} bytes, the shard has {self._shard.nbytes}",
                self._where,
            )
        data = bytearray(total)
        rest = self._shard.nbytes - total
        start, self._data = (rest, (0, rest)) if shards.at_end else (0, (total, total + rest))
        self._shard.readinto(start, memoryview(data))
        if shards.checksum:
            expected = int.from_bytes(data[size:], "little")
            found = extend_crc32c(memoryview(data)[:size], 0)
            if expected != found:
                raise DamagedError(
                    f"checksum of a shard index does not match: expected {expected:08x}, "
                    f"found {found:08x}; the bytes were changed after they were written",
                    self._where,
                )
        return np.frombuffer(bytes(data[:size]), "<u8").reshape(-1, 2)
