"""The header of a safetensors file: names, dtypes, shapes, and where the bytes lie.

Source: the format's README and reference implementation (huggingface/safetensors). What the
reference accepts is read, except where it contradicts the README in a way that changes values:
repeated names, holes, overlaps and trailing bytes are errors.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any

import msgspec

from portackpt.bytesource import File
from portackpt.dtypes import DType
from portackpt.errors import DamagedError, RefusedError, UnsupportedError, located
from portackpt_safetensors.spellings import DTYPES, SPELLINGS

MAX_HEADER = 100_000_000
"""Bytes of JSON, at most; the reference refuses more."""
MAX_RANK = 64
METADATA = "__metadata__"
_PREFIX = 8

_PACKED = "F4"
_UNREAD = frozenset(("F6_E2M3", "F6_E3M2"))
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One tensor as the header spells it; offsets count from the end of the header."""

    dtype: str
    shape: tuple[_Count, ...]
    data_offsets: tuple[_Count, _Count]


@dataclass(frozen=True, slots=True)
class Header:
    """`entries` in the order of the file; their bytes begin at `start`."""

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str] | None
    start: int


def read(file: File) -> Header:
    """The header of `file`, checked against its length."""
    with located(str(file.path)):
        if file.size < _PREFIX:
            raise DamagedError(
                f"a safetensors file begins with {_PREFIX} bytes of header length, "
                f"found a file of {file.size}"
            )
        count = int.from_bytes(file.read(0, _PREFIX), "little")
        if count > MAX_HEADER:
            raise RefusedError(f"a header has at most {MAX_HEADER} bytes, this one claims {count}")
        start = _PREFIX + count
        if start > file.size:
            raise DamagedError(
                f"the header claims {count} bytes, the file has {file.size - _PREFIX} after its "
                "length: it was cut short"
            )
        entries, metadata = parse(file.read(_PREFIX, count), file.size - start)
        return Header(entries, metadata, start)


def parse(text: bytes, size: int) -> tuple[dict[str, Entry], dict[str, str] | None]:
    """(entries, metadata) of a header whose tensors have to tile `size` bytes."""
    fields: dict[str, msgspec.Raw] = _decode(text, _FIELDS, "header")
    raw = fields.pop(METADATA, None)
    metadata: dict[str, str] | None = None
    if raw is not None:
        metadata = _decode(raw, _METADATA, METADATA)
        _pairs(bytes(raw))
    decode = _ENTRY.decode
    try:
        entries = {name: decode(entry) for name, entry in fields.items()}
    except msgspec.MsgspecError:
        for name, entry in fields.items():
            _decode(entry, _ENTRY, f"tensors[{name!r}]")
        raise
    if not _distinct(text, len(entries), raw):
        _pairs(text)
    _check_tiling(entries, size)
    return entries, metadata


_FIELDS: msgspec.json.Decoder[Any] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_METADATA: msgspec.json.Decoder[Any] = msgspec.json.Decoder(dict[str, str] | None)
_ENTRY: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)


def _decode(text: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[Any], place: str) -> Any:
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedError(f"the header is not the JSON of safetensors: {error}", place) from None


def _distinct(text: bytes, count: int, metadata: msgspec.Raw | None) -> bool:
    """True when `text` certainly repeats no name: it has no more objects and fields than `count`
    entries need (a name that is spelled with escapes or looks like a field proves nothing)."""
    objects = count + 1 + (0 if metadata is None else bytes(metadata).count(b"{"))
    return (
        b"\\" not in text
        and text.count(b"{") == objects
        and all(text.count(field) == count for field in (b'"dtype"', b'"shape"', b'"data_offsets"'))
    )


