"""Single leaves: the way of one tensor whose rule is about no whole layer."""

from __future__ import annotations

from portackpt.errors import AmbiguousError, UsageError
from portackpt.layouts.axes import Axes, parse, solve
from portackpt.layouts.dialects import Dialect, spellings
from portackpt.layouts.kinds import Kind
from portackpt.layouts.packing import Packed, Regroup
from portackpt.layouts.translation import Shape, leaf_names, translate, whole_axes
from portackpt.matching.rules import Rule


def single(
    rule: Rule, source: Dialect, target: Dialect, name: str, shape: Shape, wanted: Shape | None
) -> tuple[Regroup, str]:
    """How the leaf `name` of `shape` becomes the one of shape `wanted`, and what was assumed."""
    if rule.axes:
        return _by_axes(rule, shape, wanted), ""
    if rule.kind is not None and rule.kind is not Kind.PLAIN:
        return _by_kind(rule, rule.kind, source, target, name, shape, wanted), ""
    if rule.kind is Kind.PLAIN or source.family == target.family or len(shape) < 2:
        return _same(shape, wanted), ""
    return _by_rejection(name, shape, wanted)


def _by_axes(rule: Rule, shape: Shape, wanted: Shape | None) -> Regroup:
    before, after = whole_axes(rule.axes)
    sizes = {name: size for name, size in rule.options.items() if isinstance(size, int)}
    for axes, found in ((before, shape), (after, wanted), (before, shape)):
        fault = None if found is None else solve(axes, found, sizes)
        if fault:
            raise UsageError(fault)
    names = dict.fromkeys((*before.names, *after.names))
    missing = [name for name in names if name not in sizes]
    if missing:
        told = ", ".join(f"{name} = N" for name in missing)
        raise AmbiguousError(
            f"{rule.axes!r} does not show the size of {', '.join(missing)}; add {told} to its line "
            "in the mapping file and pass that with --map"
        )
    return _regroup(before, after, sizes)


def _by_kind(
    rule: Rule,
    kind: Kind,
    source: Dialect,
    target: Dialect,
    name: str,
    shape: Shape,
    wanted: Shape | None,
) -> Regroup:
    """The layout of the leaf of a layer of `kind` that `name` ends with."""
    stem = _stem(rule, kind, source, target)
    if stem is None:
        raise UsageError(
            f"{name} is no leaf of {kind} in {source}: those are "
            f"{', '.join(leaf_names(kind, source))}; give its line axes instead"
        )
    moves = translate(kind, source, target, {stem: shape}, None, rule.options).moves
    if len(moves) != 1 or len(moves[0].targets) != 1:
        raise UsageError(f"{stem} of {kind} is not one leaf in {target}: map the layer instead")
    regroup = moves[0].regroup
    if wanted is not None and regroup.shapes() != (wanted,):
        found = _spell(regroup.shapes()[0])
        raise UsageError(f"becomes {found}, and the template has {_spell(wanted)}")
    return regroup


def _stem(rule: Rule, kind: Kind, source: Dialect, target: Dialect) -> str | None:
    """The name of the leaf in the source's dialect, as either side of the rule shows."""
    leaves = [leaf for spelling in spellings(source, kind) for leaf in spelling.leaves]
    if len(leaves) == 1:
        return leaves[0].name
    for name, dialect in ((rule.source, source), (rule.target, target)):
        ending = (name or "").removesuffix(":0")
        known = [leaf for spelling in spellings(dialect, kind) for leaf in spelling.leaves]
        found = [leaf for leaf in known if ending.endswith(leaf.name)]
        if found:
            held = max(found, key=lambda leaf: len(leaf.name)).of
            return next((leaf.name for leaf in leaves if leaf.of == held), None)
    return None


def _same(shape: Shape, wanted: Shape | None) -> Regroup:
    if wanted is not None and wanted != shape:
        raise UsageError(f"is {_spell(shape)}, and the template has {_spell(wanted)}")
    axes = Axes("as it is", tuple([(f"axis{i}",) for i in range(len(shape))]), frozenset())
    return _regroup(axes, axes, {f"axis{i}": n for i, n in enumerate(shape)})


def _by_rejection(name: str, shape: Shape, wanted: Shape | None) -> tuple[Regroup, str]:
    """The only layout that the template's shape admits."""
    told = f"{name} of {_spell(shape)} has an unknown layer kind"
    advice = "give its line a kind or axes in the mapping file and pass that with --map"
    if wanted is None:
        raise AmbiguousError(f"{told}, and frameworks lay kinds out differently; {advice}")
    if len(shape) == 2:
        turned = wanted == shape[::-1]
        if wanted == shape and turned:
            raise AmbiguousError(
                f"{told}: a square matrix may be (out, in) in one framework and (in, out) in the "
                f"other; {advice}"
            )
        if turned:
            sizes = {"rows": shape[0], "columns": shape[1]}
            return _regroup(parse("rows columns"), parse("columns rows"), sizes), (
                "transposed: the template's shape admits nothing else"
            )
    elif wanted == shape and len(set(shape) - {1}) < len([n for n in shape if n > 1]):
        raise AmbiguousError(f"{told}: several orders of its axes have this shape; {advice}")
    if wanted != shape:
        raise AmbiguousError(f"{told}, and the template has {_spell(wanted)}; {advice}")
    return _same(shape, wanted), "not turned: the template's shape admits nothing else"


def _regroup(before: Axes, after: Axes, sizes: dict[str, int]) -> Regroup:
    leaves = [Packed("", axes, (), (("value",),), before) for axes in (before, after)]
    return Regroup((leaves[0],), (leaves[1],), tuple(sizes.items()))


def _spell(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "a scalar"
