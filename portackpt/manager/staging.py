"""Snapshots: a checkpoint copied into memory that is used again for the next one.

The training waits only for this copy. The memory is private, of huge pages where the system has
them: touching fresh pages of 4 KiB costs ten times what the copy does.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from portackpt.bytesource import ByteSource
from portackpt.checkpoint import Checkpoint
from portackpt.collector import paused_collector
from portackpt.tensor import Scratch, Strided, Tensor, contiguous
from portackpt.tree import Node, Object, assemble, children

_ALIGNMENT = 64
_HUGE_PAGE = 2 << 20


class Staging:
    """Memory for one snapshot at a time; it grows to the largest."""

    def __init__(self) -> None:
        self._memory = memoryview(b"")

    @property
    def nbytes(self) -> int:
        return self._memory.nbytes

    def snapshot(self, checkpoint: Checkpoint) -> Checkpoint:
        """A copy of `checkpoint` that nothing changes, until the next snapshot is taken.

        Tensors that are one, or share storage, stay so. Sources whose `frozen` is true, since
        nothing can change them, are kept and not copied.
        """
        with paused_collector():
            places = _Places()
            tree = places.of(checkpoint.tree)
            details = places.of(dict(checkpoint.details))
            self._reserve(places.nbytes)
            places.fill(self._memory)
        return replace(checkpoint, tree=tree, details=details)

    def _reserve(self, nbytes: int) -> None:
        if nbytes <= self._memory.nbytes:
            return
        size = -(-nbytes // _HUGE_PAGE) * _HUGE_PAGE
        self._memory = memoryview(b"")  # the old pages go before the new ones come
        self._memory = memoryview(_pages(size))


def _pages(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages: slower, not wrong
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class _Staged:
    """A source whose bytes will be in the staging memory once it is filled."""

    __slots__ = ("_nbytes", "view")

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self.view = memoryview(b"")

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        out[:] = self.view[offset : offset + out.nbytes]

    def verify(self) -> None:
        pass


class _Places:
    """Where each source of a tree goes: first all are placed, then all are copied."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._tensors: dict[int, tuple[Tensor, Tensor]] = {}
        self._sources: dict[int, tuple[ByteSource, ByteSource]] = {}
        self._copies: list[tuple[ByteSource | Tensor, int, _Staged]] = []

    def of(self, node: Node) -> Node:
        """A copy of a tree over the new places."""
        kind = type(node)
        if kind is Tensor:
            return self._tensor(node)
        if kind is dict:
            return {key: self.of(item) for key, item in node.items()}
        if kind is list:
            return [self.of(item) for item in node]
        if kind is tuple:
            return tuple([self.of(item) for item in node])
        if kind is Object:
            return assemble(node, self._parts(node))
        return node

    def _parts(self, node: Object) -> Iterator[Node]:
        for _, item in children(node):
            yield self.of(item)

    def _tensor(self, tensor: Tensor) -> Tensor:
        known = self._tensors.get(id(tensor))
        if known is not None:
            return known[1]
        layout = tensor.layout
        attributes = self.of(dict(tensor.attributes)) if tensor.attributes else tensor.attributes
        if isinstance(layout, Strided):
            source = self._source(layout.source)
            placed = Strided(source, layout.offset, layout.strides)
            copy = Tensor(tensor.dtype, tensor.shape, placed, attributes)
        else:
            staged = self._place(tensor, tensor.nbytes)
            copy = contiguous(tensor.dtype, tensor.shape, staged, 0, attributes)
        self._tensors[id(tensor)] = tensor, copy
        return copy

    def _source(self, source: ByteSource) -> ByteSource:
        known = self._sources.get(id(source))
        if known is not None:
            return known[1]
        frozen = getattr(source, "frozen", False)
        staged = source if frozen else self._place(source, source.nbytes)
        self._sources[id(source)] = source, staged
        return staged

    def _place(self, origin: ByteSource | Tensor, nbytes: int) -> _Staged:
        staged = _Staged(nbytes)
        self._copies.append((origin, self.nbytes, staged))
        self.nbytes += -(-nbytes // _ALIGNMENT) * _ALIGNMENT
        return staged

    def fill(self, memory: memoryview) -> None:
        """Copy every source to its place."""
        scratch = Scratch()
        for origin, start, staged in self._copies:
            target = staged.view = memory[start : start + staged.nbytes]
            if isinstance(origin, Tensor):
                if target.nbytes:
                    origin.reader(scratch)(target)
            else:
                origin.verify()
                origin.readinto(0, target)
