"""Keys of slices, in an encoding whose byte order is the order of what it encodes.

    key     = number(0) string(name) number(rank) { signed(start) signed(length) }
    string  = bytes with 00 as 00 ff (and ff, which UTF-8 has not, as ff 00), then 00 01
    number  = count of bytes, bytes (big-endian, as few as possible)
    signed  = for -64 to 63 one byte, value xor 80; else n bytes whose first bits, a sign and n - 1
              copies of its opposite, tell the sign and n

A dimension that a slice has all of is written as start 0, length -1.

Source: tensorflow/core/lib/strings/ordered_code.cc, core/util/saved_tensor_slice_util.cc.
"""

from __future__ import annotations

from portackpt_tensorflow.entry import Slice


def slice_key(name: str, extents: Slice) -> bytes:
    """The key under which a bundle lists one slice of the tensor `name`."""
    parts = [b"\0", name.encode().replace(b"\0", b"\0\xff"), b"\0\1", _number(len(extents))]
    for start, length in extents:
        parts += (b"\x80\x7f",) if length is None else (_signed(start), _signed(length))
    return b"".join(parts)


def _number(value: int) -> bytes:
    count = (value.bit_length() + 7) // 8
    return bytes((count,)) + value.to_bytes(count, "big")


def _signed(value: int) -> bytes:
    magnitude = ~value if value < 0 else value
    if magnitude < 64:
        return bytes((value & 0xFF ^ 0x80,))
    count = magnitude.bit_length() // 7 + 1
    bits = 8 * count
    # `count` leading ones, then a zero: the header; xor turns the sign bits of the value into it
    header = ((1 << count) - 1) << bits - count
    return ((value & (1 << bits) - 1) ^ header).to_bytes(count, "big")
