"""Lazy tensors: a dtype, a shape, and a way to read any box of them.

Two ways, so far: `Strided` (elements at strides over a byte source, as torch, numpy, safetensors
and TensorBundle keep them) and `Tiled` (boxes of other tensors, as DCP, Orbax and our shards do).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

from portackpt.box import Box, bands, whole
from portackpt.bytesource import ByteSource, InMemory
from portackpt.dtypes import STRING, DType, from_numpy
from portackpt.errors import DamagedError
from portackpt.strides import as_bytes, gather, is_c
from portackpt.strides import c_strides as c_strides

if TYPE_CHECKING:
    import numpy as np

PIECE = 4 << 20
"""Bytes moved at once; a multiple of the store's chunk."""
_PLAIN_CODES = {
    "bool": "?", "int8": "b", "int16": "h", "int32": "i", "int64": "q", "uint8": "B",
    "uint16": "H", "uint32": "I", "uint64": "Q", "float16": "e", "float32": "f", "float64": "d",
}  # fmt: skip
BAND = 64 << 20
"""Bytes of a tensor that are put in order at once, where its source holds them in another order."""


class Layout(Protocol):
    """How the elements of one tensor are found."""

    def read(self, dtype: DType, box: Box, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` (C-contiguous, of `box.shape` and numpy dtype `dtype.to_numpy()`).

        A layout that reads a few large boxes faster than many small ones has an attribute `band`:
        the bytes of a box, at best `BAND`.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An N-dimensional array that is read when asked for.

    `attributes` are facts of one framework about this tensor (`requires_grad`, `device`,
    `torch.class`, …): plain data or nodes, never needed to read the values.
    Two places of a tree that hold the same `Tensor` are one tensor there, too; two tensors over the
    same byte source share storage.
    """

    dtype: DType
    shape: tuple[int, ...]
    layout: Strided | Tiled | Layout
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the values in C order; for `string`, of its stored form (see `spec/`)."""
        if self.dtype is STRING:
            assert isinstance(self.layout, Strided)
            return self.layout.source.nbytes
        return self.size * self.dtype.itemsize

    def read(self, box: Box | None = None) -> np.ndarray[Any, Any]:
        """The values (of `box`), as a new C-contiguous array; of `bytes` objects for `string`."""
        import numpy as np

        region = whole(self.shape) if box is None else box
        if self.dtype is STRING:
            index: Any = (*region.slices(), ...)  # an array, even of no dimension
            strings: np.ndarray[Any, Any] = _read_strings(self)[index]
            return strings
        out = np.empty(region.shape, self.dtype.to_numpy())
        if out.size:
            self.layout.read(self.dtype, region, out)
        return out

    def to_bytes(self) -> bytes:
        """All bytes in C order. For small tensors: nothing is imported for it."""
        data = bytearray(self.nbytes)
        self.reader()(memoryview(data))
        return bytes(data)

    def item(self) -> Any:
        """The one element of a tensor of one, as a plain number (or `bytes`)."""
        code = _PLAIN_CODES.get(self.dtype.name)
        if code is None:
            return self.read().item()
        (value,) = struct.unpack(f"<{code}", self.to_bytes())
        return value

    def reader(self, scratch: Scratch | None = None) -> Callable[[memoryview], None]:
        """A function that fills a buffer with the next bytes of the values, in C order.

        One that is asked for many tensors, one after another, is faster with one `scratch`.
        """
        layout = self.layout
        if isinstance(layout, Strided) and layout.is_contiguous(self.dtype, self.shape):
            return layout.reader(self.nbytes)
        return _joined(self._bands(scratch or Scratch()))

    def pieces(self, size: int = PIECE) -> Iterator[memoryview]:
        """All bytes in C order, `size` at a time. The memory of a piece is reused for the next."""
        take = self.reader()
        buffer = memoryview(bytearray(min(size, self.nbytes)))
        for start in range(0, self.nbytes, size):
            piece = buffer[: self.nbytes - start]
            take(piece)
            yield piece

    def _bands(self, scratch: Scratch) -> Iterator[memoryview]:
        kind = self.dtype.to_numpy()
        count = min(self.size, best_band(self) // kind.itemsize or 1)
        buffer = scratch.take(count * kind.itemsize).view(kind)
        for region in bands(self.shape, buffer.size):
            out = buffer[: region.size].reshape(region.shape)
            self.layout.read(self.dtype, region, out)
            yield as_bytes(out)


class Scratch:
    """Memory for one band at a time: fresh pages for each would cost more than what fills them."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer: np.ndarray[Any, Any] | None = None

    def take(self, nbytes: int) -> np.ndarray[Any, Any]:
        """`nbytes` bytes, the same as last time where they are enough."""
        import numpy as np

        if self._buffer is None or self._buffer.nbytes < nbytes:
            self._buffer = np.empty(nbytes, "u1")
        return self._buffer[:nbytes]


def best_band(tensor: Tensor) -> int:
    """Bytes of the boxes in which `tensor` is best read from end to end."""
    layout = tensor.layout
    if isinstance(layout, Strided):
        return PIECE if layout.is_contiguous(tensor.dtype, tensor.shape) else BAND
    if isinstance(layout, Tiled):
        return max([best_band(tile) for _, tile in layout.tiles], default=PIECE)
    band: int = getattr(layout, "band", PIECE)
    return band


def _joined(parts: Iterator[memoryview]) -> Callable[[memoryview], None]:
    """A function that fills buffers from `parts`, wherever these end."""
    rest = memoryview(b"")

    def take(out: memoryview) -> None:
        nonlocal rest
        done = 0
        while done < out.nbytes:
            if not rest:
                rest = next(parts)
            count = min(rest.nbytes, out.nbytes - done)
            out[done : done + count] = rest[:count]
            rest = rest[count:]
            done += count

    return take


@dataclass(frozen=True, slots=True, eq=False)
class Strided:
    """Elements at `offset` bytes and `strides` bytes (of each dimension) over `source`.

    `strides` None means C order without gaps.
    """

    source: ByteSource
    offset: int = 0
    strides: tuple[int, ...] | None = None

    def is_contiguous(self, dtype: DType, shape: tuple[int, ...]) -> bool:
        if self.strides is None:
            return True
        return is_c(shape, self.strides, dtype.itemsize)

    def covers(self, dtype: DType, shape: tuple[int, ...]) -> bool:
        """True when the tensor is exactly the source's bytes in C order."""
        if dtype is STRING:
            return self.offset == 0
        return (
            self.offset == 0
            and prod(shape) * dtype.itemsize == self.source.nbytes
            and self.is_contiguous(dtype, shape)
        )

    def reader(self, nbytes: int) -> Callable[[memoryview], None]:
        """A function that fills a buffer with the next of the tensor's `nbytes`."""
        source = self.source
        position = self.offset
        if nbytes != source.nbytes:
            source.verify()

        def take(out: memoryview) -> None:
            nonlocal position
            source.readinto(position, out)
            position += out.nbytes

        return take

    def read(self, dtype: DType, box: Box, out: np.ndarray[Any, Any]) -> None:
        strides = self.strides
        if strides is None:
            raise AssertionError("contiguous reads need the tensor's shape; use Tensor.read")
        first = self.offset + sum(a * s for a, s in zip(box.start, strides, strict=True))
        gather(self.source, first, strides, out)


@dataclass(frozen=True, slots=True, eq=False)
class Tiled:
    """Boxes of other tensors that tile the whole: (box, tensor of the box's shape)."""

    tiles: tuple[tuple[Box, Tensor], ...]

    def read(self, dtype: DType, box: Box, out: np.ndarray[Any, Any]) -> None:
        for region, tile in self.tiles:
            common = region.intersect(box) if region.start else region
            if common is None:
                continue
            origin = tuple([a - b for a, b in zip(common.start, region.start, strict=True)])
            values = tile.read(Box(origin, common.shape))
            out[common.slices(box.start)] = values


def contiguous(
    dtype: DType,
    shape: tuple[int, ...],
    source: ByteSource,
    offset: int = 0,
    attributes: Mapping[str, Any] | None = None,
) -> Tensor:
    """A C-ordered tensor over `source`; its extent is checked against the source."""
    end = offset + prod(shape) * dtype.itemsize
    if offset < 0 or end > source.nbytes:
        raise DamagedError(
            f"a {dtype} tensor of shape {shape} needs bytes {offset} to {end}, "
            f"found a storage of {source.nbytes} bytes"
        )
    strides = None if dtype is STRING else c_strides(shape, dtype.itemsize)
    return Tensor(dtype, shape, Strided(source, offset, strides), attributes or {})


def from_array(array: np.ndarray[Any, Any], attributes: Mapping[str, Any] | None = None) -> Tensor:
    """A tensor of a numpy array's values. Arrays of `bytes` or `str` objects become `string`."""
    import numpy as np

    if array.dtype.kind in "OSU":
        return from_strings(
            [v.encode() if isinstance(v, str) else bytes(v) for v in array.reshape(-1)], array.shape
        )
    little = np.ascontiguousarray(array).reshape(array.shape)
    if little.dtype.byteorder == ">":
        little = little.astype(little.dtype.newbyteorder("<"))
    data = InMemory(as_bytes(little))
    return contiguous(from_numpy(array.dtype), array.shape, data, 0, attributes)


def from_strings(values: list[bytes], shape: tuple[int, ...]) -> Tensor:
    """A `string` tensor: n + 1 little-endian uint64 end offsets from 0, then the bytes."""
    import numpy as np

    ends = np.zeros(len(values) + 1, "<u8")
    np.cumsum([len(value) for value in values], out=ends[1:])
    return Tensor(STRING, shape, Strided(InMemory(ends.tobytes() + b"".join(values))))


def _read_strings(tensor: Tensor) -> np.ndarray[Any, Any]:
    import numpy as np

    data = b"".join(bytes(piece) for piece in tensor.pieces())
    count = tensor.size
    head = 8 * (count + 1)
    if len(data) < head:
        raise DamagedError(f"string tensor of {count} elements needs {head} bytes of offsets")
    ends = np.frombuffer(data, "<u8", count + 1)
    if ends[0] != 0 or np.any(ends[1:] < ends[:-1]) or head + int(ends[-1]) != len(data):
        raise DamagedError("string tensor's offsets do not fit its bytes")
    out = np.empty(count, object)
    for index in range(count):
        out[index] = data[head + int(ends[index]) : head + int(ends[index + 1])]
    return out.reshape(tensor.shape)
