"""The directory of a zip archive: where it is, and what it says of each record.

It is read in one pass and nothing else is, so that an archive of 100,000 records opens at once.
"""

from __future__ import annotations

from itertools import pairwise
from struct import Struct, unpack_from
from typing import NamedTuple

from portackpt.bytesource import ByteSource
from portackpt.errors import DamagedError, InputError, RefusedError, UnsupportedError

STORED, DEFLATED = 0, 8
ENCRYPTED = 0x1 | 0x40 | 0x2000
DESCRIPTOR = 0x8
UTF8 = 0x800
END = Struct("<4s4H2LH")
END64 = Struct("<4sQ2H2L4Q")
LOCATOR = Struct("<4sLQL")
ENTRY = Struct("<4s6H3L5H2L")
LOCAL = Struct("<4s5H3L2H")
WIDE = 0xFFFFFFFF
"""A 32-bit field that says `see the zip64 field`."""
_EXPANSION = 1032
"""Deflate makes at most this many bytes of one."""


class Record(NamedTuple):
    """One file of the archive: its local header is at `header`, all of it ends before `limit`."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    header: int
    limit: int


def read_directory(source: ByteSource) -> tuple[dict[str, Record], int]:
    """The records by name, and how many bytes follow the end of the archive."""
    count, size, start, trailing = _find_directory(source)
    if size < count * ENTRY.size:
        raise DamagedError(f"{count} records cannot stand in a directory of {size} bytes")
    entries = _entries(read_at(source, start, size), count)
    return _records(entries, start), trailing


def read_at(source: ByteSource, offset: int, count: int) -> bytes:
    """`count` bytes at `offset`, which are known to be there before any are allocated."""
    if offset < 0 or count < 0 or offset + count > source.nbytes:
        raise DamagedError(
            f"the zip archive is cut short or damaged: bytes {offset} to {offset + count} "
            f"are needed, it has {source.nbytes}"
        )
    data = bytearray(count)
    source.readinto(offset, memoryview(data))
    return bytes(data)


def _find_directory(source: ByteSource) -> tuple[int, int, int, int]:
    """(records, bytes, offset) of the directory, and how many bytes follow the archive.

    An end counts only where the directory stands right before it: bytes of a tensor may look like
    one. Two ends that count make two archives of one file, which is refused.
    """
    first = max(0, source.nbytes - END.size - 0xFFFF)
    tail = read_at(source, first, source.nbytes - first)
    found: list[tuple[int, int, int, int]] = []
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if at + END.size <= len(tail):
            directory = _directory(source, tail, at, first)
            comment = int.from_bytes(tail[at + 20 : at + 22], "little")
            trailing = len(tail) - at - END.size - comment
            if directory is not None and trailing >= 0:
                found.append((*directory, trailing))
                if trailing == 0:
                    break
        at = tail.rfind(b"PK\x05\x06", 0, at)
    if not found:
        raise DamagedError("the zip archive has no end that fits it: it is cut short or damaged")
    if len(found) > 1:
        raise RefusedError("the file is several zip archives at once; readers disagree which")
    return found[0]


def _directory(source: ByteSource, tail: bytes, at: int, first: int) -> tuple[int, int, int] | None:
    """What the end at `tail[at:]` says of the directory; None where it does not fit."""
    _, disk, start_disk, here, count, size, start, _ = END.unpack_from(tail, at)
    if disk or start_disk or here != count:
        return None
    position = first + at
    locator = tail[max(0, at - LOCATOR.size) : at]
    if not locator.startswith(b"PK\x06\x07"):
        return (count, size, start) if start + size == position else None
    _, disk, at64, disks = LOCATOR.unpack(locator)
    if disk or disks > 1 or at64 + END64.size > position:
        return None
    magic, rest, _, _, disk, start_disk, here64, count64, size64, start64 = END64.unpack(
        read_at(source, at64, END64.size)
    )
    agrees = all(
        narrow in (wide, mask)
        for narrow, wide, mask in (
            (count, count64, 0xFFFF), (size, size64, WIDE), (start, start64, WIDE)
        )
    )  # fmt: skip
    if (
        magic != b"PK\x06\x06"
        or disk
        or start_disk
        or here64 != count64
        or start64 + size64 != at64
        or at64 + 12 + rest != position - LOCATOR.size
        or not agrees
    ):
        return None
    return count64, size64, start64


_Entry = tuple[str, int, int, int, int, int]


def _entries(directory: bytes, count: int) -> list[_Entry]:
    """(name, method, crc, packed, size, header) of every record, in the directory's order."""
    found: list[_Entry] = []
    at, stop = 0, len(directory)
    unpack, width = ENTRY.unpack_from, ENTRY.size
    for _ in range(count):
        if at + width > stop:
            raise DamagedError(f"the directory ends after {len(found)} of {count} records")
        (
            magic, _, _, flags, method, _, _, crc, packed, size, named, extra, comment, disk, _, _,
            header,
        ) = unpack(directory, at)  # fmt: skip
        name_at = at + width
        at = name_at + named + extra + comment
        if magic != b"PK\x01\x02" or at > stop or disk:
            raise DamagedError(f"entry {len(found)} of the directory is damaged")
        name = _name(directory[name_at : name_at + named], flags)
        if WIDE in (packed, size, header):
            size, packed, header = _widen(
                directory[name_at + named : name_at + named + extra], size, packed, header
            )
        if flags & ENCRYPTED or method not in (STORED, DEFLATED):
            raise _unreadable(name, flags, method)
        if packed != size and (method == STORED or size > packed * _EXPANSION):
            raise RefusedError(f"{packed} bytes claim to be {size}", f"record {name!r}")
        found.append((name, method, crc, packed, size, header))
    if at != stop:
        raise DamagedError(f"{stop - at} bytes of the directory belong to no record")
    return found


