"""Translation: the leaves of one layer, from one dialect to another.

torch lstm    weight_ih, weight_hh, bias_ih, bias_hh
keras lstm    kernel <- weight_ih; recurrent_kernel <- weight_hh; bias <- bias_ih + bias_hh
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from typing import TypeAlias

from portackpt.errors import AmbiguousError, UsageError
from portackpt.layouts.axes import Axes, parse, solve, spatial_axes
from portackpt.layouts.dialects import Dialect, spellings
from portackpt.layouts.kinds import CANONICAL, Kind, Leaf, Spelling
from portackpt.layouts.packing import Packed, Regroup

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = Mapping[str, Shape]
_SPATIAL = {Kind.CONV1D: 1, Kind.CONV2D: 2, Kind.CONV3D: 3}
_MAPS = (Kind.CONV_TRANSPOSE, Kind.CONV_TRANSPOSE_KERNEL, Kind.DEPTHWISE)
"""Kinds of any number of spatial axes, but not of none."""


@dataclass(frozen=True, slots=True)
class Move:
    """Leaves of a layer that become other leaves, and how.

    `lost` are parts of the sources that the target has no place for, with the reason.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    regroup: Regroup
    lost: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Translation:
    """One layer in another dialect.

    `dropped` are source leaves that the target has no place for, with the reason; `unplaced` those
    whose place is missing, in the target or in its template; `zeros` target leaves of one integer
    zero, which the source has nothing for.
    """

    moves: tuple[Move, ...]
    dropped: tuple[tuple[str, str], ...] = ()
    unplaced: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()


def translate(
    kind: Kind,
    source: Dialect,
    target: Dialect,
    leaves: Shapes,
    template: Shapes | None = None,
    options: Mapping[str, int | Sequence[int]] | None = None,
) -> Translation:
    """How a layer's `leaves` (by name, with shapes) become the leaves that `target` writes.

    `template` are the leaves of that layer in the target, where one is known: it settles which of
    several spellings is meant, and sizes that the source does not show (the heads of a packed
    projection). `options` are sizes of axes by name, and `shape`, the channels-first shape of
    feature maps before they were flattened. Raises `UsageError` where the leaves do not fit, and
    `AmbiguousError` where a size has to be told.
    """
    given = {k: v if isinstance(v, int) else tuple(v) for k, v in (options or {}).items()}
    wanted = None if template is None else tuple(template.items())
    return _translate(kind, source, target, tuple(leaves.items()), wanted, tuple(given.items()))


_Leaves = tuple[tuple[str, Shape], ...]


@lru_cache(maxsize=1 << 12)  # the layers of a model are alike
def _translate(
    kind: Kind,
    source: Dialect,
    target: Dialect,
    found: _Leaves,
    template: _Leaves | None,
    options: tuple[tuple[str, int | tuple[int, ...]], ...],
) -> Translation:
    leaves, goals = dict(found), dict(template or ())
    told = dict(options)
    shape = told.pop("shape", None)
    wanted = set(goals) or None
    here = _fitting(kind, source, set(leaves), leaves)
    there = _fitting(kind, target, wanted, goals)
    spatial = _spatial(kind, here, there, leaves, goals, shape)
    sizes: dict[str, int] = {name: size for name, size in told.items() if isinstance(size, int)}
    if isinstance(shape, tuple):
        sizes["channel"] = shape[0]
        sizes.update({f"space{i}": n for i, n in enumerate(shape[1:])})
    sources = [p for p in _packed(kind, here, spatial) if p.name in leaves]
    targets = [p for p in _packed(kind, there, spatial) if wanted is None or p.name in wanted]
    for spelling in (here, there):
        sizes.update({axis: len(names) for axis, names in spelling.parts.items()})
    _measure(sources, leaves, sizes)
    _measure(targets, goals, sizes)
    _measure(sources, leaves, sizes)
    _indifferent(sources, targets, leaves, sizes)
    return _moves(kind, sources, targets, there, sizes)


@lru_cache
def leaf_names(kind: Kind, dialect: Dialect) -> tuple[str, ...]:
    """Every name that `dialect` has for a leaf of `kind`, in its order."""
    names: dict[str, None] = {}
    for spelling in spellings(dialect, kind):
        names.update(dict.fromkeys(leaf.name for leaf, _ in _expanded(spelling)))
    return tuple(names)


