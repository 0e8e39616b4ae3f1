"""Views: the values of a tensor seen through other axes, read when asked for.

A view's dimensions are made of atoms. An atom walks along one dimension of the base tensor in steps
(backward where it is flipped); a dimension of the view is a run of atoms, merged in C order:

    base (out, channel·height·width)   view (height·width·channel, out)
         dim 0  dim 1                       atoms of dim 1 in steps width, 1, height·width; of dim 0

Permuting, flipping, splitting and merging dimensions are then arithmetic on a handful of numbers,
and any chain of them is still one view: the bytes move once, straight to where they are wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from portackpt.box import Box
from portackpt.bytesource import ByteSource
from portackpt.dtypes import STRING, DType
from portackpt.errors import UnsupportedError
from portackpt.strides import c_strides, gather, is_c, turn
from portackpt.tensor import BAND, Layout, Strided, Tensor

if TYPE_CHECKING:
    import numpy as np

_READ = 32 << 20
"""Bytes of a base that are held at once, where it has no byte source to be read from."""


@dataclass(frozen=True, slots=True)
class Atom:
    """`size` steps of `step` elements along dimension `dim` of the base."""

    dim: int
    size: int
    step: int


@dataclass(frozen=True, slots=True)
class View:
    """A layout: elements of `base`, the first at `origin`, along `dimensions` of atoms."""

    base: Tensor
    origin: tuple[int, ...]
    dimensions: tuple[tuple[Atom, ...], ...]
    band: ClassVar[int] = BAND

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple([prod([atom.size for atom in atoms]) for atoms in self.dimensions])

    def read(self, dtype: DType, box: Box, out: np.ndarray[Any, Any]) -> None:
        sizes = [tuple([atom.size for atom in atoms]) for atoms in self.dimensions]
        ranges = [
            list(_ranges(size, start, count))
            for size, start, count in zip(sizes, box.start, box.shape, strict=True)
        ]
        for choice in product(*ranges):
            index: Any = (*[slice(at, at + region.size) for at, region in choice], ...)
            part = out[index]
            shape = tuple([n for _, region in choice for n in region.shape])
            start = tuple([a for _, region in choice for a in region.start])
            self._read(start, part.reshape(shape))  # splits axes only: never a copy

    def _read(self, start: tuple[int, ...], out: np.ndarray[Any, Any]) -> None:
        """Fill `out`, whose axes are atoms, from the atoms' index `start`."""
        atoms = [atom for dimension in self.dimensions for atom in dimension]
        origin = list(self.origin)
        for atom, index in zip(atoms, start, strict=True):
            if atom.step:
                origin[atom.dim] += atom.step * index
        strided = byte_strides(self.base)
        if strided is None:
            _collect(self.base, origin, [(atom.dim, atom.step) for atom in atoms], out)
            return
        source, offset, strides = strided
        first = offset + sum(a * s for a, s in zip(origin, strides, strict=True))
        steps = tuple([atom.step * strides[atom.dim] if atom.step else 0 for atom in atoms])
        gather(source, first, steps, out)


def byte_strides(tensor: Tensor) -> tuple[ByteSource, int, tuple[int, ...]] | None:
    """Source, offset and strides of a tensor that is bytes at strides; None for any other."""
    layout = tensor.layout
    if not isinstance(layout, Strided) or tensor.dtype is STRING:
        return None
    strides = layout.strides
    if strides is None:
        strides = c_strides(tensor.shape, tensor.dtype.itemsize)
    return layout.source, layout.offset, strides


def view(tensor: Tensor) -> View:
    """`tensor` as a view: its own, or one atom a dimension."""
    if isinstance(tensor.layout, View):
        return tensor.layout
    if tensor.dtype is STRING:
        raise UnsupportedError("a string tensor has no other layout: its elements have no axes")
    dimensions = tuple([(Atom(dim, n, 1),) for dim, n in enumerate(tensor.shape)])
    return View(tensor, (0,) * len(tensor.shape), dimensions)


