"""Packing: a leaf taken apart into the canonical parts of its layer, and put together again.

A `Regroup` leads from some leaves to others that hold the same parts: split, turned, joined, added.
Read backward it is its own inverse, but for sums, of which only the total comes back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from portackpt.layouts.axes import Axes, Rearrange, rearrange
from portackpt.layouts.parts import FirstOf, Stack, Sum, Unstack, zeros_like
from portackpt.tensor import Tensor

Sizes: TypeAlias = Mapping[str, int]
Terms: TypeAlias = tuple[str, ...]
"""Parts that are added: mostly one."""


@dataclass(frozen=True, slots=True)
class Packed:
    """One leaf: its layout, and the parts along its part axes.

    `along` are the part axes among its axes; `terms` the parts at their indices, in C order, each
    with the parts that are added there. `part` is the canonical layout of one of them.
    """

    name: str
    axes: Axes
    along: tuple[str, ...]
    terms: tuple[Terms, ...]
    part: Axes

    @property
    def holds(self) -> tuple[str, ...]:
        return tuple([part for terms in self.terms for part in terms])

    def cut(self, tensor: Tensor, sizes: Sizes, slots: bool) -> dict[Terms, Tensor]:
        """The leaf's terms, each in its canonical layout; of a sum, its parts alone, too."""
        pieces = [rearrange(self.axes, self._stacked(), sizes).apply(tensor)]
        for name in self.along:
            unstack = Unstack(0, sizes[name])
            pieces = [part for piece in pieces for part in unstack.apply(piece)]
        found: dict[Terms, Tensor] = {}
        for piece, terms in zip(pieces, self.terms, strict=True):
            one = FirstOf(len(terms))
            values = one.for_slots().apply(piece) if slots else one.apply(piece)
            found.update(zip([(part,) for part in terms], values, strict=True))
            found[terms] = piece
        return found

    def join(self, found: Mapping[Terms, Tensor], sizes: Sizes, slots: bool) -> Tensor:
        """The leaf made of what was `found`; parts that were not are zero."""
        some = found[next((part,) for part in self.holds if (part,) in found)]
        pieces = []
        for terms in self.terms:
            piece = found.get(terms)
            if piece is None:
                total = Sum(len(terms))
                parts = [found.get((part,)) or zeros_like(some) for part in terms]
                piece = total.for_slots().apply(parts) if slots else total.apply(parts)
            pieces.append(piece)
        for name in reversed(self.along):
            count = sizes[name]
            runs = [pieces[at : at + count] for at in range(0, len(pieces), count)]
            pieces = [Stack(0, count).apply(run) for run in runs]
        return rearrange(self._stacked(), self.axes, sizes).apply(pieces[0])

    def _stacked(self) -> Axes:
        """The layout in which the part axes come first."""
        dimensions = (*[(name,) for name in self.along], *self.part.dimensions)
        text = " ".join((*self.along, self.part.text)).strip()
        return Axes(text, dimensions, self.part.backward)


@dataclass(frozen=True, slots=True)
class Regroup:
    """From the leaves `sources` of a layer to the leaves `targets`, which hold the same parts."""

    sources: tuple[Packed, ...]
    targets: tuple[Packed, ...]
    sizes: tuple[tuple[str, int], ...]

    @property
    def adds(self) -> bool:
        """True where parts are added that were apart."""
        known = {terms for leaf in self.sources for terms in leaf.terms}
        return any(
            len(terms) > 1 and terms not in known for leaf in self.targets for terms in leaf.terms
        )

    @property
    def lossy(self) -> bool:
        """True where parts are added, or have no place: the way back gives other values."""
        held = {part for leaf in self.targets for part in leaf.holds}
        return self.adds or any(part not in held for leaf in self.sources for part in leaf.holds)

    @property
    def regroups(self) -> bool:
        """True where elements of one tensor become several tensors', or of several one's."""
        return len(self.sources) != 1 or len(self.targets) != 1

    @property
    def direct(self) -> Rearrange | None:
        """The one step from a leaf to a leaf with the same parts in the same order."""
        if len(self.sources) == len(self.targets) == 1:
            source, target = self.sources[0], self.targets[0]
            if source.terms == target.terms and source.along == target.along:
                return rearrange(source.axes, target.axes, dict(self.sizes))
        return None

    @property
    def moves(self) -> bool:
        """True unless the bytes stay in their order."""
        direct = self.direct
        return direct is None or bool(direct.chain().steps)

    def apply(self, tensors: Sequence[Tensor], *, slots: bool = False) -> tuple[Tensor, ...]:
        """The target leaves made of the source leaves.

        With `slots` the tensors are one elementwise slot of an optimizer for each of these leaves:
        laid out alike, but not added where the parameters are.
        """
        direct = self.direct
        if direct is not None:
            return (direct.apply(tensors[0]),)
        sizes = dict(self.sizes)
        found: dict[Terms, Tensor] = {}
        for leaf, tensor in zip(self.sources, tensors, strict=True):
            found.update(leaf.cut(tensor, sizes, slots))
        return tuple([leaf.join(found, sizes, slots) for leaf in self.targets])

    def inverse(self) -> Regroup:
        return Regroup(self.targets, self.sources, self.sizes)

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the target leaves."""
        return tuple([leaf.axes.shape(dict(self.sizes)) for leaf in self.targets])

    def __str__(self) -> str:
        direct = self.direct
        if direct is not None:
            return str(direct)
        joint = " + " if self.adds else ", "
        return f"{joint.join(map(_told, self.sources))} -> {', '.join(map(_told, self.targets))}"


def _told(leaf: Packed) -> str:
    """`kernel: in (gate hidden), gate = z r n`."""
    if not leaf.along:
        return f"{leaf.name}: {leaf.axes.text}"
    words = [terms[0].split(".") for terms in leaf.terms]
    orders = [dict.fromkeys(column) for column in zip(*words, strict=True)]
    varying = [" ".join(order) for order in orders if len(order) > 1]
    return f"{leaf.name}: {leaf.axes.text} of {', '.join(varying)}"