def _pairs(text: bytes) -> None:
    """Raise where an object of `text` has a name twice."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        names = set()
        for name, _ in pairs:
            if name in names:
                raise RefusedError(
                    f"the header has the name {name!r} twice; readers disagree which is meant"
                )
            names.add(name)

    try:
        json.loads(text, object_pairs_hook=check)
    except RecursionError:
        raise RefusedError("the header is nested too deeply") from None


def _check_tiling(entries: Mapping[str, Entry], size: int) -> None:
    """The tensors follow each other without hole or overlap and fill `size` bytes."""
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        begin, end = entry.data_offsets
        if begin != position or end < begin:
            fault = "overlap the tensor before it" if begin < position else "leave a hole"
            raise DamagedError(
                f"bytes {begin} to {end} {fault}: expected to begin at {position}",
                f"tensors[{name!r}]",
            )
        if _span(name, entry) != end - begin:
            raise DamagedError(
                f"{entry.dtype} of shape {list(entry.shape)} needs {_span(name, entry)} bytes, "
                f"found {end - begin}",
                f"tensors[{name!r}]",
            )
        position = end
    if position != size:
        what = "was cut short" if position > size else "has bytes that belong to no tensor"
        raise DamagedError(f"the tensors take {position} bytes, found {size}: the file {what}")


def _span(name: str, entry: Entry) -> int:
    """Bytes that the tensor needs."""
    dtype = DTYPES.get(entry.dtype)
    if dtype is None:
        if entry.dtype in _UNREAD:
            raise UnsupportedError(f"tensor {name!r} has the dtype {entry.dtype}, four elements in "
                                   "three bytes, which no framework has")  # fmt: skip
        raise DamagedError(f"unknown dtype {entry.dtype!r}", f"tensors[{name!r}]")
    shape = entry.shape
    if shape and (len(shape) > MAX_RANK or max(shape) >= 1 << 63):
        raise RefusedError(f"shape {list(shape)} is beyond {MAX_RANK} dimensions below 2^63",
                           f"tensors[{name!r}]")  # fmt: skip
    if entry.dtype != _PACKED:
        return prod(shape) * dtype.itemsize
    if not shape or shape[-1] % 2:
        raise UnsupportedError(f"tensor {name!r} of F4 has the shape {list(shape)}; two elements "
                               "fill a byte, so that the last dimension is even")  # fmt: skip
    return prod(shape) // 2


def stored_shape(entry: Entry) -> tuple[int, ...]:
    """The shape in elements of our dtype: those of packed dtypes count bytes."""
    if entry.dtype == _PACKED:
        return (*entry.shape[:-1], entry.shape[-1] // 2)
    return entry.shape


def spelled_shape(dtype: DType, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape as the header spells it."""
    if SPELLINGS[dtype.name] == _PACKED:
        return (*shape[:-1], shape[-1] * 2)
    return shape


def is_native(dtype: DType, shape: tuple[int, ...]) -> bool:
    """True when the format has a spelling for such a tensor."""
    spelling = SPELLINGS.get(dtype.name)
    return spelling is not None and (spelling != _PACKED or bool(shape))


def emit(entries: Mapping[str, Entry], metadata: Mapping[str, str] | None) -> bytes:
    """The bytes of a file before its tensors: length, JSON, spaces up to a multiple of eight."""
    fields: dict[str, Any] = {} if metadata is None else {METADATA: metadata}
    fields.update(entries)
    text = msgspec.json.encode(fields)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(_PREFIX, "little") + text


def placed(tensors: Iterable[tuple[str, DType, tuple[int, ...], int]]) -> dict[str, Entry]:
    """Entries of (name, dtype, shape, bytes) in the order given.

    The bytes of wide elements come first, so that every tensor begins at a multiple of its
    element's size.
    """
    listed = list(tensors)
    begins = [0] * len(listed)
    position = 0
    for index in sorted(range(len(listed)), key=lambda i: -listed[i][1].itemsize):
        begins[index] = position
        position += listed[index][3]
    return {
        name: Entry(SPELLINGS[dtype.name], spelled_shape(dtype, shape), (begin, begin + nbytes))
        for (name, dtype, shape, nbytes), begin in zip(listed, begins, strict=True)
    }
