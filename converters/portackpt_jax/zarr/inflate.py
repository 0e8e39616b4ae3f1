"""Compressed sources, decompressed as they are read, in a little memory whatever their size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from portackpt.bytesource import ByteSource
from portackpt.errors import DamagedError
from portackpt_jax.zstd import import_zstandard

LARGEST_WINDOW = 128 << 20
_INPUT = 256 << 10


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
            self._reader = METHODS[self._method](self._source, self._where)
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


METHODS: dict[str, Callable[[ByteSource, str], Reader]] = {
    "zstd": _Zstd,
    "gzip": lambda source, where: _Deflate(source, where, 31),
    "zlib": lambda source, where: _Deflate(source, where, 15),
}
