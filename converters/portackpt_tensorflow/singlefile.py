"""TensorFlow 1's first checkpoints: one table that holds names and values (read only).

    key ""              SavedTensorSlices { 1 meta }
    meta                { 1 tensor }...       tensor = { 1 name, 2 shape, 3 dtype, 4 slice }
    key of a slice      SavedTensorSlices { 2 data }                    (keys: see `orderedcode`)
    data                { 1 name, 2 slice, 3 TensorProto with the values in one repeated field }

Plain floats lie in the file as they are; integers are varints, strings one field each. Blocks may
be as large as a tensor, so each is verified when a tensor in it is first read.

Source: tensorflow/core/util/saved_tensor_slice.proto, tensor_slice_writer.h.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from portackpt.bytesource import ByteSource, File, InMemory, Sequential
from portackpt.dtypes import BY_TENSORFLOW, STRING, DType
from portackpt.errors import DamagedError, UnsupportedError, located
from portackpt.tensor import Strided, Tensor, c_strides, from_strings
from portackpt_tensorflow.entry import Slice, parse_shape, parse_slice
from portackpt_tensorflow.lazyblock import Block, Place, members, scan
from portackpt_tensorflow.orderedcode import slice_key
from portackpt_tensorflow.slices import joined, to_box
from portackpt_tensorflow.table import read_index
from portackpt_tensorflow.varints import decode
from portackpt_tensorflow.wire import fields, text

# the tag of TensorProto's field that holds the values of a dtype
_CONTENT, _STRINGS = 0x22, 0x42
_RAW = {"float32": 0x2A, "float64": 0x32, "complex64": 0x4A, "complex128": 0x62}
_VARINTS = {
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), 0x3A),
    **dict.fromkeys(("qint8", "qint16", "qint32", "quint8", "quint16"), 0x3A),
    **dict.fromkeys(("float16", "bfloat16"), 0x6A),
    "int64": 0x52,
    "bool": 0x5A,
    "uint32": 0x82,
    "uint64": 0x8A,
}
_WINDOW = 1 << 20


def read_single_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a V1 checkpoint, by name."""
    file = File(path)
    handles, _ = read_index(file)
    with located(str(path)):
        entries = (entry for handle in handles for entry in scan(Block(file, handle)))
        listed = _read_list(next(entries, None))
        wanted = {slice_key(known.name, extents) for known in listed for extents in known.slices}
        places: dict[bytes, Place] = {}
        for key, place in entries:
            if key not in wanted or key in places:
                raise DamagedError(f"values that the list does not name: {key[:80]!r}")
            places[key] = place
        return {known.name: _tensor(known, places) for known in listed}


class _Known(NamedTuple):
    """A tensor as the list describes it."""

    name: str
    shape: tuple[int, ...]
    dtype: int
    slices: tuple[Slice, ...]


def _read_list(entry: tuple[bytes, Place] | None) -> list[_Known]:
    if entry is not None and not entry[0]:
        place = entry[1]
        place.block.verify()
        for tag, meta in fields(place.read()):
            if tag == 0x0A and isinstance(meta, bytes):
                tensors = (value for kind, value in fields(meta) if kind == 0x0A)
                return [_parse_known(value) for value in tensors if isinstance(value, bytes)]
    raise DamagedError("a table without the list of tensors of a V1 checkpoint")


def _parse_known(data: bytes) -> _Known:
    name = ""
    shape: tuple[int, ...] = ()
    dtype = 0
    slices: list[Slice] = []
    for tag, value in fields(data):
        if tag == 0x0A:
            name = text(value)
        elif tag == 0x18 and isinstance(value, int):
            dtype = value
        elif tag == 0x12 and isinstance(value, bytes):
            shape = parse_shape(value)
        elif tag == 0x22 and isinstance(value, bytes):
            slices.append(parse_slice(value))
    return _Known(name, shape, dtype, tuple(slices))


