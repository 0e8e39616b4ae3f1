"""A part of a file as a file of its own: an HDF5 file that stands in an archive, say."""

from __future__ import annotations

import io
import os
from typing import Any


class Window(io.RawIOBase):
    """`size` bytes from `start` of an open file; None: to its end, which may grow."""

    def __init__(self, descriptor: int, start: int, size: int | None = None) -> None:
        self._descriptor = descriptor
        self._start = start
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return self._size is None

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._position, self._end() if whence == 2 else 0)[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        if self._size is not None:
            view = view[: max(0, self._size - self._position)]
        count = os.preadv(self._descriptor, [view], self._start + self._position)
        self._position += count
        return count

    def write(self, data: Any) -> int:
        view = memoryview(data)
        done = 0
        while done < view.nbytes:
            done += os.pwrite(self._descriptor, view[done:], self._start + self._position + done)
        self._position += done
        return done

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        os.ftruncate(self._descriptor, self._start + size)
        return size

    def _end(self) -> int:
        if self._size is not None:
            return self._size
        return max(0, os.fstat(self._descriptor).st_size - self._start)
