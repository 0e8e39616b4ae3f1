"""Transforms: one tensor laid out another way, as values that apply lazily and invert.

Each keeps every element (bit for bit) and has an inverse; a `Chain` of them is one `View`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Protocol

from portackpt.errors import UsageError
from portackpt.layouts.views import Atom, View, seen, view
from portackpt.tensor import Tensor


class Transform(Protocol):
    """A way to lay out one tensor."""

    def apply(self, tensor: Tensor) -> Tensor: ...

    def inverse(self) -> Transform: ...


@dataclass(frozen=True, slots=True)
class Permute:
    """Dimension i of the result is dimension `order[i]` of the tensor."""

    order: tuple[int, ...]

    def apply(self, tensor: Tensor) -> Tensor:
        if sorted(self.order) != list(range(len(tensor.shape))):
            raise UsageError(f"permute{self.order} does not fit the shape {tensor.shape}")
        found = view(tensor)
        return seen(
            tensor, replace(found, dimensions=tuple([found.dimensions[i] for i in self.order]))
        )

    def inverse(self) -> Permute:
        return Permute(tuple([self.order.index(i) for i in range(len(self.order))]))


@dataclass(frozen=True, slots=True)
class Flip:
    """The elements along each of `axes` in reverse order."""

    axes: tuple[int, ...]

    def apply(self, tensor: Tensor) -> Tensor:
        found = view(tensor)
        origin, dimensions = list(found.origin), list(found.dimensions)
        for axis in self.axes:
            turned = []
            for atom in dimensions[axis]:
                if atom.step:
                    origin[atom.dim] += atom.step * (atom.size - 1)
                turned.append(replace(atom, step=-atom.step))
            dimensions[axis] = tuple(turned)
        return seen(tensor, View(found.base, tuple(origin), tuple(dimensions)))

    def inverse(self) -> Flip:
        return self


@dataclass(frozen=True, slots=True)
class Unflatten:
    """Dimension `axis` split, in C order, in dimensions of `sizes`."""

    axis: int
    sizes: tuple[int, ...]

    def apply(self, tensor: Tensor) -> Tensor:
        if prod(self.sizes) != tensor.shape[self.axis]:
            raise UsageError(
                f"dimension {self.axis} of {tensor.shape} cannot be split in {self.sizes}"
            )
        found = view(tensor)
        parts = _split(found.dimensions[self.axis], self.sizes)
        if parts is None:  # the atoms lie across the cut: see the tensor itself as the base
            dimensions = tuple([(Atom(dim, n, 1),) for dim, n in enumerate(tensor.shape)])
            found = View(tensor, (0,) * len(tensor.shape), dimensions)
            parts = _split(found.dimensions[self.axis], self.sizes)
            assert parts is not None
        before, after = found.dimensions[: self.axis], found.dimensions[self.axis + 1 :]
        return seen(tensor, replace(found, dimensions=(*before, *parts, *after)))

    def inverse(self) -> Flatten:
        return Flatten(self.axis, self.sizes)


def _split(atoms: tuple[Atom, ...], sizes: tuple[int, ...]) -> list[tuple[Atom, ...]] | None:
    """Merged atoms as dimensions of `sizes`; None where a size ends inside of an atom."""
    if 0 in sizes:
        return [(Atom(0, n, 0),) for n in sizes]  # no elements: any walk will do
    rest = [atom for atom in atoms if atom.size != 1]
    parts = []
    for size in sizes:
        part: list[Atom] = []
        while size > 1 and rest:
            atom = rest.pop(0)
            if size % atom.size and atom.size % size:
                return None
            if atom.size > size:
                inner = atom.size // size
                rest.insert(0, replace(atom, size=inner))
                atom = replace(atom, size=size, step=atom.step * inner)
            part.append(atom)
            size //= atom.size
        parts.append(tuple(part) or (Atom(0, 1, 0),))
    return parts


@dataclass(frozen=True, slots=True)
class Flatten:
    """The dimensions from `axis`, of `sizes`, merged into one in C order."""

    axis: int
    sizes: tuple[int, ...]

    def apply(self, tensor: Tensor) -> Tensor:
        end = self.axis + len(self.sizes)
        if tensor.shape[self.axis : end] != self.sizes:
            raise UsageError(
                f"expected dimensions of {self.sizes} from {self.axis}, found {tensor.shape}"
            )
        found = view(tensor)
        merged = tuple([atom for atoms in found.dimensions[self.axis : end] for atom in atoms])
        dimensions = (*found.dimensions[: self.axis], merged, *found.dimensions[end:])
        return seen(tensor, replace(found, dimensions=dimensions))

    def inverse(self) -> Unflatten:
        return Unflatten(self.axis, self.sizes)


@dataclass(frozen=True, slots=True)
class Insert:
    """A dimension of one element at `axis`."""

    axis: int

    def apply(self, tensor: Tensor) -> Tensor:
        found = view(tensor)
        before, after = found.dimensions[: self.axis], found.dimensions[self.axis :]
        return seen(tensor, replace(found, dimensions=(*before, (Atom(0, 1, 0),), *after)))

    def inverse(self) -> Remove:
        return Remove(self.axis)


@dataclass(frozen=True, slots=True)
class Remove:
    """Without the dimension `axis`, which has one element."""

    axis: int

    def apply(self, tensor: Tensor) -> Tensor:
        if tensor.shape[self.axis] != 1:
            raise UsageError(
                f"dimension {self.axis} of {tensor.shape} has more than one element to keep"
            )
        found = view(tensor)
        before, after = found.dimensions[: self.axis], found.dimensions[self.axis + 1 :]
        return seen(tensor, replace(found, dimensions=(*before, *after)))

    def inverse(self) -> Insert:
        return Insert(self.axis)


@dataclass(frozen=True, slots=True)
class Chain:
    """`steps`, one after another."""

    steps: tuple[Transform, ...] = ()

    def apply(self, tensor: Tensor) -> Tensor:
        for step in self.steps:
            tensor = step.apply(tensor)
        return tensor

    def inverse(self) -> Chain:
        return Chain(tuple([step.inverse() for step in reversed(self.steps)]))


def reshape(before: tuple[int, ...], after: tuple[int, ...]) -> Chain:
    """From one shape to another in C order."""
    return Chain((Flatten(0, before), Unflatten(0, after)))
