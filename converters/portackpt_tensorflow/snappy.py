"""Snappy decompression, for the blocks of old tables.

    stream  = varint(length of the output) { element }
    element = tag [ more ]     two low bits of the tag:
              00 literal       length - 1 in the tag, or in the next 1 to 4 bytes
              01 copy          3 bits of length - 4, 11 bits of distance
              10, 11 copy      6 bits of length - 1, 2 or 4 bytes of distance

Source: github.com/google/snappy, format_description.txt.
"""

from __future__ import annotations

from portackpt.errors import DamagedError, RefusedError
from portackpt_tensorflow.wire import varint

_RATIO = 22
"""A copy of 64 bytes costs 3: no stream grows more."""


def decompress(data: bytes, limit: int) -> bytes:
    """The bytes of a raw snappy stream; its stated length is checked before anything is built."""
    try:
        expected, at = varint(data, 0)
        if expected > _RATIO * len(data):
            raise DamagedError(
                f"{len(data)} bytes of snappy cannot hold the stated {expected} bytes"
            )
        if expected > limit:
            raise RefusedError(f"{expected} bytes of snappy; the limit is {limit}")
        out = _elements(data, at, expected)
    except IndexError:
        raise DamagedError("a snappy stream ends inside an element") from None
    if len(out) != expected:
        raise DamagedError(f"snappy: expected {expected} bytes, found {len(out)}")
    return bytes(out)


def _elements(data: bytes, at: int, limit: int) -> bytearray:
    out = bytearray()
    end = len(data)
    while at < end and len(out) <= limit:
        tag = data[at]
        at += 1
        if not tag & 3:
            count = (tag >> 2) + 1
            if count > 60:
                width = count - 60
                count = int.from_bytes(data[at : at + width], "little") + 1
                at += width
            if at + count > end:
                raise IndexError
            out += data[at : at + count]
            at += count
            continue
        if tag & 3 == 1:
            count = (tag >> 2 & 7) + 4
            distance = tag >> 5 << 8 | data[at]
            at += 1
        else:
            count = (tag >> 2) + 1
            width = 2 if tag & 3 == 2 else 4
            if at + width > end:
                raise IndexError
            distance = int.from_bytes(data[at : at + width], "little")
            at += width
        _copy(out, distance, count)
    return out


def _copy(out: bytearray, distance: int, count: int) -> None:
    if not 0 < distance <= len(out):
        raise DamagedError(f"snappy: a copy from {distance} bytes back, after {len(out)} bytes")
    start = len(out) - distance
    piece = out[start : start + count]
    if len(piece) < count:  # the copy reads what it writes
        piece = (piece * (count // len(piece) + 1))[:count]
    out += piece
