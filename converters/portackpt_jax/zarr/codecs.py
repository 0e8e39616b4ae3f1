"""Codecs of chunks: what is listed here is decoded, anything else is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from portackpt.bytesource import ByteSource, Checked, Swapped
from portackpt.errors import DamagedError, UnsupportedError
from portackpt.tensor import c_strides
from portackpt_jax.zarr.sources import Part, Whole
from portackpt_jax.zstd import import_zstandard

LARGEST_WINDOW = 128 << 20
_COMPRESSORS = ("zstd", "gzip", "zlib")
_INPUT = 256 << 10


@dataclass(frozen=True, slots=True)
class Chain:
    """How a chunk became bytes: axes reordered, elements in one byte order, then `steps`.

    `order` lists the array's axes as they were stored, slowest first; None is C order.
    """

    big_endian: bool = False
    order: tuple[int, ...] | None = None
    steps: tuple[str, ...] = ()
    compressed: bool = field(init=False)

    def __post_init__(self) -> None:
        compressed = any(step in _COMPRESSORS for step in self.steps)
        object.__setattr__(self, "compressed", compressed)

    def decode(self, source: ByteSource, nbytes: int, itemsize: int, where: str) -> ByteSource:
        """The `nbytes` of a chunk whose encoded bytes are `source`."""
        if self.steps:
            for step, size in reversed(list(zip(self.steps, self._sizes(nbytes), strict=True))):
                if step == "crc32c":
                    source = _checked(source, where)
                else:
                    source = Inflated(source, step, size, where)
        if source.nbytes != nbytes:
            raise DamagedError(f"a chunk takes {nbytes} bytes, found {source.nbytes}", where)
        if self.order is not None and self.compressed:
            source = Whole(source, where)
        return Swapped(source, itemsize) if self.big_endian and itemsize > 1 else source

    def strides(self, shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
        """Strides of a decoded chunk of `shape`, in bytes."""
        if self.order is None:
            return c_strides(shape, itemsize)
        stored = c_strides(tuple([shape[axis] for axis in self.order]), itemsize)
        return tuple([stored[self.order.index(axis)] for axis in range(len(shape))])

    def _sizes(self, nbytes: int) -> list[int]:
        """The size that each step was given."""
        sizes = []
        for step in self.steps:
            sizes.append(nbytes)
            nbytes += 4 if step == "crc32c" else 0
        return sizes


def parse_compressor(compressor: Any, filters: Any) -> tuple[str, ...]:
    """The steps of version 2."""
    if filters:
        raise UnsupportedError(f"zarr filters cannot be read: {filters!r:.200}")
    if compressor is None:
        return ()
    name = compressor.get("id") if isinstance(compressor, dict) else None
    if name not in _COMPRESSORS:
        raise UnsupportedError(_unknown(name))
    return (name,)


def parse_chain(codecs: Any, dimensions: int) -> Chain:
    """The codecs of version 3, without sharding."""
    order: tuple[int, ...] | None = None
    big_endian: bool | None = None
    steps: list[str] = []
    for name, configuration in _named(codecs):
        if name == "transpose" and big_endian is None and order is None:
            order = _axes(configuration.get("order"), dimensions)
        elif name == "bytes" and big_endian is None:
            big_endian = configuration.get("endian", "little") == "big"
        elif big_endian is not None and _may_follow(name, steps):
            steps.append(name)
        else:
            raise UnsupportedError(_unknown(name))
    if big_endian is None:
        raise DamagedError("the codecs of an array lack 'bytes'")
    return Chain(big_endian, order, tuple(steps))


def _named(codecs: Any) -> list[tuple[str, Mapping[str, Any]]]:
    if not isinstance(codecs, list) or len(codecs) > 16:
        raise DamagedError("the codecs of an array are not a short list")
    found: list[tuple[str, Mapping[str, Any]]] = []
    for codec in codecs:
        if isinstance(codec, str):
            codec = {"name": codec}
        if not isinstance(codec, dict) or not isinstance(codec.get("name"), str):
            raise DamagedError(f"not a codec: {codec!r:.100}")
        configuration = codec.get("configuration", {})
        if not isinstance(configuration, dict):
            raise DamagedError(f"not the configuration of a codec: {configuration!r:.100}")
        found.append((codec["name"], configuration))
    return found


def parse_sharding(codecs: Any) -> Mapping[str, Any] | None:
    """The configuration of `sharding_indexed` where that is how chunks are coded."""
    named = _named(codecs)
    if len(named) == 1 and named[0][0] == "sharding_indexed":
        return named[0][1]
    return None


def _may_follow(name: str, steps: list[str]) -> bool:
    """One compressor, and checksums around it or within."""
    if name == "crc32c":
        return len(steps) < 4
    return name in ("zstd", "gzip") and not any(step in _COMPRESSORS for step in steps)


def _axes(order: Any, dimensions: int) -> tuple[int, ...]:
    if not isinstance(order, list) or sorted(map(repr, order)) != sorted(
        map(repr, range(dimensions))
    ):
        raise DamagedError(f"not an order of {dimensions} axes: {order!r:.100}")
    return tuple(order)


def _unknown(name: Any) -> str:
    return (
        f"codec {name!r:.60} is not read here; known are {', '.join(_COMPRESSORS)}, crc32c, "
        "transpose and sharding_indexed. Restore the checkpoint with Orbax and save it again "
        "without that codec"
    )


class Reader(Protocol):
    def take(self, out: memoryview) -> int:
        """Fill `out` with the next bytes; how many there were."""


class Inflated:
    """A compressed source, given out decompressed; must come to `nbytes` bytes exactly.

    Reading forward goes on where it was, reading backward starts again; after the last byte the
    decompressor is let go.
    """

    __slots__ = ("_method", "_nbytes", "_position", "_reader", "_source", "_where")

    def __init__(self, source: ByteSource, method: str, nbytes: int, where: str) -> None:
        self._source = source
        self._method = method
        self._nbytes = nbytes
        self._where = where
        self._reader: Reader | None = None
        self._position = 0

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        if self._reader is None or offset < self._position:
            self._reader = _READERS[self._method](self._source, self._where)
            self._position = 0
        if self._position < offset:
            skipped = memoryview(bytearray(min(offset - self._position, 1 << 20)))
            while self._position < offset:
                self._take(skipped[: offset - self._position])
        self._take(out)
        if self._position == self._nbytes:
            self._finish()

    def verify(self) -> None:
        pass

    def _take(self, out: memoryview) -> None:
        assert self._reader is not None
        count = self._reader.take(out)
        if count != out.nbytes:
            raise DamagedError(
                f"a chunk decompresses to {self._position + count} bytes, expected {self._nbytes}",
                self._where,
            )
        self._position += count

    def _finish(self) -> None:
        reader, self._reader = self._reader, None
        assert reader is not None
        if reader.take(memoryview(bytearray(1))):
            raise DamagedError(
                f"a chunk decompresses to more than the expected {self._nbytes} bytes", self._where
            )


class _Input:
    """A byte source as a file to read from."""

    __slots__ = ("_at", "_source")

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        rest = self._source.nbytes - self._at
        data = bytearray(rest if size < 0 else min(size, rest))
        self._source.readinto(self._at, memoryview(data))
        self._at += len(data)
        return bytes(data)


class _Zstd:
    __slots__ = ("_error", "_reader", "_where")

    def __init__(self, source: ByteSource, where: str) -> None:
        zstandard = import_zstandard()
        self._error = zstandard.ZstdError
        self._where = where
        decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
        self._reader = decompressor.stream_reader(
            _Input(source), read_size=min(_INPUT, max(source.nbytes, 1)), read_across_frames=True
        )

    def take(self, out: memoryview) -> int:
        done = 0
        try:
            while done < out.nbytes:
                count = self._reader.readinto(out[done:])
                if not count:
                    break
                done += count
        except (self._error, MemoryError) as error:
            raise DamagedError(f"a chunk does not decompress: {error}", self._where) from error
        return done


class _Deflate:
    """gzip and zlib streams; a gzip stream may have several members."""

    __slots__ = ("_bits", "_inflate", "_input", "_rest", "_where", "_zlib")

    def __init__(self, source: ByteSource, where: str, bits: int) -> None:
        from isal import isal_zlib

        self._zlib: Any = isal_zlib
        self._bits = bits
        self._input = _Input(source)
        self._inflate = self._zlib.decompressobj(bits)
        self._rest = b""
        self._where = where

    def take(self, out: memoryview) -> int:
        done = 0
        while done < out.nbytes:
            more = self._rest or self._input.read(_INPUT)
            if self._inflate.eof:
                if not more:
                    break
                self._inflate = self._zlib.decompressobj(self._bits)
            data = self._step(more, out.nbytes - done)
            out[done : done + len(data)] = data
            done += len(data)
            if not more and not data:
                raise DamagedError("a compressed chunk is cut short", self._where)
        return done

    def _step(self, more: bytes, most: int) -> bytes:
        inflate = self._inflate
        try:
            data: bytes = inflate.decompress(more, most)
        except Exception as error:
            if not isinstance(error, (self._zlib.error, MemoryError)):
                raise
            raise DamagedError(f"a chunk does not decompress: {error}", self._where) from error
        self._rest = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
        return data


_READERS: dict[str, Callable[[ByteSource, str], Reader]] = {
    "zstd": _Zstd,
    "gzip": lambda source, where: _Deflate(source, where, 31),
    "zlib": lambda source, where: _Deflate(source, where, 15),
}


def _checked(source: ByteSource, where: str) -> ByteSource:
    size = source.nbytes - 4
    if size < 0:
        raise DamagedError(f"a chunk with a checksum takes 4 bytes, found {source.nbytes}", where)
    expected = bytearray(4)
    source.readinto(size, memoryview(expected))
    return Checked(Part(source, 0, size), extend_crc32c, int.from_bytes(expected, "little"), where)


def extend_crc32c(data: memoryview, value: int) -> int:
    """CRC-32C of what had `value` and then `data`, in pieces that stay in the cache."""
    from google_crc32c import extend

    for start in range(0, data.nbytes, 1 << 20):
        value = extend(value, bytes(data[start : start + (1 << 20)]))
    return value
