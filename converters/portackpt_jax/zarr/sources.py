"""Byte sources that chunks are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from portackpt.bytesource import ByteSource
from portackpt.errors import UnsupportedError

LARGEST_WHOLE = 64 << 20
_PATTERN = 1 << 16


class Part:
    """`nbytes` bytes of `source` from `start`."""

    __slots__ = ("_nbytes", "_source", "_start")

    def __init__(self, source: ByteSource, start: int, nbytes: int) -> None:
        self._source = source
        self._start = start
        self._nbytes = nbytes

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        self._source.readinto(self._start + offset, out)

    def verify(self) -> None:
        self._source.verify()


class Joined:
    """Sources of one size (but the last may be smaller), one after another."""

    __slots__ = ("_each", "_nbytes", "_sources")

    def __init__(self, sources: Sequence[ByteSource]) -> None:
        self._sources = sources
        self._each = sources[0].nbytes
        self._nbytes = self._each * (len(sources) - 1) + sources[-1].nbytes

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        done = 0
        while done < out.nbytes:
            index, start = divmod(offset + done, self._each)
            count = min(self._each - start, out.nbytes - done)
            self._sources[index].readinto(start, out[done : done + count])
            done += count

    def verify(self) -> None:
        for source in self._sources:
            source.verify()


class Filled:
    """`nbytes` bytes that repeat `pattern`."""

    __slots__ = ("_nbytes", "_pattern")

    def __init__(self, pattern: bytes, nbytes: int) -> None:
        self._nbytes = nbytes
        self._pattern = pattern

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        shift = offset % len(self._pattern)
        turned = self._pattern[shift:] + self._pattern[:shift]
        block = turned * max(1, min(_PATTERN, out.nbytes) // len(turned) + 1)
        size = len(block) // len(turned) * len(turned)
        for start in range(0, out.nbytes, size):
            piece = out[start : start + size]
            piece[:] = block[: piece.nbytes]

    def verify(self) -> None:
        pass


class Later:
    """A source that is found only when it is read."""

    __slots__ = ("_find", "_found", "_nbytes")

    def __init__(self, nbytes: int, find: Callable[[], ByteSource]) -> None:
        self._nbytes = nbytes
        self._find = find
        self._found: ByteSource | None = None

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        self._source().readinto(offset, out)

    def verify(self) -> None:
        self._source().verify()

    def _source(self) -> ByteSource:
        if self._found is None:
            self._found = self._find()
        return self._found


class Whole:
    """A source that is read at once when first asked, because it is read out of order."""

    __slots__ = ("_data", "_source")

    def __init__(self, source: ByteSource, where: str) -> None:
        if source.nbytes > LARGEST_WHOLE:
            raise UnsupportedError(
                f"a compressed chunk of {source.nbytes} bytes in another order than C; "
                f"at most {LARGEST_WHOLE} are read: save the array again in C order",
                where,
            )
        self._source = source
        self._data: memoryview | None = None

    @property
    def nbytes(self) -> int:
        return self._source.nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        if self._data is None:
            data = memoryview(bytearray(self.nbytes))
            self._source.readinto(0, data)
            self._data = data
        out[:] = self._data[offset : offset + out.nbytes]

    def verify(self) -> None:
        pass
