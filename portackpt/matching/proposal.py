"""Proposals: a mapping between two programs, for a person to read, correct and use.

Built-in packs first; then layers are seen by their leaves and paired, feature maps before a linear
layer are guessed, and names that count alike become one line.
"""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping
from collections.abc import Sequence
from dataclasses import replace
from math import isqrt

from portackpt.layouts.dialects import Dialect
from portackpt.layouts.kinds import Kind
from portackpt.layouts.translation import Shape, Shapes
from portackpt.matching import packs
from portackpt.matching.generalization import generalize
from portackpt.matching.mapping import Mapping
from portackpt.matching.pairing import Pair, pair
from portackpt.matching.places import Places
from portackpt.matching.rules import Rule
from portackpt.matching.survey import Sighting, survey


def propose(
    source: Shapes,
    target: Shapes,
    source_dialect: Dialect,
    target_dialect: Dialect,
    ties: AbstractMapping[str, str] | None = None,
) -> Mapping:
    """A mapping of the leaves of `source` to those of `target` (shapes by name, in order).

    Every rule carries a confidence and its evidence; leaves that nothing was found for are named in
    the mapping's remarks. `ties` are source leaves that are the same tensor as another, by name.
    """
    known = packs.find(source, target, source_dialect, target_dialect)
    if known is not None:
        name, pack = known
        rules = [replace(rule, confidence=1.0, evidence=f"pack {name}") for rule in pack.rules]
        return replace(pack, rules=tuple(rules))
    here, there = Places(source_dialect, source), Places(target_dialect, target)
    seen = survey(source_dialect, {folded: source[name] for folded, name in here.names.items()})
    wanted = survey(target_dialect, {folded: target[name] for folded, name in there.names.items()})
    again = {id(s) for s in seen if all(here.name(name) in (ties or {}) for name in s.names)}
    pairs = pair(source_dialect, target_dialect, [s for s in seen if id(s) not in again], wanted)
    used = {id(p.target) for p in pairs}
    # other names of a tensor come last: the target may keep them apart, or not at all
    pairs += pair(
        source_dialect,
        target_dialect,
        [s for s in seen if id(s) in again],
        [s for s in wanted if id(s) not in used],
    )
    pairs = _like_siblings(pairs)
    options = _feature_maps(pairs, source_dialect, target_dialect)
    pairs.sort(key=lambda found: found.source.order)
    lines = [_rule(p, options.get(id(p), {}), source_dialect, target_dialect) for p in pairs]
    placed = {here.name(name) for p in pairs for name in p.source.names}
    filled = {there.name(name) for p in pairs for name in p.target.names}
    tied = [
        Rule(name, None, tied_source=owner, confidence=1.0, evidence="the same tensor")
        for name, owner in (ties or {}).items()
        if name in source and name not in placed
    ]
    placed.update(rule.source for rule in tied if rule.source is not None)
    remarks = [
        *[_unmatched("source", name, source[name]) for name in source if name not in placed],
        *[_unmatched("target", name, target[name]) for name in target if name not in filled],
    ]
    return Mapping(
        source_dialect, target_dialect, (*generalize(lines, here), *tied), remarks=tuple(remarks)
    )


def _unmatched(side: str, name: str, shape: Shape) -> str:
    told = "×".join(map(str, shape)) or "a scalar"
    return f"nothing found for the {side}'s {name} ({told})"


def _rule(
    found: Pair,
    options: AbstractMapping[str, tuple[int, ...]],
    source: Dialect,
    target: Dialect,
) -> Rule:
    """The line of one pair."""
    confidence, evidence = found.confidence, found.evidence
    if found.kind is Kind.PLAIN:
        return _plain(found, source, target)
    kind = found.kind
    if "shape" in options:
        kind, confidence = Kind.FLATTEN_LINEAR, min(confidence, 0.5)
        evidence = f"{evidence}; after a convolution: check the shape of its maps"
    return Rule(
        _shorter(found.source.path, source),
        _shorter(found.target.path, target),
        layer=True,
        kind=kind,
        options=options,
        confidence=confidence,
        evidence=evidence,
    )