def seen(tensor: Tensor, changed: View) -> Tensor:
    """The tensor that `changed`, a view derived from `tensor`'s, shows.

    Where it is the whole of some bytes in C order, it reads like a tensor of the file; it never
    shares its storage with the tensor it came from.
    """
    base, shape = changed.base, changed.shape
    strided = byte_strides(base)
    layout: Layout = changed
    if strided is not None:
        source, offset, strides = strided
        atoms = [atom for dimension in changed.dimensions for atom in dimension]
        steps = tuple([atom.step * strides[atom.dim] if atom.step else 0 for atom in atoms])
        sizes = tuple([atom.size for atom in atoms])
        itemsize = tensor.dtype.itemsize
        if is_c(sizes, steps, itemsize):
            offset += sum(a * s for a, s in zip(changed.origin, strides, strict=True))
            nbytes = prod(shape) * itemsize
            if isinstance(source, Window):
                offset += source.start
                source = source.source
            layout = Strided(Window(source, offset, nbytes), 0, c_strides(shape, itemsize))
    elif shape == base.shape and changed == view(base):
        layout = base.layout
    return replace(tensor, shape=shape, layout=layout)


class Window:
    """A part of a source as a storage of its own."""

    __slots__ = ("_nbytes", "source", "start")

    def __init__(self, source: ByteSource, start: int, nbytes: int) -> None:
        self.source = source
        self.start = start
        self._nbytes = nbytes

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        self.verify()
        self.source.readinto(self.start + offset, out)

    def verify(self) -> None:
        if self._nbytes != self.source.nbytes:  # else reading it to the end checks it
            self.source.verify()


def _ranges(sizes: tuple[int, ...], start: int, count: int, at: int = 0) -> Iterator[
    tuple[int, Box]
]:  # fmt: skip
    """`count` indices of merged atoms from `start`: (place in the whole, box of the atoms)."""
    if len(sizes) == 1 or not count:
        rest = (0,) * (len(sizes) - 1)
        yield at, Box((start, *rest), (count, *(sizes[1:])))
        return
    inner = prod(sizes[1:])
    while count:
        row, column = divmod(start, inner)
        if column or count < inner:
            some = min(count, inner - column)
            for place, box in _ranges(sizes[1:], column, some, at):
                yield place, Box((row, *box.start), (1, *box.shape))
        else:
            some = count // inner * inner
            yield at, Box((row, *((0,) * (len(sizes) - 1))), (some // inner, *sizes[1:]))
        start, count, at = start + some, count - some, at + some


def _collect(
    base: Tensor, origin: list[int], steps: list[tuple[int, int]], out: np.ndarray[Any, Any]
) -> None:
    """Fill `out` from boxes of a base that has no byte strides; its axis i goes `steps[i]`."""
    import numpy as np

    if not out.size:
        return
    low, high = list(origin), list(origin)
    for (dim, step), n in zip(steps, out.shape, strict=True):
        if step:
            low[dim] += min(0, step * (n - 1))
            high[dim] += max(0, step * (n - 1))
    box = Box(tuple(low), tuple([b - a + 1 for a, b in zip(low, high, strict=True)]))
    axis = min(
        (axis for axis, (_, step) in enumerate(steps) if step and out.shape[axis] > 1),
        key=lambda axis: (steps[axis][0], -abs(steps[axis][1])),
        default=None,
    )
    if axis is None or box.size * base.dtype.itemsize <= _READ:
        values = base.read(box)
        first = sum((o - a) * s for o, a, s in zip(origin, low, values.strides, strict=True))
        strides = tuple([step * values.strides[dim] if step else 0 for dim, step in steps])
        turn(out, np.ndarray(out.shape, values.dtype, values, first, strides))
        return
    half = out.shape[axis] // 2
    index: list[slice] = [slice(None)] * out.ndim
    dim, step = steps[axis]
    for part, begin in ((slice(0, half), 0), (slice(half, None), half)):
        index[axis] = part
        moved = list(origin)
        moved[dim] += step * begin
        _collect(base, moved, steps, out[tuple(index)])