def _tensor(known: _Known, places: dict[bytes, Place]) -> Tensor:
    dtype = BY_TENSORFLOW.get(known.dtype)
    if dtype is None or not (dtype is STRING or dtype.name in _RAW or dtype.name in _VARINTS):
        raise UnsupportedError(f"a tensor of TensorFlow's dtype number {known.dtype}", known.name)
    parts = []
    for extents in known.slices:
        place = places.get(slice_key(known.name, extents))
        if place is None:
            raise DamagedError("a slice of the tensor is missing", known.name)
        box = to_box(extents, known.shape)
        least = prod(box.shape) * (dtype.itemsize if dtype.name in _RAW else 1)
        if min(box.shape, default=0) < 0 or least > place.size:
            raise DamagedError(f"{place.size} bytes cannot hold shape {box.shape}", known.name)
        values = _Values(known.name, dtype, box.shape, place)
        strides = None if dtype is STRING else c_strides(box.shape, dtype.itemsize)
        parts.append((box, Tensor(dtype, box.shape, Strided(values, 0, strides))))
    return joined(known.name, dtype, known.shape, parts)


class _Values:
    """The values of one slice; its block is verified and the message around them parsed on use."""

    __slots__ = ("_dtype", "_name", "_place", "_shape", "_source")

    def __init__(self, name: str, dtype: DType, shape: tuple[int, ...], place: Place) -> None:
        self._name = name
        self._dtype = dtype
        self._shape = shape
        self._place = place
        self._source: ByteSource | None = None

    @property
    def nbytes(self) -> int:
        if self._dtype is STRING:
            return self._open().nbytes
        return prod(self._shape) * self._dtype.itemsize

    def readinto(self, offset: int, out: memoryview) -> None:
        self._open().readinto(offset, out)

    def verify(self) -> None:
        self._open()

    def _open(self) -> ByteSource:
        if self._source is None:
            with located(f"{self._name}, {self._place.block.where}"):
                self._place.block.verify()
                self._source = self._find()
        return self._source

    def _find(self) -> ByteSource:
        proto = _member(_member(self._place, 0x12), 0x1A)
        if self._dtype is STRING:
            return self._strings(proto)
        name, count = self._dtype.name, prod(self._shape)
        if not count:
            return InMemory(b"")
        raw = dict(members(proto)).get(_CONTENT)
        if raw is None and name in _RAW:
            raw = _member(proto, _RAW[name])
        if raw is None:
            packed = _member(proto, _VARINTS[name])
            return Sequential(self.nbytes, lambda: _decoder(packed, self._dtype, count))
        if raw.size != self.nbytes:
            raise DamagedError(f"expected {self.nbytes} bytes of values, found {raw.size}")
        return _Part(raw)

    def _strings(self, proto: Place) -> ByteSource:
        values = [v for tag, v in fields(proto.read()) if tag == _STRINGS and isinstance(v, bytes)]
        if len(values) != prod(self._shape):
            raise DamagedError(f"expected {prod(self._shape)} strings, found {len(values)}")
        layout = from_strings(values, self._shape).layout
        assert isinstance(layout, Strided)
        return layout.source


def _member(place: Place, tag: int) -> Place:
    found = [member for number, member in members(place) if number == tag]
    if len(found) != 1:
        raise DamagedError(f"expected one field {tag >> 3} in a message, found {len(found)}")
    return found[0]


class _Part:
    """The bytes of a value in a verified block."""

    __slots__ = ("_place",)

    def __init__(self, place: Place) -> None:
        self._place = place

    @property
    def nbytes(self) -> int:
        return self._place.size

    def readinto(self, offset: int, out: memoryview) -> None:
        self._place.block.raw.readinto(self._place.start + offset, out)

    def verify(self) -> None:
        pass


def _decoder(packed: Place, dtype: DType, count: int) -> Callable[[memoryview], None]:
    """A function that fills a buffer with the next of `count` elements, `packed` as varints."""
    import numpy as np

    at = packed.start
    rest: Any = np.empty(0, "u1")
    left = count * dtype.itemsize

    def take(out: memoryview) -> None:
        nonlocal at, rest, left
        done = 0
        while done < out.nbytes:
            if not len(rest):
                window = packed.block.read(at, min(at + _WINDOW, packed.stop))
                values, used = decode(np.frombuffer(window, "u1"), _WINDOW)
                if not used:
                    raise DamagedError("the values end early", packed.block.where)
                at += used
                if dtype.name == "bool":
                    values = values != 0
                rest = values.astype(f"<u{dtype.itemsize}").view("u1")
            size = min(len(rest), out.nbytes - done)
            out[done : done + size] = rest[:size].data
            rest = rest[size:]
            done += size
        left -= done
        if not left and (len(rest) or at < packed.stop):
            raise DamagedError(f"more than the expected {count} values", packed.block.where)

    return take