def _shorter(path: str, dialect: Dialect) -> str:
    """A layer's path without the `*` at its end, which goes without saying."""
    return path.removesuffix(f"{dialect.separator}*") if path != "*" else path


def _plain(found: Pair, source: Dialect, target: Dialect) -> Rule:
    """The line of a leaf of its own: no kind where its shape leaves several layouts open."""
    (stem, shape), (other, wanted) = (
        next(iter(s.leaves.items())) for s in (found.source, found.target)
    )
    rule = Rule(
        found.source.path.replace("*", stem),
        found.target.path.replace("*", other),
        kind=Kind.PLAIN,
        confidence=found.confidence,
        evidence=found.evidence,
    )
    if source.family == target.family or (shape == wanted and _one_layout(shape)):
        return rule
    if len(shape) == 2 and shape != wanted:
        told = "turned: nothing else has its shape"
        return replace(rule, kind=None, confidence=min(found.confidence, 0.6), evidence=told)
    told = "unknown layout: add its kind or axes"
    return replace(rule, kind=None, confidence=min(found.confidence, 0.1), evidence=told)


def _one_layout(shape: Shape) -> bool:
    long = [n for n in shape if n > 1]
    return len(set(long)) == len(long)


def _like_siblings(pairs: Sequence[Pair]) -> list[Pair]:
    """Square matrices, whose kind no shape settles, of the one kind that all others have."""
    kinds = {p.kind for p in pairs if p.kind in _MATRICES and not _square(p)}
    if len(kinds) != 1 or kinds == {Kind.LINEAR}:
        return list(pairs)
    kind = kinds.pop()
    return [
        replace(p, kind=kind, evidence=f"{p.evidence}; {kind} like the others")
        if p.kind in _MATRICES and _square(p) and kind in p.source.kinds and kind in p.target.kinds
        else p
        for p in pairs
    ]


def _square(found: Pair) -> bool:
    weight = max(found.source.leaves.values(), key=len)
    return len(weight) == 2 and weight[0] == weight[1]


_MATRICES = (Kind.LINEAR, Kind.LINEAR_IN_OUT, Kind.HF_CONV1D)
_CONVOLUTIONS = {Kind.CONV1D: 1, Kind.CONV2D: 2, Kind.CONV3D: 3, Kind.DEPTHWISE: 2,
                 Kind.CONV_TRANSPOSE: 2}  # fmt: skip


def _feature_maps(
    pairs: Sequence[Pair], source: Dialect, target: Dialect
) -> dict[int, dict[str, tuple[int, ...]]]:
    """Shapes of the maps that were flattened, for linear layers that follow a convolution of
    fewer channels than they have inputs."""
    if (source is Dialect.TORCH) == (target is Dialect.TORCH):
        return {}
    found: dict[int, dict[str, tuple[int, ...]]] = {}
    channels: tuple[int, int] | None = None
    for one in sorted(pairs, key=lambda p: _torch_side(p, source).order):
        weight = _torch_side(one, source).leaves.get("weight", ())
        if one.kind in _CONVOLUTIONS:
            transposed = one.kind is Kind.CONV_TRANSPOSE
            channels = weight[1 if transposed else 0], len(weight) - 2
        elif one.kind is Kind.LINEAR and channels is not None:
            count, spatial = channels
            channels = None
            if weight[1] > count and weight[1] % count == 0:
                found[id(one)] = {"shape": (count, *_sides(weight[1] // count, spatial))}
    return found


def _torch_side(found: Pair, source: Dialect) -> Sighting:
    return found.source if source is Dialect.TORCH else found.target


def _sides(area: int, spatial: int) -> tuple[int, ...]:
    """The most even sides of a map of `area` elements."""
    if spatial < 2:
        return (area,)
    side = isqrt(area) if spatial == 2 else round(area ** (1 / spatial))
    while area % side:
        side -= 1
    return (side, *_sides(area // side, spatial - 1))
