"""Zip archives, read strictly and spelled deterministically (PKWARE APPNOTE 6.3.10).

    local header | bytes of a member | … | central directory | end of central directory
    PK 03 04                               PK 01 02 …          PK 05 06

The central directory says what is in the archive; a local header that says otherwise, two members
of one name, members that overlap, or a cut archive are errors, since readers disagree about such
files. Members are stored or deflated; their CRC-32 is checked when they are read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from portackpt.bytesource import ByteSource, Checked, File, FileRange, Sequential
from portackpt.errors import DamagedError, RefusedError, UnsupportedError

STORED = 0
DEFLATED = 8
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_DESCRIPTOR = 0x8
_UTF8 = 0x800
_LIMIT = 0xFFFFFFFF
_MOST = 1100
"""Deflate expands a byte to 1032 at most; what claims more is lying."""

_HEAD = 256
"""Bytes read at once for a local header, its name and extra field, which are seldom more."""

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive: `packed` bytes at `start`, `size` bytes when read."""

    name: str
    method: int
    crc: int
    size: int
    packed: int
    start: int


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """An archive whose directory was read and checked."""

    file: File
    members: Mapping[str, Member]

    def source(self, name: str) -> ByteSource:
        """The bytes of a member; its CRC-32 is checked before the last of them is given out."""
        member = self.members[name]
        where = f"member {name!r} of {self.file.path}"
        packed: ByteSource = FileRange(self.file, member.start, member.packed)
        if member.method == DEFLATED:
            packed = Sequential(member.size, lambda: _inflater(self.file, member, where))
        return Checked(packed, _crc32(), member.crc, where)

    def read(self, name: str, limit: int) -> bytes:
        """All bytes of a member, which is refused where it has more than `limit`."""
        size = self.members[name].size
        if size > limit:
            raise RefusedError(
                f"member {name!r} has {size} bytes, at most {limit} are read at once",
                str(self.file.path),
            )
        data = bytearray(size)
        source = self.source(name)
        source.verify()
        source.readinto(0, memoryview(data))
        return bytes(data)


def open_archive(path: Path) -> Archive:
    """The archive at `path`. Raises `DamagedError`, `RefusedError`, `UnsupportedError`."""
    file = File(path)
    count, size, start = _end(file)
    if size < count * _ENTRY.size:
        raise _damaged(
            file, f"{count} members need a directory of {count * _ENTRY.size} bytes", size
        )
    entries = _entries(file, file.read(start, size), count)
    members: dict[str, Member] = {}
    names: set[str] = set()
    position = 0
    for name, flags, method, crc, size, packed, offset in sorted(entries, key=lambda e: e[-1]):
        if name in names:
            raise RefusedError(f"two members are called {name!r}; readers disagree which is meant",
                               str(path))  # fmt: skip
        names.add(name)
        if offset < position:
            raise RefusedError(f"member {name!r} overlaps the one before it", str(path))
        at = _data(file, name, flags, method, crc, size, packed, offset)
        position = at + packed
        if position > start:
            raise _damaged(file, f"member {name!r} ends before the directory at {start}", position)
        if not name.endswith("/"):
            members[name] = Member(name, method, crc, size, packed, at)
    ordered = {entry[0]: members[entry[0]] for entry in entries if entry[0] in members}
    return Archive(file, ordered)


def _damaged(file: File, expected: str, found: object) -> DamagedError:
    return DamagedError(f"not a sound zip archive: expected {expected}, found {found}",
                        str(file.path))  # fmt: skip


def _end(file: File) -> tuple[int, int, int]:
    """(members, bytes, offset) of the central directory."""
    tail = file.read(max(0, file.size - _END.size - 0xFFFF), min(file.size, _END.size + 0xFFFF))
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0 and len(tail) - at - _END.size != int.from_bytes(
        tail[at + 20 : at + 22], "little"
    ):
        at = tail.rfind(b"PK\x05\x06", 0, at)
    if at < 0:
        raise DamagedError("the zip archive has no end: the file was cut short", str(file.path))
    _, disk, first_disk, here, count, size, start, _ = _END.unpack_from(tail, at)
    position = file.size - len(tail) + at
    locator = tail[max(0, at - 20) : at]
    if locator.startswith(b"PK\x06\x07"):
        wide = _end64(file, int.from_bytes(locator[8:16], "little"))
        told = zip((count, size, start), (0xFFFF, _LIMIT, _LIMIT), wide, strict=True)
        if any(value not in (limit, real) for value, limit, real in told):
            raise _damaged(
                file, f"an end that agrees with its zip64 form {wide}", (count, size, start)
            )
        return wide
    if disk or first_disk or here != count or start + size != position:
        raise _damaged(file, f"a directory that ends at {position}", start + size)
    return count, size, start


