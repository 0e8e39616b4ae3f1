"""tar archives, read front to back (POSIX.1-1988 ustar, GNU long names, pax names and sizes).

    header of 512 bytes | data, padded to 512 | header | … | two blocks of zeros

    0    100  name             124  12  size, octal          257  6  "ustar"
    100  24   mode, owner      148  8   checksum             345  155  prefix of the name
                               156  1   kind: 0 file, 5 folder, L long name, x pax

Links, devices and sparse files are refused: a checkpoint has none, and they are how archives write
elsewhere than they say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from portackpt.errors import DamagedError, RefusedError

BLOCK = 512
Read = Callable[[int], bytes]
"""The next bytes of the archive, fewer at its end only."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of `size` bytes, which the stream gives next."""

    name: str
    size: int


def is_tar(head: bytes) -> bool:
    return len(head) >= BLOCK and head[257:262] == b"ustar" and _checksum_fits(head[:BLOCK])


def members(read: Read) -> Iterator[Member]:
    """The files of an archive. The caller takes exactly `size` bytes of each, then goes on."""
    long_name: str | None = None
    told: dict[str, str] = {}
    while True:
        header = read(BLOCK)
        if not header.strip(b"\0"):
            return  # zeros, or the end of a file that has none
        kind = _check(header)
        size = _number(header[124:136])
        if kind in (b"L", b"x", b"g"):
            data = _data(read, size)
            if kind == b"L":
                long_name = _text(data.rstrip(b"\0"))
            elif kind == b"x":
                told = _pax(data)
            continue
        name = told.get("path") or long_name or _name(header)
        size = _pax_size(told, size)
        long_name, told = None, {}
        if kind == b"5":
            continue
        if kind not in (b"0", b"\0", b"7"):
            raise RefusedError(f"{name!r} is a link, a device or a sparse file (kind {kind!r}), "
                               "which no checkpoint holds")  # fmt: skip
        yield Member(name, size)
        if len(padding := read(-size % BLOCK)) < -size % BLOCK:
            raise DamagedError(f"the archive ends {-size % BLOCK - len(padding)} bytes early, "
                               f"after {name!r}")  # fmt: skip


def _check(header: bytes) -> bytes:
    if len(header) < BLOCK or not _checksum_fits(header):
        raise DamagedError("expected a header of a tar archive; its checksum does not fit, "
                           "or the archive was cut short")  # fmt: skip
    return header[156:157]


def _checksum_fits(header: bytes) -> bool:
    try:
        expected = _number(header[148:156])
    except DamagedError:
        return False
    blank = header[:148] + b" " * 8 + header[156:]
    return expected == sum(blank)


def _number(field: bytes) -> int:
    """Octal digits; base 256 where the first bit is set."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise DamagedError(f"expected octal digits, found {field!r}")
    return int(digits or b"0", 8)


def _name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RefusedError(f"a name that is not UTF-8: {data[:200]!r}") from None


def _data(read: Read, size: int) -> bytes:
    if size > 1 << 20:
        raise RefusedError(f"a header of {size} bytes")
    data = read(size + -size % BLOCK)
    if len(data) < size:
        raise DamagedError("the archive ends within a header")
    return data[:size]


def _pax(data: bytes) -> dict[str, str]:
    """Records `LENGTH KEY=VALUE\\n`."""
    found: dict[str, str] = {}
    while data:
        digits, _, _ = data.partition(b" ")
        if not digits.isdigit() or len(digits) > 7 or not 0 < int(digits) <= len(data):
            raise DamagedError(f"expected a pax record, found {data[:40]!r}")
        record = data[len(digits) + 1 : int(digits) - 1]
        key, _, value = record.partition(b"=")
        found[_text(key)] = _text(value)
        data = data[int(digits) :]
    if any(key.startswith("GNU.sparse") for key in found):
        raise RefusedError("a sparse file, which no checkpoint holds")
    return found


def _pax_size(told: dict[str, str], size: int) -> int:
    stated = told.get("size", "")
    if stated and not (stated.isascii() and stated.isdigit() and len(stated) < 20):
        raise DamagedError(f"expected a size, found {stated[:40]!r}")
    return int(stated) if stated else size
