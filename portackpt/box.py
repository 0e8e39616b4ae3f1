"""Boxes: N-dimensional regions of a tensor, in elements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod

from portackpt.errors import RefusedError


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
    """True when the boxes tile `shape` exactly: inside it, apart from each other, nothing left.

    Each element lies in as many boxes as the signs of the boxes' corners sum up to on the way to
    it; so the boxes tile the whole when their corners cancel out to those of the whole. This is
    linear in the boxes; `RefusedError` where they have too many corners for that.
    """
    if any(not box.within(shape) for box in boxes):
        return False
    filled = [box for box in boxes if box.size]
    axes = [i for i, n in enumerate(shape) if any(box.shape[i] != n for box in filled)]
    if len(filled) << len(axes) > _MAX_CORNERS:
        raise RefusedError(f"{len(filled)} boxes cut along {len(axes)} axes are too many to check")
    if sum(box.size for box in filled) != prod(shape):
        return False
    if len(filled) <= 1:
        return True
    corners: Counter[tuple[int, ...]] = Counter()
    for box in filled:
        _add_corners(corners, box, axes, 1)
    _add_corners(corners, whole(shape), axes, -1)
    return not any(corners.values())


_MAX_CORNERS = 1 << 22


def _add_corners(corners: Counter[tuple[int, ...]], box: Box, axes: list[int], weight: int) -> None:
    ends = [((box.start[i], 1), (box.start[i] + box.shape[i], -1)) for i in axes]
    for corner in product(*ends):
        corners[tuple([at for at, _ in corner])] += weight * prod([sign for _, sign in corner])