def parts_by_leaf(kind: Kind, spelling: Spelling) -> dict[str, frozenset[str]]:
    """The canonical parts that each leaf of a spelling holds."""
    return {packed.name: frozenset(packed.holds) for packed in _packed(kind, spelling, 0)}


def _fitting(kind: Kind, dialect: Dialect, wanted: set[str] | None, shapes: Shapes) -> Spelling:
    """The spelling that has all the leaves `wanted` (any, where None), of their ranks."""
    known = spellings(dialect, kind)
    if not known:
        raise UsageError(f"{dialect} has no layer {kind}")
    if wanted is None:
        return known[0]
    fitting = [s for s in known if wanted <= {leaf.name for leaf, _ in _expanded(s)}]
    if not fitting:
        names = leaf_names(kind, dialect)
        extra = ", ".join(sorted(wanted - set(names))) or ", ".join(sorted(wanted))
        raise UsageError(f"{kind} in {dialect} has no leaf {extra}; it has {', '.join(names)}")
    return next((s for s in fitting if _ranks(s, shapes)), fitting[0])


def _ranks(spelling: Spelling, shapes: Shapes) -> bool:
    return all(
        "..." in leaf.axes or len(parse(leaf.axes).dimensions) == len(shapes[leaf.name])
        for leaf, _ in _expanded(spelling)
        if leaf.name in shapes
    )


def _spatial(
    kind: Kind,
    here: Spelling,
    there: Spelling,
    leaves: Shapes,
    template: Shapes,
    shape: int | Sequence[int] | None,
) -> int:
    """How many spatial axes the layer has."""
    if isinstance(shape, Sequence):
        return len(shape) - 1
    if kind is Kind.FLATTEN_LINEAR:
        raise AmbiguousError(
            "a linear layer after flattened feature maps needs their shape: channels-first and "
            "channels-last maps flatten in different orders; add shape = [channels, height, width] "
            "to its line in the mapping file and pass that with --map"
        )
    for spelling, shapes in ((here, leaves), (there, template)):
        for leaf, _ in _expanded(spelling):
            if leaf.name in shapes:
                found = spatial_axes(leaf.axes, shapes[leaf.name])
                if found is not None:
                    wanted = _SPATIAL.get(kind, found)
                    if found != wanted or found < (kind in _MAPS):
                        raise UsageError(
                            f"{leaf.name} of {len(shapes[leaf.name])} dimensions is no {kind}: "
                            f"expected axes {leaf.axes!r}"
                        )
                    return found
    return 0


@lru_cache(maxsize=1 << 10)
def _packed(kind: Kind, spelling: Spelling, spatial: int) -> tuple[Packed, ...]:
    """The leaves of a spelling with the parts that each holds."""
    found = []
    for leaf, fixed in _expanded(spelling):
        axes = parse(leaf.axes, spatial)
        along = tuple([name for name in axes.names if name in spelling.parts])
        terms = []
        for values in product(*[spelling.parts[name] for name in along]):
            words = {**fixed, **dict(zip(along, values, strict=True))}
            parts = [term.strip().format(**words) for term in leaf.of.split("+")]
            terms.append(tuple([part for part in parts if part not in spelling.absent]))
        part = parse(CANONICAL[kind][terms[0][0]], spatial)
        found.append(Packed(leaf.name, axes, along, tuple(terms), part))
    return tuple(found)


def _expanded(spelling: Spelling) -> Iterator[tuple[Leaf, dict[str, str]]]:
    """Each leaf by its full name; those named after a part axis once for each of its parts."""
    for leaf in spelling.leaves:
        axis = next((axis for axis in spelling.parts if f"{{{axis}}}" in leaf.name), None)
        if axis is None:
            yield leaf, {}
            continue
        for part in spelling.parts[axis]:
            yield Leaf(leaf.name.format(**{axis: part}), leaf.axes, leaf.of), {axis: part}


