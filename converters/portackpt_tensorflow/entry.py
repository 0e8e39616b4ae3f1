"""What the index of a bundle says: a header, and an entry for each tensor.

    BundleHeaderProto   1 num_shards   2 endianness (0 little, 1 big)   3 version {1 ours, 2 least}
    BundleEntryProto    1 dtype   2 shape   3 shard_id   4 offset   5 size
                        6 crc32c (fixed32, masked)   7 slices
    TensorShapeProto    2 dim {1 size}   3 unknown_rank
    TensorSliceProto    1 extent {1 start, 2 length (absent: all)}

Source: tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

from portackpt.errors import DamagedError, RefusedError, UnsupportedError
from portackpt_tensorflow.checksum import mask
from portackpt_tensorflow.wire import fields, put_bytes, put_varint, signed

_MAX_SHARDS = 100_000
_MAX_RANK = 64
_VERSION = 1


class Header(NamedTuple):
    shards: int
    big_endian: bool


class Extent(NamedTuple):
    """A part of one dimension; `length` None means all of it."""

    start: int
    length: int | None


Slice = tuple[Extent, ...]


class Entry(NamedTuple):
    """Where a tensor, or a slice of one, lies; `crc` is masked. With `slices`, they tell where."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[Slice, ...] = ()


def parse_header(data: bytes) -> Header:
    shards = order = 0
    least = 0
    for tag, value in fields(data):
        if tag == 0x08 and isinstance(value, int):
            shards = value
        elif tag == 0x10 and isinstance(value, int):
            order = value
        elif tag == 0x1A and isinstance(value, bytes):
            least = max((n for kind, n in fields(value) if kind == 0x10 and isinstance(n, int)),
                        default=0)  # fmt: skip
    if not 0 < shards <= _MAX_SHARDS:
        raise DamagedError(f"a bundle of {shards} data shards")
    if order not in (0, 1):
        raise DamagedError(f"a bundle of unknown byte order {order}")
    if least > _VERSION:
        raise UnsupportedError(f"a bundle for readers of version {least}; known is {_VERSION}")
    return Header(shards, order == 1)


def parse_entry(data: bytes) -> Entry:
    dtype = shard = offset = size = crc = 0
    shape: tuple[int, ...] = ()
    slices: list[Slice] = []
    for tag, value in fields(data):
        if isinstance(value, bytes):
            if tag == 0x12:
                shape = parse_shape(value)
            elif tag == 0x3A:
                slices.append(parse_slice(value))
        elif tag == 0x08:
            dtype = value
        elif tag == 0x18:
            shard = value
        elif tag == 0x20:
            offset = value
        elif tag == 0x28:
            size = value
        elif tag == 0x35:
            crc = value
    return Entry(dtype, shape, shard, offset, size, crc, tuple(slices))


@lru_cache(maxsize=4096)
def parse_shape(data: bytes) -> tuple[int, ...]:
    shape = []
    for tag, value in fields(data):
        if tag == 0x12 and isinstance(value, bytes):
            size = dict(fields(value)).get(0x08, 0)
            shape.append(signed(size) if isinstance(size, int) else -1)
        elif tag == 0x18 and value:
            raise DamagedError("a tensor of unknown rank")
    if min(shape, default=0) < 0 or prod(filter(None, shape)) >> 63:
        raise DamagedError(f"a tensor of impossible shape {shape}")
    if len(shape) > _MAX_RANK:
        raise RefusedError(f"a tensor of {len(shape)} dimensions; the limit is {_MAX_RANK}")
    return tuple(shape)


def parse_slice(data: bytes) -> Slice:
    found = []
    for tag, value in fields(data):
        if tag == 0x0A and isinstance(value, bytes):
            extent = {key: signed(number) for key, number in fields(value) if key in (0x08, 0x10)
                      and isinstance(number, int)}  # fmt: skip
            found.append(Extent(extent.get(0x08, 0), extent.get(0x10)))
    return tuple(found)


def encode_header(header: Header) -> bytes:
    order = b"\x10\x01" if header.big_endian else b""
    return b"\x08" + put_varint(header.shards) + order + b"\x1a\x02\x08\x01"


def encode_entry(dtype: int, shape: tuple[int, ...], offset: int, size: int, crc: int) -> bytes:
    """An entry of shard 0, from an unmasked crc32c; zeros are left out, as protobuf does."""
    return b"".join(
        (
            b"\x08",
            put_varint(dtype),
            _encode_shape(shape),
            b"\x20" + put_varint(offset) if offset else b"",
            b"\x28" + put_varint(size) if size else b"",
            b"\x35",
            mask(crc).to_bytes(4, "little"),
        )
    )


@lru_cache(maxsize=4096)
def _encode_shape(shape: tuple[int, ...]) -> bytes:
    dims = (put_bytes(2, b"\x08" + put_varint(size) if size else b"") for size in shape)
    return put_bytes(2, b"".join(dims))
