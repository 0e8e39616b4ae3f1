"""Pairing: which layer of one program is which of the other.

Kinds and shapes only reject. Among the counterparts that are left, layers whose names differ in
numbers alone go together, those of the most similar name first; what no name tells goes by order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from portackpt.errors import PortackptError
from portackpt.layouts.dialects import Dialect
from portackpt.layouts.kinds import Kind
from portackpt.layouts.translation import Shape, translate
from portackpt.matching.similarity import similarity
from portackpt.matching.survey import Sighting, grouped, numbers, shared


@dataclass(frozen=True, slots=True)
class Pair:
    """A layer and its counterpart, with how sure that is and why."""

    source: Sighting
    target: Sighting
    kind: Kind
    confidence: float
    evidence: str


def pair(
    source: Dialect, target: Dialect, here: Sequence[Sighting], there: Sequence[Sighting]
) -> list[Pair]:
    """Layers of the one with those of the other; what has no counterpart is in no pair."""
    pairs: list[Pair] = []
    left_here, left_there = grouped(here), grouped(there)
    skipped = shared(here), shared(there)
    candidates = []
    by_weight: defaultdict[tuple[int, int], list[object]] = defaultdict(list)
    for key, members in left_there.items():
        by_weight[members[0].weight, len(members)].append(key)
    for key, members in left_here.items():
        for other in by_weight[members[0].weight, len(members)]:
            kind = common(source, target, members[0], left_there[other][0])
            if kind is not None:
                names = (
                    s.below(n)
                    for s, n in zip((members[0], left_there[other][0]), skipped, strict=True)
                )
                alike = similarity(*names)
                candidates.append((alike, key, other, kind))
    candidates.sort(key=lambda c: (-c[0], left_here[c[1]][0].order, left_there[c[2]][0].order))
    best: defaultdict[object, list[float]] = defaultdict(list)
    for alike, key, other, _ in candidates:
        best["here", key].append(alike)
        best["there", other].append(alike)
    for alike, key, other, kind in candidates:
        if key in left_here and other in left_there:
            rivals = max(_second(best["here", key]), _second(best["there", other]))
            told = _judged(alike, rivals)
            pairs += _members(left_here.pop(key), left_there.pop(other), kind, told)
    rest_here = [s for members in left_here.values() for s in members]
    rest_there = [s for members in left_there.values() for s in members]
    return pairs + _by_order(source, target, rest_here, rest_there)


def _second(scores: list[float]) -> float:
    """The best score but one; below 0 where there is none."""
    return sorted(scores)[-2] if len(scores) > 1 else -1.0


def _judged(alike: float, rival: float) -> tuple[float, str]:
    """Confidence in a pair of names that are `alike`, whose best other counterpart is `rival`."""
    if rival < 0:
        return 0.9 + 0.09 * alike, "the only layers of their shapes"
    margin = alike - rival
    if margin <= 0.02:
        return 0.3, "others fit as well: by order"
    return min(0.98, 0.5 + 0.3 * alike + margin), "by name"


def _members(
    here: list[Sighting], there: list[Sighting], kind: Kind, told: tuple[float, str]
) -> list[Pair]:
    """The members of two groups, in the order of their numbers."""
    confidence, evidence = told
    if len(here) > 1 and _counting(here) != _counting(there):
        confidence, evidence = confidence * 0.9, f"{evidence}, numbers in order"
    pairs = zip(here, there, strict=True)
    return [Pair(a, b, kind, *_sure(a, b, kind, confidence, evidence)) for a, b in pairs]


def _counting(members: list[Sighting]) -> list[tuple[int, ...]]:
    """The numbers that tell members of a group apart."""
    columns = zip(*[numbers(sighting.path) for sighting in members], strict=True)
    return sorted(zip(*[c for c in columns if len(set(c)) > 1], strict=True))


def _sure(
    one: Sighting, other: Sighting, kind: Kind, confidence: float, evidence: str
) -> tuple[float, str]:
    """Less sure of a convolution that could as well be transposed, and no name says which."""
    both = Kind.CONV_TRANSPOSE in one.kinds and Kind.CONV_TRANSPOSE in other.kinds
    channels = [shape for shape in one.leaves.values() if len(shape) > 2]
    open_ = both and len(one.kinds) > 1 and bool(channels) and kind not in one.hinted | other.hinted
    if open_ and sorted(channels[0])[-1] == sorted(channels[0])[-2]:
        return confidence * 0.7, f"{evidence}; check the kind"
    return confidence, evidence


def _by_order(
    source: Dialect, target: Dialect, here: Sequence[Sighting], there: Sequence[Sighting]
) -> list[Pair]:
    """Layers that no name joins: of each kind and shape, one after another, if as many."""
    pairs: list[Pair] = []
    waiting = sorted(there, key=lambda s: (numbers(s.path), s.order))
    classes: defaultdict[tuple[object, ...], list[Sighting]] = defaultdict(list)
    for sighting in sorted(here, key=lambda s: s.order):
        classes[sighting.signature].append(sighting)
    for members in classes.values():
        fitting = [
            (other, kind)
            for other in waiting
            if other.weight == members[0].weight
            and (kind := common(source, target, members[0], other)) is not None
        ]
        if len(fitting) != len(members):
            continue
        waiting = [s for s in waiting if all(s is not other for other, _ in fitting)]
        alone = len(members) == 1
        confidence, evidence = (
            (0.8, "the only layers of their shapes") if alone else (0.4, "by order")
        )
        for one, (other, kind) in zip(members, fitting, strict=True):
            pairs.append(Pair(one, other, kind, confidence, evidence))
    return pairs


def common(source: Dialect, target: Dialect, one: Sighting, other: Sighting) -> Kind | None:
    """The likeliest kind of which both can be, by their leaves and shapes; None where none is."""
    hints = {kind: (kind in one.hinted) + (kind in other.hinted) for kind in one.kinds}
    order = tuple(sorted(hints, key=lambda kind: (-hints[kind], one.kinds.index(kind))))
    leaves = [tuple(sorted(sighting.leaves.items())) for sighting in (one, other)]
    return _common(source, target, order, leaves[0], other.kinds, leaves[1])


_Leaves = tuple[tuple[str, Shape], ...]


@lru_cache(maxsize=1 << 16)
def _common(
    source: Dialect,
    target: Dialect,
    kinds: tuple[Kind, ...],
    leaves: _Leaves,
    others: tuple[Kind, ...],
    wanted: _Leaves,
) -> Kind | None:
    here, there = dict(leaves), dict(wanted)
    if Kind.PLAIN in kinds or Kind.PLAIN in others:
        single = len(here) == len(there) == 1
        shapes = [next(iter(found.values())) for found in (here, there)]
        return Kind.PLAIN if single and sorted(shapes[0]) == sorted(shapes[1]) else None
    for kind in kinds:
        if kind in others and _translates(kind, source, target, here, there):
            return kind
    return None


def _translates(
    kind: Kind,
    source: Dialect,
    target: Dialect,
    here: Mapping[str, Shape],
    there: Mapping[str, Shape],
) -> bool:
    try:
        found = translate(kind, source, target, here, there)
    except PortackptError:
        return False
    made = {name for move in found.moves for name in move.targets} | set(found.zeros)
    return not found.unplaced and made == set(there)
