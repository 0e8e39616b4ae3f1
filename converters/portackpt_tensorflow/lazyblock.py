"""Blocks of a table that may be as large as a tensor: listed by their headers, verified on use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from portackpt.bytesource import ByteSource, Checked, File, FileRange, InMemory
from portackpt.errors import DamagedError, RefusedError
from portackpt_tensorflow.checksum import extend, unmask
from portackpt_tensorflow.table import Handle, read_block
from portackpt_tensorflow.wire import BYTES, VARINT, varint

_HEADER = 32  # more than three varints of a block entry, or a protobuf tag with its length
_LONGEST_KEY = 1 << 16
_MOST_FIELDS = 64


class Block:
    """The contents of one block. `raw` reads them as they are, `verify` checks them once."""

    __slots__ = ("_checked", "raw", "size", "where")

    def __init__(self, file: File, handle: Handle) -> None:
        self.where = f"{file.path}, block at {handle.offset}"
        kind, crc = file.read(handle.offset + handle.size, 1), file.read(handle.end - 4, 4)
        self.raw: ByteSource
        self._checked: ByteSource
        if kind == b"\0":
            # the checksum is over the byte of the kind, too
            whole = FileRange(file, handle.offset, handle.size + 1)
            expected = unmask(int.from_bytes(crc, "little"))
            self.raw, self._checked = whole, Checked(whole, extend, expected, self.where)
            self.size = handle.size
        else:
            self.raw = self._checked = InMemory(read_block(file, handle))
            self.size = self.raw.nbytes

    def verify(self) -> None:
        self._checked.verify()

    def read(self, start: int, stop: int) -> bytes:
        if not 0 <= start <= stop <= self.size:
            raise DamagedError(f"bytes {start} to {stop} of a block of {self.size}", self.where)
        data = bytearray(stop - start)
        self.raw.readinto(start, memoryview(data))
        return bytes(data)

    def head(self, at: int, stop: int) -> bytes:
        """The first bytes from `at`, enough for any lengths that stand there."""
        return self.read(at, min(at + _HEADER, stop))


class Place(NamedTuple):
    """A value in a block: `start` to `stop`."""

    block: Block
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    def read(self) -> bytes:
        return self.block.read(self.start, self.stop)


def scan(block: Block) -> Iterator[tuple[bytes, Place]]:
    """Every key of a block, and where its value lies. Nothing is verified yet."""
    end = block.size - 4
    end -= 4 * int.from_bytes(block.read(max(end, 0), block.size), "little")
    if end < 0:
        raise DamagedError("too short for its restarts", block.where)
    key = b""
    at = 0
    while at < end:
        head = block.head(at, end)
        try:
            shared, used = varint(head, 0)
            more, used = varint(head, used)
            size, used = varint(head, used)
        except IndexError:
            raise DamagedError("an entry ends early", block.where) from None
        start = at + used + more
        at, begin = start + size, at + used
        if at > end or shared > len(key):
            raise DamagedError("an entry exceeds its block", block.where)
        if shared + more > _LONGEST_KEY:
            raise RefusedError(f"a key of {shared + more} bytes", block.where)
        key = key[:shared] + block.read(begin, start)
        yield key, Place(block, start, at)


def members(place: Place) -> Iterator[tuple[int, Place]]:
    """The fields of a message, as (tag, payload); what is not bytes is passed over."""
    block, at, stop = place
    for _ in range(_MOST_FIELDS + 1):
        if at >= stop:
            return
        head = block.head(at, stop)
        try:
            tag, used = varint(head, 0)
            size, used = varint(head, used)
        except IndexError:
            raise DamagedError("a message ends inside a field", block.where) from None
        at += used
        if tag & 7 == VARINT:
            continue
        if tag & 7 != BYTES or size > stop - at:
            raise DamagedError("a message of another form", block.where)
        yield tag, Place(block, at, at + size)
        at += size
    raise RefusedError(f"a message of more than {_MOST_FIELDS} fields", block.where)
