"""Decompressing on several cores: the chunks that come next are begun while one is read.

A chunk is one stream and keeps one core busy; the next ones are independent of it. Once two chunks
have been read to their ends one after the other, the heads of those that follow are decompressed by
other threads, in a bounded amount of memory.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

from portackpt.bytesource import ByteSource

SMALLEST = 1 << 20
"""Smaller chunks are decompressed where they are read: handing them over costs more."""
_WORKERS = min(4, os.cpu_count() or 1)
HEAD = (96 << 20) // (_WORKERS + 2)
"""Bytes of a chunk that are decompressed ahead of its turn, at most."""


@cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_WORKERS, "portackpt-decompress")


class Ahead:
    """The large chunks of one checkpoint, in the order in which they will probably be read."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._begun: list[Chunk] = []
        self._buffers: list[bytearray] = []
        self._expected = 1

    def add(self, source: ByteSource) -> ByteSource:
        """`source`, which may be begun ahead of its turn."""
        if source.nbytes < SMALLEST:
            return source
        chunk = Chunk(self, len(self._chunks), source)
        self._chunks.append(chunk)
        return chunk

    def start(self, number: int) -> None:
        """A chunk is read from its start; if its turn had come, begin those that follow."""
        if number != self._expected:
            return
        current, *following = self._chunks[number : number + 1 + _WORKERS]
        for chunk in tuple(self._begun):
            if chunk is current or (chunk not in following and chunk.forget()):
                self._begun.remove(chunk)
        for chunk in following:
            if chunk not in self._begun and len(self._begun) <= _WORKERS:
                chunk.begun = _workers().submit(self._read, chunk.source)
                self._begun.append(chunk)

    def finish(self, number: int) -> None:
        """A chunk was read to its end."""
        self._expected = number + 1

    def release(self, head: memoryview) -> None:
        if isinstance(head.obj, bytearray):
            self._buffers.append(head.obj)

    def _read(self, source: ByteSource) -> memoryview:
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = bytearray(HEAD)
        head = memoryview(buffer)[: min(HEAD, source.nbytes)]
        source.readinto(0, head)
        return head


class Chunk:
    """A source of which the head may be there already; the rest is read where it is asked for."""

    __slots__ = ("_ahead", "_head", "_number", "begun", "source")

    def __init__(self, ahead: Ahead, number: int, source: ByteSource) -> None:
        self._ahead = ahead
        self._number = number
        self._head: memoryview | None = None
        self.begun: Future[memoryview] | None = None
        self.source = source

    @property
    def nbytes(self) -> int:
        return self.source.nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        if offset == 0:
            self._ahead.start(self._number)
        self._wait()
        done = 0
        if self._head is not None and offset < self._head.nbytes:
            part = self._head[offset : offset + out.nbytes]
            done = part.nbytes
            out[:done] = part
        if done < out.nbytes:
            self.source.readinto(offset + done, out[done:])
        if offset + out.nbytes == self.nbytes:
            self._ahead.finish(self._number)
            self._drop()

    def verify(self) -> None:
        self._wait()
        self.source.verify()

    def forget(self) -> bool:
        """Give up what was begun and not read; False while it is still being read."""
        if self.begun is not None and not self.begun.done():
            return self.begun.cancel()
        if self.begun is not None and self.begun.exception() is None:
            self._ahead.release(self.begun.result())
        self.begun = None
        self._drop()
        return True

    def _wait(self) -> None:
        """Another thread may be at this source: it is done before anyone else reads it."""
        if self.begun is not None:
            begun, self.begun = self.begun, None
            self._head = begun.result()

    def _drop(self) -> None:
        if self._head is not None:
            self._ahead.release(self._head)
            self._head = None
