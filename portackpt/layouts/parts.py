"""Parts: one tensor cut into several, several joined into one, lazily.

`Split` and `Concat`, `Unstack` and `Stack` undo each other. `Sum` does not come back: of terms
that were added only the total is known; its inverse gives that to the first, and zero to the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar

from portackpt.box import Box
from portackpt.dtypes import DType
from portackpt.errors import UsageError
from portackpt.layouts.transforms import Insert, Remove
from portackpt.layouts.views import Atom, View, seen, view
from portackpt.tensor import BAND, Tensor, Tiled

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Slice:
    """The elements `start` to `stop` along `axis`."""

    axis: int
    start: int
    stop: int

    def apply(self, tensor: Tensor) -> Tensor:
        if not 0 <= self.start <= self.stop <= tensor.shape[self.axis]:
            raise UsageError(
                f"{self.start} to {self.stop} lies outside dimension {self.axis} of {tensor.shape}"
            )
        found = view(tensor)
        atoms = [atom for atom in found.dimensions[self.axis] if atom.size != 1]
        if len(atoms) > 1:  # merged: see the tensor itself as the base
            dimensions = tuple([(Atom(dim, n, 1),) for dim, n in enumerate(tensor.shape)])
            found = View(tensor, (0,) * len(tensor.shape), dimensions)
            atoms = list(found.dimensions[self.axis])
        atom = atoms[0] if atoms else Atom(0, 1, 0)
        origin = list(found.origin)
        if atom.step:
            origin[atom.dim] += atom.step * self.start
        kept = list(found.dimensions)
        kept[self.axis] = (replace(atom, size=self.stop - self.start),)
        return seen(tensor, View(found.base, tuple(origin), tuple(kept)))


@dataclass(frozen=True, slots=True)
class Split:
    """The parts of `sizes` along `axis`."""

    axis: int
    sizes: tuple[int, ...]
    lossy: ClassVar[bool] = False

    def apply(self, tensor: Tensor) -> tuple[Tensor, ...]:
        if tensor.shape[self.axis] != sum(self.sizes):
            raise UsageError(
                f"dimension {self.axis} of {tensor.shape} is not the sum of {self.sizes}"
            )
        ends = list(accumulate(self.sizes))
        return tuple(
            [
                Slice(self.axis, end - size, end).apply(tensor)
                for size, end in zip(self.sizes, ends, strict=True)
            ]
        )

    def inverse(self) -> Concat:
        return Concat(self.axis, self.sizes)


@dataclass(frozen=True, slots=True)
class Concat:
    """Tensors of `sizes` along `axis`, one after another."""

    axis: int
    sizes: tuple[int, ...]
    lossy: ClassVar[bool] = False

    def apply(self, tensors: Sequence[Tensor]) -> Tensor:
        found = tuple([tensor.shape[self.axis] for tensor in tensors])
        rest = {(*t.shape[: self.axis], *t.shape[self.axis + 1 :], t.dtype) for t in tensors}
        if found != self.sizes or len(rest) != 1:
            shapes = ", ".join(f"{tensor.dtype}{tensor.shape}" for tensor in tensors)
            raise UsageError(
                f"cannot join {shapes} along dimension {self.axis}: expected {self.sizes} there"
            )
        first = tensors[0]
        tiles = []
        for tensor, end in zip(tensors, accumulate(self.sizes), strict=True):
            start = [0] * len(first.shape)
            start[self.axis] = end - tensor.shape[self.axis]
            tiles.append((Box(tuple(start), tensor.shape), tensor))
        shape = (*first.shape[: self.axis], sum(self.sizes), *first.shape[self.axis + 1 :])
        return Tensor(first.dtype, shape, Tiled(tuple(tiles)), first.attributes)

    def inverse(self) -> Split:
        return Split(self.axis, self.sizes)


@dataclass(frozen=True, slots=True)
class Unstack:
    """The `count` tensors at the indices of `axis`."""

    axis: int
    count: int
    lossy: ClassVar[bool] = False

    def apply(self, tensor: Tensor) -> tuple[Tensor, ...]:
        parts = Split(self.axis, (1,) * self.count).apply(tensor)
        return tuple([Remove(self.axis).apply(part) for part in parts])

    def inverse(self) -> Stack:
        return Stack(self.axis, self.count)


@dataclass(frozen=True, slots=True)
class Stack:
    """`count` tensors of one shape at the indices of a new dimension `axis`."""

    axis: int
    count: int
    lossy: ClassVar[bool] = False

    def apply(self, tensors: Sequence[Tensor]) -> Tensor:
        parts = [Insert(self.axis).apply(tensor) for tensor in tensors]
        return Concat(self.axis, (1,) * self.count).apply(parts)

    def inverse(self) -> Unstack:
        return Unstack(self.axis, self.count)


@dataclass(frozen=True, slots=True)
class Sum:
    """`count` tensors added: two biases of a layer as the one that another framework keeps.

    The total has the gradient of each term. An optimizer's slots are therefore not added: equal
    where the update does not depend on the parameter, their mean is the slot of the total
    (`for_slots`), and it trains like the pair with twice the learning rate and half the decay.
    """

    count: int
    lossy: ClassVar[bool] = True

    def apply(self, tensors: Sequence[Tensor]) -> Tensor:
        return _added(tensors, self.count, 1)

    def for_slots(self) -> Mean:
        return Mean(self.count)

    def inverse(self) -> FirstOf:
        return FirstOf(self.count)


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of `count` tensors."""

    count: int
    lossy: ClassVar[bool] = True

    def apply(self, tensors: Sequence[Tensor]) -> Tensor:
        return _added(tensors, self.count, self.count)

    def inverse(self) -> Repeat:
        return Repeat(self.count)


