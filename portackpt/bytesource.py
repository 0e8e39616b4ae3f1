"""Byte sources: where the bytes of tensors lie, read at any offset.

A source is an identity too: tensors over the same source share their storage.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from portackpt.errors import DamagedError


class ByteSource(Protocol):
    """`nbytes` bytes that can be read from any offset."""

    @property
    def nbytes(self) -> int: ...

    def readinto(self, offset: int, out: memoryview) -> None:
        """Fill `out` (contiguous bytes) from `offset`; `DamagedError` where bytes are wrong."""

    def verify(self) -> None:
        """Before a part is read: check what can only be checked over the whole, once."""


class InMemory:
    """Bytes that are already here."""

    __slots__ = ("_view",)

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._view = memoryview(data).cast("B")

    @property
    def nbytes(self) -> int:
        return self._view.nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        out[:] = self._view[offset : offset + out.nbytes]

    def verify(self) -> None:
        pass


class File:
    """A file opened for reading when first asked; many ranges share one descriptor."""

    __slots__ = ("__weakref__", "busy", "descriptor", "path", "size")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor: int | None = None
        self.busy = 0
        self.size = path.stat().st_size

    def readinto(self, offset: int, out: memoryview) -> None:
        descriptor = _descriptors.take(self)
        try:
            done = 0
            while done < out.nbytes:
                count = os.preadv(descriptor, [out[done:]], offset + done)
                if count == 0:
                    raise DamagedError(
                        f"file ends early: expected {out.nbytes} bytes at {offset}, found {done}",
                        str(self.path),
                    )
                done += count
        finally:
            self.busy -= 1

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes at `offset`; the range is checked before anything is allocated."""
        if offset < 0 or count < 0 or offset + count > self.size:
            raise DamagedError(
                f"bytes {offset} to {offset + count} lie outside the file of {self.size} bytes",
                str(self.path),
            )
        buffer = bytearray(count)
        self.readinto(offset, memoryview(buffer))
        return bytes(buffer)

    def close(self, close: Callable[[int], None] = os.close) -> None:
        # bound early: when the interpreter ends, `os` may be gone before this is
        if self.descriptor is not None:
            close(self.descriptor)
            self.descriptor = None

    def __del__(self) -> None:
        self.close()


class _Descriptors:
    """The descriptors of the files read last: a checkpoint may have thousands of files."""

    LIMIT = 128

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[int, weakref.ref[File]] = OrderedDict()

    def take(self, file: File) -> int:
        """The descriptor of `file`, which stays open until its `busy` count is taken back."""
        with self._lock:
            if file.descriptor is None:
                file.descriptor = os.open(file.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
                self._close_idle()
                self._open[id(file)] = weakref.ref(file)
            self._open.move_to_end(id(file))
            file.busy += 1
            return file.descriptor

    def _close_idle(self) -> None:
        for number, reference in list(self._open.items()):
            if len(self._open) < self.LIMIT:
                return
            oldest = reference()
            if oldest is None or not oldest.busy:
                del self._open[number]
                if oldest is not None:
                    oldest.close()


_descriptors = _Descriptors()


class FileRange:
    """`nbytes` bytes of `file` from `start`."""

    __slots__ = ("_nbytes", "file", "start")

    def __init__(self, file: File, start: int, nbytes: int) -> None:
        if start < 0 or nbytes < 0 or start + nbytes > file.size:
            raise DamagedError(
                f"bytes {start} to {start + nbytes} lie outside the file of {file.size} bytes",
                str(file.path),
            )
        self.file = file
        self.start = start
        self._nbytes = nbytes

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        self.file.readinto(self.start + offset, out)

    def verify(self) -> None:
        pass


class Checked:
    """A source whose bytes, as a whole, have a known checksum.

    Read from start to end, the checksum is computed on the way; read in any other order, or after
    `verify`, the whole is checked once before the first byte is given out. `update(data, value)`
    extends the running checksum, which starts at `initial`; `expected` is its value at the end.
    """

    __slots__ = ("_expected", "_initial", "_position", "_source", "_update", "_value", "_verified",
                 "_where")  # fmt: skip

    def __init__(
        self,
        source: ByteSource,
        update: Callable[[memoryview, int], int],
        expected: int,
        where: str,
        initial: int = 0,
    ) -> None:
        self._source = source
        self._update = update
        self._expected = expected
        self._where = where
        self._initial = initial
        self._position = 0
        self._value = initial
        self._verified = False

    @property
    def nbytes(self) -> int:
        return self._source.nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        if offset != self._position:
            self.verify()
        self._source.readinto(offset, out)
        if not self._verified:
            self._value = self._update(out, self._value)
            self._position += out.nbytes
            if self._position == self.nbytes:
                self._check(self._value)

    def verify(self) -> None:
        if self._verified:
            return
        buffer = memoryview(bytearray(min(self.nbytes, 1 << 20)))
        value = self._initial
        for start in range(0, self.nbytes, len(buffer) or 1):
            piece = buffer[: min(len(buffer), self.nbytes - start)]
            self._source.readinto(start, piece)
            value = self._update(piece, value)
        self._check(value)

    def _check(self, value: int) -> None:
        if value != self._expected:
            raise DamagedError(
                f"checksum does not match: expected {self._expected:08x}, found {value:08x}; "
                "the bytes were changed after they were written",
                self._where,
            )
        self._verified = True


class Swapped:
    """A source of big-endian elements of `itemsize` bytes, given out little-endian."""

    __slots__ = ("_itemsize", "_source")

    def __init__(self, source: ByteSource, itemsize: int) -> None:
        self._source = source
        self._itemsize = itemsize

    @property
    def nbytes(self) -> int:
        return self._source.nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        import numpy as np

        size = self._itemsize
        if offset % size == 0 and out.nbytes % size == 0:
            self._source.readinto(offset, out)
            np.frombuffer(out, dtype=f"u{size}").byteswap(inplace=True)
            return
        first = offset // size * size
        last = -(-(offset + out.nbytes) // size) * size
        whole = memoryview(bytearray(last - first))
        self.readinto(first, whole)
        out[:] = whole[offset - first : offset - first + out.nbytes]

    def verify(self) -> None:
        self._source.verify()


class Sequential:
    """A source that can only be produced from its start: a compressed record, say.

    `restart()` gives a function that fills a buffer with the next bytes. Reading forward skips;
    reading backward starts again.
    """

    __slots__ = ("_nbytes", "_position", "_restart", "_take")

    def __init__(self, nbytes: int, restart: Callable[[], Callable[[memoryview], None]]) -> None:
        self._nbytes = nbytes
        self._restart = restart
        self._take: Callable[[memoryview], None] | None = None
        self._position = 0

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        if self._take is None or offset < self._position:
            self._take = self._restart()
            self._position = 0
        if self._position < offset:
            skipped = memoryview(bytearray(min(offset - self._position, 1 << 20)))
            while self._position < offset:
                piece = skipped[: min(len(skipped), offset - self._position)]
                self._take(piece)
                self._position += piece.nbytes
        self._take(out)
        self._position += out.nbytes

    def verify(self) -> None:
        pass