def _measure(packed: Sequence[Packed], shapes: Shapes, sizes: dict[str, int]) -> None:
    for leaf in packed:
        if leaf.name in shapes:
            fault = solve(leaf.axes, shapes[leaf.name], sizes)
            if fault:
                raise UsageError(f"{leaf.name}: {fault}" if leaf.name else fault)
            for name in set(leaf.part.names) - set(leaf.axes.names):
                sizes.setdefault(name, 1)  # a scalar stands for an axis of one element


def _indifferent(
    sources: Sequence[Packed], targets: Sequence[Packed], leaves: Shapes, sizes: dict[str, int]
) -> None:
    """Give sizes to merged axes that no leaf takes apart: any sizes with the right product do."""
    for leaf in sources:
        for names, n in zip(leaf.axes.dimensions, leaves[leaf.name], strict=True):
            unknown = [name for name in names if name not in sizes]
            together = all(
                set(unknown) <= set(other) or not set(unknown) & set(other)
                for packed in (*sources, *targets)
                for other in packed.axes.dimensions
            )
            if unknown and together:
                known = prod([sizes[name] for name in names if name in sizes])
                sizes.update(dict.fromkeys(unknown[:-1], 1))
                sizes[unknown[-1]] = n // max(known, 1)


def _moves(
    kind: Kind,
    sources: Sequence[Packed],
    targets: Sequence[Packed],
    there: Spelling,
    sizes: dict[str, int],
) -> Translation:
    """Leaves that share parts, together: the smallest sets that can be moved apart."""
    moves: list[Move] = []
    dropped: list[tuple[str, str]] = []
    unplaced: list[str] = []
    held = {part for leaf in sources for part in leaf.holds}
    rest = [leaf for leaf in targets if held & set(leaf.holds)]
    zeros = [leaf.name for leaf in targets if leaf not in rest and leaf.holds == ("batches",)]
    waiting = list(sources)
    while waiting:
        group, goals = _connected(waiting, rest)
        waiting = [leaf for leaf in waiting if leaf not in group]
        if goals:
            moves.append(_move(kind, group, sorted(goals, key=targets.index), there, sizes))
            continue
        for leaf in group:
            reason = there.absent.get(leaf.holds[0])
            if reason is None:
                unplaced.append(leaf.name)
            else:
                dropped.append((leaf.name, reason))
    return Translation(tuple(moves), tuple(dropped), tuple(unplaced), tuple(zeros))


def _connected(
    waiting: Sequence[Packed], rest: Sequence[Packed]
) -> tuple[list[Packed], list[Packed]]:
    """The first of `waiting`, and all leaves that share parts with it, at any remove."""
    group, goals = [waiting[0]], list[Packed]()
    while True:
        parts = {part for leaf in (*group, *goals) for part in leaf.holds}
        new = [leaf for leaf in rest if leaf not in goals and parts & set(leaf.holds)]
        more = [leaf for leaf in waiting if leaf not in group and parts & set(leaf.holds)]
        if not new and not more:
            return group, goals
        goals += new
        group += more


def _move(
    kind: Kind,
    group: Sequence[Packed],
    goals: Sequence[Packed],
    there: Spelling,
    sizes: dict[str, int],
) -> Move:
    names = dict.fromkeys(name for leaf in (*group, *goals) for name in leaf.axes.names)
    missing = [name for name in names if name not in sizes]
    if missing:
        told = ", ".join(f"{name} = N" for name in missing)
        raise AmbiguousError(
            f"{kind}: {', '.join(leaf.name for leaf in group)} does not show the size of "
            f"{', '.join(missing)}; add {told} to its line in the mapping file and pass that "
            "with --map"
        )
    known = tuple([(name, sizes[name]) for name in names])
    lost = [
        (part, there.absent[part]) for leaf in group for part in leaf.holds if part in there.absent
    ]
    return Move(
        tuple([leaf.name for leaf in group]),
        tuple([leaf.name for leaf in goals]),
        Regroup(tuple(group), tuple(goals), known),
        tuple(lost),
    )


def whole_axes(text: str) -> tuple[Axes, Axes]:
    """The two sides of an explicit transform: `out in -> in out`."""
    before, arrow, after = text.partition("->")
    if not arrow:
        raise UsageError(f"expected axes like 'out in -> in out', found {text!r}")
    return parse(before.strip()), parse(after.strip())