@dataclass(frozen=True, slots=True)
class Repeat:
    """`count` tensors of the same values, each with a storage of its own."""

    count: int
    lossy: ClassVar[bool] = False

    def apply(self, tensor: Tensor) -> tuple[Tensor, ...]:
        dimensions = tuple([(Atom(dim, n, 1),) for dim, n in enumerate(tensor.shape)])
        origin = (0,) * len(tensor.shape)
        copies = [
            replace(tensor, layout=View(tensor, origin, dimensions)) for _ in range(self.count - 1)
        ]
        return (tensor, *copies)

    def inverse(self) -> Mean:
        return Mean(self.count)


@dataclass(frozen=True, slots=True)
class FirstOf:
    """The tensor, and `count` - 1 tensors of zeros like it; of slots, as many of the same."""

    count: int
    lossy: ClassVar[bool] = False

    def apply(self, tensor: Tensor) -> tuple[Tensor, ...]:
        zeros = [zeros_like(tensor) for _ in range(self.count - 1)]
        return (tensor, *zeros)

    def for_slots(self) -> Repeat:
        return Repeat(self.count)

    def inverse(self) -> Sum:
        return Sum(self.count)


def zeros_like(tensor: Tensor) -> Tensor:
    """Zeros of the tensor's dtype and shape."""
    return Tensor(tensor.dtype, tensor.shape, _Zeros())


def _added(tensors: Sequence[Tensor], count: int, divisor: int) -> Tensor:
    first = tensors[0]
    if len(tensors) != count or len({(tensor.shape, tensor.dtype) for tensor in tensors}) != 1:
        shapes = ", ".join(f"{tensor.dtype}{tensor.shape}" for tensor in tensors)
        raise UsageError(f"expected {count} tensors of one shape and dtype to add, found {shapes}")
    return Tensor(first.dtype, first.shape, _Added(tuple(tensors), divisor))


@dataclass(frozen=True, slots=True, eq=False)
class _Added:
    terms: tuple[Tensor, ...]
    divisor: int
    band: ClassVar[int] = BAND // 4

    def read(self, dtype: DType, box: Box, out: np.ndarray[Any, Any]) -> None:
        import numpy as np

        out[...] = self.terms[0].read(box)
        for term in self.terms[1:]:
            values = term.read(box)
            np.add(out, values, out=out, where=values != 0)  # adding 0 keeps even a -0.0
        if self.divisor != 1:
            out /= out.dtype.type(self.divisor)


@dataclass(frozen=True, slots=True, eq=False)
class _Zeros:
    def read(self, dtype: DType, box: Box, out: np.ndarray[Any, Any]) -> None:
        out.fill(0)