def _end64(file: File, at: int) -> tuple[int, int, int]:
    magic, _, _, _, disk, first_disk, here, count, size, start = _END64.unpack(
        file.read(at, _END64.size)
    )
    if magic != b"PK\x06\x06" or disk or first_disk or here != count or start + size != at:
        raise _damaged(file, f"a zip64 directory that ends at {at}", start + size)
    return count, size, start


_Entry = tuple[str, int, int, int, int, int, int]


def _entries(file: File, directory: bytes, count: int) -> list[_Entry]:
    """(name, flags, method, crc, size, packed, offset) of every member."""
    found: list[_Entry] = []
    at = 0
    for _ in range(count):
        if directory[at : at + 4] != b"PK\x01\x02" or at + _ENTRY.size > len(directory):
            raise _damaged(file, f"{count} members in the directory", len(found))
        fields = _ENTRY.unpack_from(directory, at)
        _, _, _, flags, method, _, _, crc, packed, size, n, x, c, _, _, _, offset = fields
        stop = at + _ENTRY.size + n + x + c
        name = _name(file, directory[at + _ENTRY.size : at + _ENTRY.size + n], flags)
        extra = directory[at + _ENTRY.size + n : at + _ENTRY.size + n + x]
        if stop > len(directory):
            raise _damaged(file, f"an entry of {stop - at} bytes", len(directory) - at)
        if _LIMIT in (size, packed, offset):
            size, packed, offset = _large(file, extra, size, packed, offset)
        found.append((name, flags, method, crc, size, packed, offset))
        at = stop
    if at != len(directory):
        raise _damaged(file, f"a directory of {at} bytes", len(directory))
    return found


def _name(file: File, raw: bytes, flags: int) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError:
        raise _damaged(file, "a name in UTF-8", raw) from None
    if "\0" in name:
        raise RefusedError(f"the name {name!r} of a member ends early for some readers",
                           str(file.path))  # fmt: skip
    return name


def _large(file: File, extra: bytes, *values: int) -> list[int]:
    """`values` with those that say `see the zip64 field` taken from there."""
    fields: list[bytes] = []
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            fields.append(extra[at + 4 : at + 4 + length])
        at += 4 + length
    wanted = values.count(_LIMIT)
    if len(fields) != 1 or len(fields[0]) < 8 * wanted:
        raise _damaged(file, f"one zip64 field of {8 * wanted} bytes or more", fields)
    wide = iter(struct.unpack_from(f"<{wanted}Q", fields[0]))
    return [next(wide) if value == _LIMIT else value for value in values]


def _data(
    file: File, name: str, flags: int, method: int, crc: int, size: int, packed: int, offset: int
) -> int:
    """Where a member's bytes begin; its local header has to say what the directory says."""
    if flags & _ENCRYPTED:
        raise UnsupportedError(f"member {name!r} is encrypted", str(file.path))
    if method not in (STORED, DEFLATED):
        raise UnsupportedError(f"member {name!r} is compressed by method {method}; known are 0 "
                               "(stored) and 8 (deflate)", str(file.path))  # fmt: skip
    if size > _MOST * packed + 64 or (method == STORED and size != packed):
        raise RefusedError(f"member {name!r} claims {size} bytes from {packed}", str(file.path))
    head = file.read(offset, max(_LOCAL.size, min(_HEAD, file.size - offset)))
    fields = _LOCAL.unpack_from(head)
    magic, _, local_flags, local_method, _, _, local_crc, local_packed, local_size, n, x = fields
    start = _LOCAL.size + n + x
    if start > len(head):
        head = file.read(offset, start)
    local_name = _name(file, head[_LOCAL.size : _LOCAL.size + n], flags)
    told = not local_flags & _DESCRIPTOR
    if told and _LIMIT in (local_size, local_packed):
        extra = head[_LOCAL.size + n : start]
        local_size, local_packed = _large(file, extra, local_size, local_packed)
    if (
        magic != b"PK\x03\x04"
        or local_name != name
        or local_method != method
        or (local_flags ^ flags) & _ENCRYPTED
        or (told and (local_crc, local_size, local_packed) != (crc, size, packed))
    ):
        raise RefusedError(
            f"member {name!r}: its header at offset {offset} disagrees with the directory",
            str(file.path),
        )
    return int(offset + start)


