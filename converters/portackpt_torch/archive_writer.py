"""Zip archives as torch writes them: stored records that start at multiples of 64 bytes.

Byte for byte the layout of torch 2.13 (`archive` documents it): the CRC-32 and the sizes of a
record stand behind it, so that it is written in one pass, and the padding is an extra field of its
local header, so that a storage can be mapped into memory.
"""

from __future__ import annotations

from struct import Struct, pack
from typing import Protocol

from portackpt_torch.archive import crc32
from portackpt_torch.archive_directory import (
    DESCRIPTOR,
    END,
    END64,
    ENTRY,
    LOCAL,
    LOCATOR,
    STORED,
    UTF8,
    WIDE,
)

ALIGNMENT = 64
_FLAGS = UTF8 | DESCRIPTOR
_PADDING = [b"FB" + pack("<H", count) + b"Z" * count for count in range(ALIGNMENT)]
_NARROW = Struct("<4sLLL").pack
_BROAD = Struct("<4sLQQ").pack
_VERSION64 = 45
_MADE_BY64 = 0x031E
"""As miniz says of itself: Unix, version 3.0."""


class Sink(Protocol):
    """What an archive is appended to."""

    @property
    def position(self) -> int: ...

    def write(self, data: bytes | memoryview) -> int: ...


class ArchiveWriter:
    """An archive that is appended to a file; its offsets count from where the file stood.

    A record is `begin(name, size)`, `write` until all of `size` bytes are there, `end`.
    """

    def __init__(self, file: Sink) -> None:
        self._file = file
        self._base = file.position
        self._update = crc32()
        self._entries: list[bytes] = []
        self._name = b""
        self._size = self._header = self._crc = 0
        self._names = self._sums = 0

    def add(self, name: str, data: bytes) -> None:
        """A record whose bytes are at hand."""
        self.begin(name, len(data))
        self.write(data)
        self.end()

    def begin(self, name: str, size: int) -> None:
        self._name, self._size, self._crc = name.encode(), size, 0
        self._header = position = self._file.position - self._base
        wide = self._zip64()
        start = position + LOCAL.size + len(self._name) + len(wide) + 4
        padding = -start % ALIGNMENT
        flags = _FLAGS if size else UTF8
        head = LOCAL.pack(
            b"PK\x03\x04", 0, flags, STORED, 0, 0, 0, 0, 0, len(self._name), len(wide) + 4 + padding
        )
        self._file.write(head + self._name + wide + _PADDING[padding])

    def write(self, data: bytes | memoryview) -> None:
        self._crc = self._update(data, self._crc)
        self._file.write(data)

    def end(self) -> None:
        size, header, wide = self._size, self._header, self._zip64()
        if size:
            form = _BROAD if wide else _NARROW
            self._file.write(form(b"PK\x07\x08", self._crc, size, size))
        narrow = min(size, WIDE)
        self._entries.append(
            ENTRY.pack(
                b"PK\x01\x02", 0, 0, _FLAGS if size else UTF8, STORED, 0, 0, self._crc, narrow,
                narrow, len(self._name), len(wide), 0, 0, 0, 0, min(header, WIDE),
            ) + self._name + wide
        )  # fmt: skip
        self._names = self._update(self._name, self._names)
        self._sums = self._update(self._crc.to_bytes(4, "little"), self._sums)

    def fingerprint(self) -> bytes:
        """40 digits that depend on the names and bytes of the records so far."""
        return f"{self._names:020}{self._sums:020}".encode()

    def _zip64(self) -> bytes:
        """The zip64 field of the record, where one of its numbers needs it."""
        size, header = self._size, self._header
        if size < WIDE and header < WIDE:
            return b""
        values = [size, size] if size >= WIDE else []
        if header >= WIDE:
            values.append(header)
        return pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values)

    def finish(self) -> None:
        """The directory and the end."""
        start = self._file.position - self._base
        size = 0
        for entry in self._entries:
            size += self._file.write(entry)
        count = len(self._entries)
        self._file.write(
            END64.pack(
                b"PK\x06\x06", END64.size - 12, _MADE_BY64, _VERSION64, 0, 0, count, count, size,
                start,
            )
        )  # fmt: skip
        self._file.write(LOCATOR.pack(b"PK\x06\x07", 0, start + size, 1))
        few = min(count, 0xFFFF)
        self._file.write(
            END.pack(b"PK\x05\x06", 0, 0, few, few, min(size, WIDE), min(start, WIDE), 0)
        )
