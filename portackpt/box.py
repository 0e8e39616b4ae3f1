"""Boxes: N-dimensional regions of a tensor, in elements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True, slots=True)
class Box:
    """The region from `start` (inclusive) over `shape` elements in each dimension."""

    start: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def stop(self) -> tuple[int, ...]:
        return tuple([a + n for a, n in zip(self.start, self.shape, strict=True)])

    def slices(self, origin: tuple[int, ...] | None = None) -> tuple[slice, ...]:
        """Index of this box in an array whose first element stands at `origin`."""
        base = origin or (0,) * len(self.start)
        return tuple(
            [slice(a - o, a - o + n) for a, n, o in zip(self.start, self.shape, base, strict=True)]
        )

    def intersect(self, other: Box) -> Box | None:
        """The common region; None where there is none (empty boxes meet nothing)."""
        start = tuple([max(a, b) for a, b in zip(self.start, other.start, strict=True)])
        shape = tuple([min(a, b) - s for a, b, s in zip(self.stop, other.stop, start, strict=True)])
        return Box(start, shape) if all(n > 0 for n in shape) else None

    def within(self, shape: tuple[int, ...]) -> bool:
        return len(self.start) == len(shape) and all(
            a >= 0 and n >= 0 and a + n <= limit
            for a, n, limit in zip(self.start, self.shape, shape, strict=True)
        )


def whole(shape: tuple[int, ...]) -> Box:
    return Box((0,) * len(shape), shape)


def bands(shape: tuple[int, ...], elements: int) -> Iterator[Box]:
    """Boxes of about `elements` elements (at least one row) that follow each other in C order."""
    axis = 0  # the first axis whose single row fits
    while axis < len(shape) and prod(shape[axis + 1 :]) > max(elements, 1):
        axis += 1
    if prod(shape) == 0:
        return
    if axis >= len(shape):
        yield whole(shape)
        return
    rows = max(1, elements // max(1, prod(shape[axis + 1 :])))
    for outer in _indices(shape[:axis]):
        for row in range(0, shape[axis], rows):
            count = min(rows, shape[axis] - row)
            rest = shape[axis + 1 :]
            yield Box((*outer, row, *((0,) * len(rest))), (*((1,) * axis), count, *rest))


def _indices(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if not shape:
        yield ()
        return
    for head in range(shape[0]):
        for tail in _indices(shape[1:]):
            yield (head, *tail)


def covers(shape: tuple[int, ...], boxes: list[Box]) -> bool:
    """True when the boxes tile `shape` exactly: inside it, apart from each other, nothing left."""
    if any(not box.within(shape) for box in boxes):
        return False
    filled = [box for box in boxes if box.size]
    if sum(box.size for box in filled) != prod(shape):
        return False
    # equal volume and pairwise apart is a tiling; sweep along the first axis to stay near-linear
    filled.sort(key=lambda box: box.start)
    active: list[Box] = []
    for box in filled:
        if box.start:
            active = [other for other in active if other.stop[0] > box.start[0]]
        if any(box.intersect(other) for other in active):
            return False
        active.append(box)
    return True