def _unreadable(name: str, flags: int, method: int) -> InputError:
    if flags & ENCRYPTED:
        return UnsupportedError("the record is encrypted", f"record {name!r}")
    return UnsupportedError(
        f"compression method {method}; known are 0 (stored) and 8 (deflate)", f"record {name!r}"
    )


def _name(raw: bytes, flags: int) -> str:
    try:
        name = raw.decode("utf-8" if flags & UTF8 else "cp437")
    except UnicodeDecodeError:
        raise DamagedError(f"a record's name is not UTF-8: {raw[:80]!r}") from None
    if not name or "\0" in name:
        raise RefusedError(f"no name for a record: {name!r}")
    return name


def _widen(extra: bytes, *values: int) -> list[int]:
    """`values`, those that say so taken from the zip64 field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = unpack_from("<HH", extra, at)
        field = extra[at + 4 : at + 4 + length]
        if kind == 1 and len(field) >= 8 * values.count(WIDE):
            wide = iter(unpack_from(f"<{len(field) // 8}Q", field))
            return [next(wide) if value == WIDE else value for value in values]
        at += 4 + length
    raise DamagedError("a large record has no zip64 field")


def _records(entries: list[_Entry], directory: int) -> dict[str, Record]:
    """The records by name, each bounded by the header of the one behind it."""
    if len({entry[0].casefold() for entry in entries}) < len(entries):
        raise _twice(entries)
    headers = sorted([entry[5] for entry in entries])
    limits = dict(pairwise([*headers, directory]))
    records: dict[str, Record] = {}
    for entry in entries:
        name, _, _, packed, _, header = entry
        limit = limits[header]
        if header + LOCAL.size + len(name) + packed > limit:
            raise RefusedError("the record overlaps what is behind it", f"record {name!r}")
        records[name] = Record(*entry, limit)
    return records


def _twice(entries: list[_Entry]) -> RefusedError:
    met: set[str] = set()
    for name, *_ in entries:
        if name.casefold() in met:
            break
        met.add(name.casefold())
    return RefusedError(f"two records are called {name!r}; readers disagree which is meant")
