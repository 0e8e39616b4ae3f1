"""Partitioned variables: one tensor kept as boxes of it."""

from __future__ import annotations

from collections.abc import Iterable

from portackpt.box import Box, covers, whole
from portackpt.dtypes import STRING, DType
from portackpt.errors import DamagedError, RefusedError, UnsupportedError
from portackpt.tensor import Tensor, Tiled
from portackpt_tensorflow.entry import Slice

_MOST = 1024
"""Slices along several dimensions, at most; along one there may be any number."""


def to_box(extents: Slice, shape: tuple[int, ...]) -> Box:
    """The region that a slice covers of a tensor of `shape`."""
    if len(extents) != len(shape):
        raise DamagedError(f"a slice of {len(extents)} dimensions of a tensor of shape {shape}")
    pairs = [(0, n) if extent.length is None else (extent.start, extent.length)
             for extent, n in zip(extents, shape, strict=True)]  # fmt: skip
    return Box(tuple([start for start, _ in pairs]), tuple([length for _, length in pairs]))


def joined(
    name: str, dtype: DType, shape: tuple[int, ...], parts: Iterable[tuple[Box, Tensor]]
) -> Tensor:
    """The tensor that is made of `parts`, which must tile it."""
    tiles = tuple(parts)
    for box, tile in tiles:
        if tile.dtype is not dtype or tile.shape != box.shape:
            raise DamagedError(
                f"expected a slice of dtype {dtype} and shape {box.shape}, "
                f"found {tile.dtype} and {tile.shape}",
                name,
            )
    if len(tiles) == 1 and tiles[0][0] == whole(shape):
        return tiles[0][1]
    if dtype is STRING:
        raise UnsupportedError("a partitioned variable of strings", name)
    _check_tiles(name, shape, [box for box, _ in tiles])
    return Tensor(dtype, shape, Tiled(tiles))


def _check_tiles(name: str, shape: tuple[int, ...], boxes: list[Box]) -> None:
    cut = [axis for axis, n in enumerate(shape) if any(box.shape[axis] != n for box in boxes)]
    if len(cut) > 1 and len(boxes) > _MOST:
        raise RefusedError(
            f"{len(boxes)} slices cut along several dimensions; the limit is {_MOST}", name
        )
    # the check is near-linear where slices follow each other along the first dimension
    order = [*cut, *(axis for axis in range(len(shape)) if axis not in cut)]
    turned = [Box(_permuted(box.start, order), _permuted(box.shape, order)) for box in boxes]
    if not covers(_permuted(shape, order), turned):
        raise DamagedError(f"{len(boxes)} slices do not tile a tensor of shape {shape}", name)


def _permuted(values: tuple[int, ...], order: list[int]) -> tuple[int, ...]:
    return tuple([values[axis] for axis in order])
