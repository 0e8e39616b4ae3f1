"""Arrays of chunks side by side: a row of the array goes through many of them."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Callable
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

from portackpt.box import Box
from portackpt.bytesource import ByteSource
from portackpt.dtypes import DType
from portackpt.errors import DamagedError, UsageError
from portackpt.tensor import Layout, Strided

if TYPE_CHECKING:
    import numpy as np

Index: TypeAlias = tuple[int, ...]
LARGEST_KEPT = 96 << 20
DECOMPRESSOR = 3 << 19
"""Memory of a decompressor in the middle of a large chunk, about."""
_PIECE = 1 << 20


class Grid:
    """A layout of equal chunks, each with a layout of its own; the last may stick out.

    An array is read row after row, and each row through many chunks: they stay where they are, half
    decompressed. Where there are too many of them for that, they are decompressed once into a
    temporary file, and read from there.
    """

    __slots__ = ("_cell", "_cells", "_chunk", "_most", "_shape", "_spool")

    def __init__(
        self,
        shape: tuple[int, ...],
        chunk: Index,
        itemsize: int,
        cell: Callable[[Index], Layout],
        *,
        compressed: bool,
    ) -> None:
        self._shape = shape
        self._chunk = chunk
        self._cell = cell
        self._cells: dict[Index, Layout] = {}
        self._spool: Spool | None = None
        each = min(prod(chunk) * itemsize, DECOMPRESSOR) if compressed else 1 << 10
        self._most = LARGEST_KEPT // each

    def read(self, dtype: DType, box: Box, out: np.ndarray[Any, Any]) -> None:
        import numpy as np

        ranges = [
            range(start // size, -(-(start + n) // size))
            for start, n, size in zip(box.start, box.shape, self._chunk, strict=True)
        ]
        many = prod(map(len, ranges)) > self._most
        for index in product(*ranges):
            start = tuple([i * size for i, size in zip(index, self._chunk, strict=True)])
            common = Box(start, self._chunk).intersect(box)
            assert common is not None
            origin = tuple([a - b for a, b in zip(common.start, start, strict=True)])
            target = out[common.slices(box.start)]
            values = target if target.flags.c_contiguous else np.empty(target.shape, target.dtype)
            self._layout(index, many).read(dtype, Box(origin, common.shape), values)
            if values is not target:
                target[...] = values
        if box.stop == self._shape:
            self._cells.clear()
            self._spool = None

    def _layout(self, index: Index, many: bool) -> Layout:
        layout = self._cells.pop(index, None)
        if layout is None:
            layout = self._cell(index)
            if many and isinstance(layout, Strided):
                self._spool = self._spool or Spool()
                layout = Strided(self._spool.add(layout.source), layout.offset, layout.strides)
        self._cells[index] = layout
        if not many and len(self._cells) > self._most:
            del self._cells[next(iter(self._cells))]
        return layout


class Spool:
    """A temporary file without a name, which takes sources in whole; it goes when they go."""

    def __init__(self) -> None:
        self.descriptor, name = tempfile.mkstemp(prefix="portackpt-")
        weakref.finalize(self, os.close, self.descriptor)
        os.unlink(name)  # noqa: PTH108 - the name was only needed to make it
        self._end = 0

    def add(self, source: ByteSource) -> ByteSource:
        """All bytes of `source`, from now on in the file."""
        start = self._end
        buffer = memoryview(bytearray(min(_PIECE, source.nbytes)))
        for at in range(0, source.nbytes, _PIECE):
            piece = buffer[: source.nbytes - at]
            source.readinto(at, piece)
            self._write(piece)
        return Spooled(self, start, self._end - start)

    def _write(self, piece: memoryview) -> None:
        try:
            while piece.nbytes:
                count = os.pwrite(self.descriptor, piece, self._end)
                self._end += count
                piece = piece[count:]
        except OSError as error:
            raise UsageError(
                f"an array in many compressed chunks side by side needs temporary space: "
                f"{error.strerror}; set TMPDIR to a directory with room",
                tempfile.gettempdir(),
            ) from error


class Spooled:
    """A range of a temporary file."""

    __slots__ = ("_nbytes", "_spool", "_start")

    def __init__(self, spool: Spool, start: int, nbytes: int) -> None:
        self._spool = spool
        self._start = start
        self._nbytes = nbytes

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        descriptor = self._spool.descriptor
        done = 0
        while done < out.nbytes:
            count = os.preadv(descriptor, [out[done:]], self._start + offset + done)
            if not count:
                raise DamagedError("a temporary file was cut short", tempfile.gettempdir())
            done += count

    def verify(self) -> None:
        pass
