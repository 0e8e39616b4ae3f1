"""Sorted tables of keys and values, as leveldb lays them out; read whole, every byte accounted for.

    table  = { data block } metaindex-block index-block footer
    block  = { entry } { fixed32 restart offset } fixed32(restarts)  kind  fixed32(masked crc32c)
                                               kind 0: as it is, 1: snappy; the crc covers it, too
    entry  = varint(shared) varint(more) varint(value size)  more bytes of the key, value
             a key is the first `shared` bytes of the one before, and `more` of its own
    footer = handle of the metaindex, handle of the index, zeros up to 40 bytes, magic (8 bytes)
    handle = varint64(offset) varint64(size without kind and crc)

The index has one entry a data block, whose value is a handle. Blocks follow each other without
gaps, so that each byte of the file is under a checksum or has one possible value.

Source: github.com/google/leveldb, doc/table_format.md; tensorflow/core/lib/io/table.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from portackpt.bytesource import File
from portackpt.errors import DamagedError, RefusedError, located
from portackpt_tensorflow.checksum import extend, mask
from portackpt_tensorflow.snappy import decompress
from portackpt_tensorflow.wire import put_varint, varint

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER = 48
TRAILER = 5
_BLOCK_LIMIT = 64 << 20
_KEY_FACTOR = 64
"""Keys may take this many times the bytes of the file once their shared parts are spelled out."""

Item = tuple[bytes, bytes]


class Handle(NamedTuple):
    """Where the contents of a block lie; five bytes of trailer follow them."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size + TRAILER


def read_items(file: File) -> Iterator[list[Item]]:
    """The (key, value) pairs of a table in order, one list a block, all verified."""
    handles, _ = read_index(file)
    budget = _KEY_FACTOR * file.size + (1 << 20)
    last: bytes | None = None
    for handle in handles:
        with located(f"{file.path}, block at {handle.offset}"):
            items = parse_block(read_block(file, handle), budget, last)
        if items:
            last = items[-1][0]
            budget -= sum(len(key) for key, _ in items)
            yield items


def read_index(file: File) -> tuple[list[Handle], list[bytes]]:
    """The data blocks of a table, and for each the key that its last key does not exceed."""
    with located(str(file.path)):
        metaindex, index = _read_footer(file)
        read_block(file, metaindex)
        items = parse_block(read_block(file, index), _KEY_FACTOR * file.size)
        handles = [_parse_handle(value, 0)[0] for _, value in items]
        _check_tiling([*handles, metaindex, index], file.size - FOOTER)
    return handles, [key for key, _ in items]


def _read_footer(file: File) -> tuple[Handle, Handle]:
    if file.size < FOOTER:
        raise DamagedError(f"a table of {file.size} bytes is too short for its footer")
    footer = file.read(file.size - FOOTER, FOOTER)
    if footer[-8:] != MAGIC:
        raise DamagedError(
            f"expected the table's magic number {MAGIC.hex()} at the end, found "
            f"{footer[-8:].hex()}; the file is cut short, extended, or no table"
        )
    metaindex, at = _parse_handle(footer, 0)
    index, at = _parse_handle(footer, at)
    spelled = b"".join(map(put_varint, (*metaindex, *index)))
    if footer != spelled.ljust(FOOTER - 8, b"\0") + MAGIC:
        raise DamagedError("the table's footer holds more than its two handles")
    return metaindex, index


def _parse_handle(data: bytes, at: int) -> tuple[Handle, int]:
    try:
        offset, at = varint(data, at)
        size, at = varint(data, at)
    except IndexError:
        raise DamagedError("a block handle ends early") from None
    return Handle(offset, size), at


def _check_tiling(handles: list[Handle], end: int) -> None:
    position = 0
    for handle in handles:
        if handle.offset != position:
            raise DamagedError(f"expected a block at {position}, found one at {handle.offset}")
        position = handle.end
        if position > end:
            raise DamagedError(f"a block ends at {position}, beyond the {end} bytes for blocks")
    if position != end:
        raise DamagedError(f"{end - position} bytes of the table belong to no block")


def read_block(file: File, handle: Handle) -> bytes:
    """The contents of a block, checked and decompressed."""
    if handle.size > _BLOCK_LIMIT:
        raise RefusedError(f"a block of {handle.size} bytes; the limit is {_BLOCK_LIMIT}")
    data = file.read(handle.offset, handle.size + TRAILER)
    found = mask(extend(memoryview(data)[:-4], 0))
    expected = int.from_bytes(data[-4:], "little")
    if found != expected:
        raise DamagedError(
            f"checksum of the block at {handle.offset} does not match: "
            f"expected {expected:08x}, found {found:08x}"
        )
    kind, contents = data[handle.size], data[: handle.size]
    if kind == 0:
        return contents
    if kind == 1:
        return decompress(contents, _BLOCK_LIMIT)
    raise DamagedError(f"a block of unknown compression {kind}")


def parse_block(block: bytes, budget: int, last: bytes | None = None) -> list[Item]:
    """The (key, value) pairs of a block; keys ascend, from after `last`."""
    end = len(block) - 4
    end -= 4 * int.from_bytes(block[-4:], "little")
    if len(block) < 4 or end < 0:
        raise DamagedError(f"a block of {len(block)} bytes is too short for its restarts")
    items: list[Item] = []
    key = last
    before = b""
    at = 0
    while at < end:
        shared, more, size, at = _parse_lengths(block, at)
        middle = at + more
        stop = middle + size
        if stop > end or shared > len(before):
            raise DamagedError(f"an entry of {shared}, {more} and {size} bytes exceeds its block")
        before = before[:shared] + block[at:middle]
        if key is not None and before <= key:
            raise DamagedError(f"keys do not ascend: {before[:80]!r} after {key[:80]!r}")
        key = before
        budget -= len(key)
        if budget < 0:
            raise RefusedError("the table's keys are far longer than the table itself")
        items.append((key, block[middle:stop]))
        at = stop
    return items


def _parse_lengths(block: bytes, at: int) -> tuple[int, int, int, int]:
    """The three lengths before an entry, and where its key starts."""
    try:
        shared, more, size = block[at], block[at + 1], block[at + 2]
        if (shared | more | size) < 0x80:
            return shared, more, size, at + 3
        shared, at = varint(block, at)
        more, at = varint(block, at)
        size, at = varint(block, at)
    except IndexError:
        raise DamagedError("an entry ends early") from None
    return shared, more, size, at
