"""Arrays and tensors: what a .npy header and its elements are as a tensor, and back.

What the dtype of a tensor does not say is kept as its attribute `numpy.descr`: big-endian elements,
dates, the width of text, and the fields of a structured dtype, whose elements are carried as bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from portackpt.box import Box
from portackpt.bytesource import ByteSource, InMemory, Swapped
from portackpt.dtypes import STRING, UINT8, DType
from portackpt.errors import DamagedError
from portackpt.tensor import Strided, Tensor, c_strides, contiguous
from portackpt_numpy.npy import SPELLINGS, Descr, Element, Header, element, emit_header, read_header
from portackpt_numpy.strings import DESCR, EAGER, decode, decode_record, encode, is_record

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The bytes of `source` from `start` to its end."""

    source: ByteSource
    start: int

    @property
    def nbytes(self) -> int:
        return self.source.nbytes - self.start

    def readinto(self, offset: int, out: memoryview) -> None:
        self.source.readinto(self.start + offset, out)

    def verify(self) -> None:
        self.source.verify()


def open_array(source: ByteSource) -> Tensor:
    """The array that is all of `source`: the header is read, the elements are not.

    Text is read at once where it is not large.
    """

    def read(offset: int, count: int) -> bytes:
        data = bytearray(count)
        source.readinto(offset, memoryview(data))
        return bytes(data)

    header, start = read_header(read, source.nbytes)
    kind = header.element
    need = prod(header.shape) * kind.itemsize
    held = source.nbytes - start
    if need != held:
        told = "was cut short" if need > held else "has bytes that belong to no element"
        raise DamagedError(
            f"{header.descr!r:.50} of shape {header.shape} needs {need} bytes, found {held}: "
            f"the file {told}"
        )
    if is_record(header.descr, header.shape) and need <= EAGER:
        return decode_record(read(start, need), header.descr)
    if kind.dtype is STRING and need <= EAGER:
        return decode(read(start, need), header)
    return _over(header, Part(source, start))


def _over(header: Header, source: ByteSource) -> Tensor:
    kind, shape = header.element, header.shape
    dtype = kind.dtype
    inner: tuple[int, ...] = ()
    if kind.is_opaque:
        dtype, inner = UINT8, (kind.itemsize,)
    elif kind.swapped:
        source = Swapped(source, dtype.itemsize // (2 if dtype.name.startswith("complex") else 1))
    strides = c_strides((*shape, *inner), dtype.itemsize)
    if header.fortran_order:
        strides = (*c_strides(shape[::-1], kind.itemsize)[::-1], *strides[len(shape) :])
    attributes = {} if kind.is_plain else {DESCR: header.descr}
    return Tensor(dtype, (*shape, *inner), Strided(source, 0, strides), attributes)


def spell_array(tensor: Tensor) -> tuple[bytes, Tensor]:
    """The header of a .npy file that holds `tensor`, and a tensor whose bytes follow it."""
    if tensor.dtype is STRING:
        descr, shape, values = encode(tensor)
        data = contiguous(UINT8, (values.nbytes,), InMemory(values.tobytes()))
        return emit_header(descr, False, shape), data
    kept: Descr = tensor.attributes.get(DESCR, "")
    kind = _fitting(kept, tensor)
    if kind is not None and kind.is_opaque:
        return emit_header(kept, False, tensor.shape[:-1]), tensor
    if kind is not None:
        return emit_header(kept, False, tensor.shape), _swapped(tensor) if kind.swapped else tensor
    descr = SPELLINGS[tensor.dtype.name]
    turned = _turned(tensor)
    if turned is not None:
        return emit_header(descr, True, tensor.shape), turned
    return emit_header(descr, False, tensor.shape), tensor


def _fitting(descr: Descr, tensor: Tensor) -> Element | None:
    """The element that `descr` says, where those of `tensor` still are such."""
    if not descr:
        return None
    kind = element(descr)
    if kind.is_opaque:
        fits = tensor.dtype is UINT8 and tensor.shape[-1:] == (kind.itemsize,)
    else:
        fits = kind.dtype is tensor.dtype
    return kind if fits else None


def _turned(tensor: Tensor) -> Tensor | None:
    """A Fortran-ordered tensor with its dimensions reversed: the same bytes in C order."""
    layout = tensor.layout
    if not isinstance(layout, Strided) or layout.is_contiguous(tensor.dtype, tensor.shape):
        return None
    turned = Strided(layout.source, layout.offset, (layout.strides or ())[::-1])
    if not turned.is_contiguous(tensor.dtype, tensor.shape[::-1]):
        return None
    return Tensor(tensor.dtype, tensor.shape[::-1], turned)


def _swapped(tensor: Tensor) -> Tensor:
    """The elements of `tensor`, big-endian."""
    return Tensor(tensor.dtype, tensor.shape, _BigEndian(tensor))


@dataclass(frozen=True, slots=True, eq=False)
class _BigEndian:
    tensor: Tensor

    def read(self, dtype: DType, box: Box, out: np.ndarray[Any, Any]) -> None:
        out[...] = self.tensor.read(box).byteswap()
