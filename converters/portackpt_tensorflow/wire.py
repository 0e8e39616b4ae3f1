"""The wire format of protocol buffers: just enough to read and write messages of known fields.

    message = { tag payload }        tag = varint(field number << 3 | kind)
    kind 0: varint    kind 1: 8 bytes    kind 2: varint length, bytes    kind 5: 4 bytes

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from portackpt.errors import DamagedError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MASK = (1 << 64) - 1


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned number at `at`, and where the next byte stands. IndexError past the end."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, at
        shift += 7
        if shift > 63:
            raise DamagedError(f"a varint of more than 10 bytes, at byte {at}")


def signed(value: int) -> int:
    """A varint's value as int64 (protobuf's int32 and int64)."""
    return value - (1 << 64) if value >> 63 else value


def fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """All fields of a message in order, as (tag, payload); the tag tells the payload's type."""
    found: list[tuple[int, int | bytes]] = []
    add = found.append
    at, end = 0, len(data)
    try:
        while at < end:
            tag = data[at]
            at += 1
            if tag > 0x7F:
                tag, at = varint(data, at - 1)
            kind = tag & 7
            if kind == VARINT:
                value = data[at]
                at += 1
                if value > 0x7F:
                    value, at = varint(data, at - 1)
                add((tag, value))
                continue
            if kind == BYTES:
                size = data[at]
                at += 1
                if size > 0x7F:
                    size, at = varint(data, at - 1)
                start, at = at, at + size
                add((tag, data[start:at]))
            elif kind in (FIXED32, FIXED64):
                start, at = at, at + (4 if kind == FIXED32 else 8)
                add((tag, int.from_bytes(data[start:at], "little")))
            else:
                raise DamagedError(f"a protobuf field of unknown kind {kind}, at byte {at}")
    except IndexError:
        at = end + 1
    if at > end:
        raise DamagedError(f"a protobuf message of {end} bytes ends inside a field")
    return found


def text(payload: int | bytes) -> str:
    """The payload of a string field."""
    if isinstance(payload, int):
        raise DamagedError("expected text in a protobuf field, found a number")
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise DamagedError(f"a name is not UTF-8: {payload[:80]!r}") from None


def put_varint(value: int) -> bytes:
    if value < 0x80:
        return _SMALL[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def put_signed(value: int) -> bytes:
    """An int64 as protobuf writes it: ten bytes when negative."""
    return put_varint(value & _MASK)


def put_bytes(number: int, payload: bytes) -> bytes:
    """A field of bytes, text or a message."""
    size = len(payload)
    if size < 0x80 and number < 0x10:
        return _SMALL[number << 3 | BYTES] + _SMALL[size] + payload
    return put_varint(number << 3 | BYTES) + put_varint(size) + payload


_SMALL = tuple(bytes((value,)) for value in range(0x80))
