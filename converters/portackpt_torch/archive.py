"""Zip archives as torch writes them, read strictly and lazily (PKWARE APPNOTE 6.3.10).

    local header | padding | bytes of a record | descriptor | …   PK 03 04, FB…, PK 07 08
    central directory                                             PK 01 02 …
    zip64 end | zip64 locator | end                               PK 06 06, PK 06 07, PK 05 06

Only the central directory says what is in the archive. The local header of a record is read when
the record is, and has to agree. What readers disagree about is refused: two records of one name,
records that overlap, encryption, a directory that does not stand right before its end.
A CRC-32 of 0 means that the writer computed none (`torch.serialization.set_crc32_options`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from struct import unpack_from

from portackpt.bytesource import ByteSource, Checked, Sequential
from portackpt.errors import DamagedError, InputError, RefusedError
from portackpt_torch.archive_directory import (
    DEFLATED,
    DESCRIPTOR,
    ENCRYPTED,
    LOCAL,
    UTF8,
    WIDE,
    Record,
    read_at,
    read_directory,
)

_HEAD = 256
"""Bytes read at once for a local header; torch's end within them."""


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """An archive whose directory was read; `trailing` bytes follow its end."""

    source: ByteSource
    where: str
    records: dict[str, Record]
    trailing: int

    def open(self, name: str) -> ByteSource:
        """The bytes of a record, checked as they are read (unless the writer computed no CRC)."""
        record = self.records[name]
        source: ByteSource = _Stored(self, record)
        if record.method == DEFLATED:
            source = Sequential(record.size, lambda: _inflate(self, record))
        if record.crc == 0:
            return source
        return Checked(source, crc32(), record.crc, f"record {name!r}, in {self.where}")

    def read(self, name: str, limit: int) -> bytes:
        """All bytes of a record, refused where there are more than `limit`."""
        size = self.records[name].size
        if size > limit:
            raise RefusedError(
                f"a record of {size} bytes, where at most {limit} are read at once",
                f"record {name!r}", self.where,
            )  # fmt: skip
        data = bytearray(size)
        self.open(name).readinto(0, memoryview(data))
        return bytes(data)


def open_archive(source: ByteSource, where: str) -> Archive:
    """The archive that is all of `source`; `where` names it in errors."""
    try:
        records, trailing = read_directory(source)
    except InputError as error:
        error.places = (*error.places, where)
        raise
    return Archive(source, where, records, trailing)


@cache
def crc32() -> Callable[[bytes | memoryview, int], int]:
    """The running CRC-32, as `Checked` wants it."""
    from isal.isal_zlib import crc32 as update

    function: Callable[[bytes | memoryview, int], int] = update
    return function


class _Stored:
    """The bytes of a record as they stand in the archive; found when first asked for."""

    __slots__ = ("_archive", "_record", "_start")

    def __init__(self, archive: Archive, record: Record) -> None:
        self._archive = archive
        self._record = record
        self._start = -1

    @property
    def nbytes(self) -> int:
        return self._record.packed

    def readinto(self, offset: int, out: memoryview) -> None:
        if self._start < 0:
            self._start = _locate(self._archive, self._record)
        self._archive.source.readinto(self._start + offset, out)

    def verify(self) -> None:
        pass


def _locate(archive: Archive, record: Record) -> int:
    """Where the bytes of a record start; its local header must say what the directory says."""
    source = archive.source
    head = read_at(source, record.header, min(_HEAD, record.limit - record.header))
    magic, _, flags, method, _, _, crc, packed, size, named, extra = LOCAL.unpack_from(head)
    start: int = record.header + LOCAL.size + named + extra
    name = head[LOCAL.size : LOCAL.size + named]
    if len(name) < named:
        name = read_at(source, record.header + LOCAL.size, named)
    deferred = bool(flags & DESCRIPTOR) and not crc and packed in (0, WIDE) and size in (0, WIDE)
    same = (
        magic == b"PK\x03\x04"
        and method == record.method
        and not flags & ENCRYPTED
        and name == _raw_name(record.name, flags)
        and start + record.packed <= record.limit
    )
    if same and not deferred:
        same = crc == record.crc and packed in (record.packed, WIDE) and size in (record.size, WIDE)
    elif same and record.packed:
        same = _described(source, record, start + record.packed)
    if not same:
        raise RefusedError(
            f"its header at byte {record.header} disagrees with the directory",
            f"record {record.name!r}", archive.where,
        )  # fmt: skip
    return start


def _raw_name(name: str, flags: int) -> bytes:
    return name.encode("utf-8" if flags & UTF8 else "cp437", "replace")


def _described(source: ByteSource, record: Record, at: int) -> bool:
    """Whether the descriptor behind a record repeats what the directory says."""
    data = read_at(source, at, min(24, record.limit - at)).removeprefix(b"PK\x07\x08")
    narrow = (record.crc, record.packed, record.size)
    return (len(data) >= 20 and unpack_from("<LQQ", data) == narrow) or (
        len(data) >= 12 and unpack_from("<LLL", data) == narrow
    )


def _inflate(archive: Archive, record: Record) -> Callable[[memoryview], None]:
    """A function that fills a buffer with the next bytes of a deflated record."""
    from zlib import decompressobj, error

    stream = decompressobj(-15)
    packed = _Stored(archive, record)
    position = produced = 0
    rest = b""

    def take(out: memoryview) -> None:
        nonlocal position, produced, rest
        done = 0
        while done < out.nbytes:
            if not rest and position < record.packed:
                chunk = bytearray(min(1 << 16, record.packed - position))
                packed.readinto(position, memoryview(chunk))
                position += len(chunk)
                rest = bytes(chunk)
            try:
                data = stream.decompress(rest, min(1 << 18, out.nbytes - done))
            except error as cause:
                raise _damaged(archive, record, str(cause)) from None
            rest = stream.unconsumed_tail
            if not data and (stream.eof or (not rest and position == record.packed)):
                raise _damaged(archive, record, f"it holds fewer than {record.size} bytes")
            out[done : done + len(data)] = data
            done += len(data)
        produced += done
        if produced == record.size and not stream.eof and stream.decompress(rest, 1):
            raise _damaged(archive, record, f"it holds more than {record.size} bytes")

    return take


def _damaged(archive: Archive, record: Record, reason: str) -> DamagedError:
    return DamagedError(
        f"the record cannot be inflated: {reason}", f"record {record.name!r}", archive.where
    )
