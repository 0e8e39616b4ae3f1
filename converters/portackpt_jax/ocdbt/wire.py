"""The frame around manifests and nodes, and the numbers inside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portackpt.errors import DamagedError, RefusedError, UnsupportedError
from portackpt_jax.zstd import import_zstandard

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

    Bytes = np.ndarray[Any, np.dtype[np.uint8]]
    Places = np.ndarray[Any, np.dtype[np.intp]]

MANIFEST = 0x0CDB3A2A
NODE = 0x0CDB20DE
FRAME = 12 + 2 + 4
"""Bytes of a frame around an empty body."""
LARGEST_BODY = 128 << 20
"""Orbax asks for nodes of at most 100 MB."""
_NAMES = {MANIFEST: "manifest", NODE: "B+tree node"}


def crc32c(data: bytes) -> int:
    """CRC-32C, in pieces that stay in the cache."""
    from google_crc32c import extend

    value = 0
    for start in range(0, len(data), 1 << 20):
        value = extend(value, data[start : start + (1 << 20)])
    return int(value)


def frame(magic: int, body: bytes) -> bytes:
    """`body`, uncompressed, with its header and checksum."""
    length = FRAME + len(body)
    data = magic.to_bytes(4, "big") + length.to_bytes(8, "little") + b"\0\0" + body
    return data + crc32c(data).to_bytes(4, "little")


def unframe(magic: int, data: bytes, where: str) -> Cursor:
    """The body of a frame, checked and decompressed."""
    name = _NAMES[magic]
    if len(data) < FRAME:
        raise DamagedError(
            f"a {name} has {FRAME} bytes or more, found {len(data)}; the file is cut short", where
        )
    if data[:4] != magic.to_bytes(4, "big"):
        raise DamagedError(f"no {name}: expected {magic:08x}, found {data[:4].hex()}", where)
    length = int.from_bytes(data[4:12], "little")
    if length != len(data):
        raise DamagedError(f"the {name} says it has {length} bytes, found {len(data)}", where)
    expected, found = int.from_bytes(data[-4:], "little"), crc32c(data[:-4])
    if expected != found:
        raise DamagedError(
            f"checksum of the {name} does not match: expected {expected:08x}, found {found:08x}; "
            "the bytes were changed after they were written",
            where,
        )
    header = Cursor(data[:-4], where, 12)
    version, compression = header.varint(), header.varint()
    if version != 0:
        raise UnsupportedError(f"OCDBT version {version}; only version 0 is known", where)
    if compression == 0:
        return header
    if compression != 1:
        raise UnsupportedError(f"unknown compression {compression} of a {name}", where)
    return Cursor(_decompress(data[header.at : -4], name, where), where)


def _decompress(data: bytes, name: str, where: str) -> bytes:
    zstandard = import_zstandard()
    try:
        decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_BODY)
        with decompressor.stream_reader(data, read_across_frames=False) as reader:
            body: bytes = reader.read(LARGEST_BODY + 1)
    except (zstandard.ZstdError, MemoryError) as error:
        raise DamagedError(f"the {name} does not decompress: {error}", where) from error
    if len(body) > LARGEST_BODY:
        raise RefusedError(f"the {name} is over {LARGEST_BODY} bytes decompressed", where)
    return body


class Cursor:
    """Reads numbers from `data` front to back; running off the end is damage."""

    __slots__ = ("at", "data", "where")

    def __init__(self, data: bytes, where: str, at: int = 0) -> None:
        self.data = data
        self.where = where
        self.at = at

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise self.damaged(f"{count} bytes at {self.at} reach over the end {len(self.data)}")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        value = shift = 0
        while True:
            part = self.byte()
            value |= (part & 0x7F) << shift
            if part < 0x80:
                break
            shift += 7
            if shift > 63:
                raise self.damaged(f"a number at {self.at} takes over 10 bytes")
        if value >= 1 << 64:
            raise self.damaged(f"a number at {self.at} takes over 64 bits")
        return value

    def count(self, limit: int, what: str) -> int:
        """A varint that counts things of at least a byte each."""
        value = self.varint()
        if value > limit or value > len(self.data) - self.at:
            raise self.damaged(f"{value} {what} do not fit in {len(self.data) - self.at} bytes")
        return value

    def varints(self, count: int) -> list[int]:
        """`count` varints, decoded together."""
        import numpy as np

        if count < 16:
            return [self.varint() for _ in range(count)]
        window = np.frombuffer(
            self.data, np.uint8, min(10 * count, len(self.data) - self.at), self.at
        )
        ends = np.flatnonzero(window < 0x80)[:count]
        if len(ends) < count:
            raise self.damaged(f"{count} numbers at {self.at}, found {len(ends)}")
        starts = np.empty_like(ends)
        starts[0] = 0
        starts[1:] = ends[:-1] + 1
        values = self._join(window, starts, ends - starts + 1)
        self.at += int(ends[-1]) + 1
        return values

    def _join(self, window: Bytes, starts: Places, lengths: Places) -> list[int]:
        import numpy as np

        longest = int(lengths.max())
        if longest > 10:
            raise self.damaged("a number takes over 10 bytes")
        values = np.zeros(len(starts), np.uint64)
        for index in range(longest):
            rows = np.flatnonzero(lengths > index)
            parts = window[starts[rows] + index]
            if index == 9 and parts.max() > 1:
                raise self.damaged("a number takes over 64 bits")
            values[rows] |= (parts & 0x7F).astype(np.uint64) << np.uint64(7 * index)
        found: list[int] = values.tolist()
        return found

    def end(self) -> None:
        if self.at != len(self.data):
            raise self.damaged(f"{len(self.data) - self.at} bytes after the end")

    def damaged(self, message: str) -> DamagedError:
        return DamagedError(f"damaged OCDBT structure: {message}", self.where)


def encode_varint(value: int) -> bytes:
    if value < 0x80:
        return _BYTES[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_varints(values: list[int]) -> bytes:
    return b"".join(map(encode_varint, values))


_BYTES = [bytes((value,)) for value in range(0x80)]