def _crc32() -> Callable[[memoryview, int], int]:
    from isal.isal_zlib import crc32

    def update(data: memoryview, value: int) -> int:
        return int(crc32(data, value))

    return update


def _inflater(file: File, member: Member, where: str) -> Callable[[memoryview], None]:
    """A function that fills a buffer with the next bytes of a deflated member."""
    stream = zlib.decompressobj(-15)
    position = member.start
    stop = member.start + member.packed
    packed = b""

    def take(out: memoryview) -> None:
        nonlocal position, packed
        done = 0
        while done < out.nbytes:
            if not packed and position < stop:
                packed = file.read(position, min(1 << 16, stop - position))
                position += len(packed)
            try:
                data = stream.decompress(packed, min(1 << 18, out.nbytes - done))
            except zlib.error as error:
                raise DamagedError(f"cannot inflate: {error}", where) from None
            packed = stream.unconsumed_tail
            if not data and not packed and (position == stop or stream.eof):
                raise DamagedError(f"inflates to fewer than {member.size} bytes", where)
            out[done : done + len(data)] = data
            done += len(data)

    return take


# Writing: members are stored, so that readers find tensors at an offset.

_MADE_1980 = 0x21  # 1 January 1980, so that equal contents give equal archives


@dataclass(frozen=True, slots=True)
class Written:
    """One stored member of an archive that is being written; its local header is at `offset`.

    `wide` leaves room for a size beyond 4 GiB, whatever the size turns out to be.
    """

    name: str
    size: int
    offset: int
    crc: int = 0
    wide: bool = False


def local_header(member: Written) -> bytes:
    """What stands before the bytes of a member; as long for any CRC."""
    name = member.name.encode()
    wide = member.wide or member.size >= _LIMIT
    extra = struct.pack("<HHQQ", 1, 16, member.size, member.size) if wide else b""
    size = _LIMIT if wide else member.size
    version = 45 if wide else 20
    head = _LOCAL.pack(b"PK\x03\x04", version, _UTF8, STORED, 0, _MADE_1980, member.crc, size, size,
                       len(name), len(extra))  # fmt: skip
    return head + name + extra


def central_directory(members: Iterable[Written], start: int) -> bytes:
    """The end of an archive whose members end at `start`."""
    entries = bytearray()
    count = 0
    for member in members:
        name = member.name.encode()
        wide = [value for value in (member.size, member.size, member.offset) if value >= _LIMIT]
        extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        size, offset = min(member.size, _LIMIT), min(member.offset, _LIMIT)
        version = 45 if wide else 20
        entries += _ENTRY.pack(
            b"PK\x01\x02", 3 << 8 | version, version, _UTF8, STORED, 0, _MADE_1980, member.crc,
            size, size, len(name), len(extra), 0, 0, 0, 0o600 << 16, offset,
        )  # fmt: skip
        entries += name + extra
        count += 1
    size = len(entries)
    if count >= 0xFFFF or start >= _LIMIT or size >= _LIMIT:
        entries += _END64.pack(b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
        entries += struct.pack("<4sLQL", b"PK\x06\x07", 0, start + size, 1)
    entries += _END.pack(b"PK\x05\x06", 0, 0, min(count, 0xFFFF), min(count, 0xFFFF),
                         min(size, _LIMIT), min(start, _LIMIT), 0)  # fmt: skip
    return bytes(entries)
