"""Surveying: which layers a program has, as far as the names and ranks of its leaves tell.

A layer is known by its leaves: `kernel` and `bias` of one path are one layer, `query/kernel`,
`key/kernel` and so on one attention. What kind it is, names often leave open (PyTorch calls every
weight `weight`): a sighting keeps all the kinds that fit, and its counterpart decides.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

from portackpt.errors import PortackptError
from portackpt.layouts.dialects import Dialect, spellings
from portackpt.layouts.kinds import CANONICAL, Kind
from portackpt.layouts.translation import Shape, Shapes, leaf_names, parts_by_leaf, translate

SUFFIXES = ("/value", "/raw_value", "/.ATTRIBUTES/VARIABLE_VALUE", ":0")
"""What some programs write after every name: nnx, TensorFlow's object graphs, its variables."""

_ORDER = (
    Kind.BATCH_NORM, Kind.MULTIHEAD_ATTENTION, Kind.LSTM, Kind.GRU, Kind.WEIGHT_NORM,
    Kind.CONV1D, Kind.CONV2D, Kind.CONV3D, Kind.LINEAR, Kind.EMBEDDING, Kind.RMS_NORM,
    Kind.LAYER_NORM, Kind.GROUP_NORM, Kind.PRELU, Kind.DEPTHWISE, Kind.CONV_TRANSPOSE,
    Kind.LINEAR_IN_OUT, Kind.HF_CONV1D,
)  # fmt: skip
"""Kinds that can be seen, the likelier first."""
_HINTS = {
    Kind.CONV_TRANSPOSE: r"conv\w*[_.]?transpose|transpose\w*conv|deconv|upconv",
    Kind.CONV1D: r"conv(?!\w*[_.]?transpose)",
    Kind.CONV2D: r"conv(?!\w*[_.]?transpose)",
    Kind.CONV3D: r"conv(?!\w*[_.]?transpose)",
    Kind.DEPTHWISE: r"depthwise|dwconv",
    Kind.EMBEDDING: r"embed|wte|wpe|lookup|codebook",
    Kind.LAYER_NORM: r"layer_?norm|(^|[/._])ln([/._\d]|$)",
    Kind.BATCH_NORM: r"batch_?norm|(^|[/._])bn([/._\d]|$)",
    Kind.GROUP_NORM: r"group_?norm|instance_?norm|(^|[/._])gn([/._\d]|$)",
    Kind.RMS_NORM: r"rms_?norm",
    Kind.PRELU: r"p_?re_?lu",
    Kind.LSTM: r"lstm",
    Kind.GRU: r"gru",
    Kind.LINEAR: r"linear|dense|(^|[/._])fc\d*([/._]|$)|proj|head|classifier|mlp",
}
_SEEN = {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in _HINTS.items()}


@dataclass(frozen=True)
class Sighting:
    """A layer at `path` (folded, with `*` where its leaves stand), or a leaf of its own.

    `leaves` are shapes by the leaf's name in the layer, `kinds` what it can be, the likelier first,
    `hinted` those of them that its path suggests; `weight` is the number of its elements but for
    biases, the same in every layout; `order` is its place in the program.
    """

    path: str
    leaves: Mapping[str, Shape]
    kinds: tuple[Kind, ...]
    hinted: frozenset[Kind]
    weight: int
    order: int

    @cached_property
    def signature(self) -> tuple[object, ...]:
        """What decides which counterparts it fits."""
        return (tuple(sorted(self.leaves.items())), self.kinds, self.hinted)

    @property
    def names(self) -> list[str]:
        """The (folded) names of its leaves."""
        return [self.path.replace("*", stem) for stem in self.leaves]

    @property
    def name(self) -> str:
        return self.path.replace("*", "").strip("/.")

    def below(self, parts: int) -> str:
        """Its name without the first `parts` components."""
        return "/".join(re.split("[/.]", self.name)[parts:])


def suffix(names: Iterable[str]) -> str:
    """What stands after every name."""
    found = list(names)
    return next((s for s in SUFFIXES if found and all(n.endswith(s) for n in found)), "")


def survey(dialect: Dialect, leaves: Shapes) -> list[Sighting]:
    """The layers that `leaves` (by folded name) belong to, in their order."""
    end = suffix(leaves)
    groups: dict[str, dict[str, str]] = {}
    stems = _stems(dialect)
    for name in leaves:
        for path, stem in _readings(name.removesuffix(end), dialect.separator, stems):
            groups.setdefault(path, {})[stem] = name
    found: list[Sighting] = []
    taken: set[str] = set()
    order = {name: index for index, name in enumerate(leaves)}
    # layers of many leaves first: an attention is not four linear layers
    for path in sorted(groups, key=lambda p: (-_depth(groups[p]), -len(groups[p]), p)):
        members = {stem: name for stem, name in groups[path].items() if name not in taken}
        shapes = {stem: leaves[name] for stem, name in members.items()}
        kinds = kinds_of(dialect, shapes)
        if not kinds:
            continue
        taken.update(members.values())
        first = min(order[name] for name in members.values())
        hinted = frozenset(k for k in kinds if k in _SEEN and _SEEN[k].search(path))
        weight = _weight(dialect, kinds[0], shapes)
        found.append(Sighting(path + end, shapes, kinds, hinted, weight, first))
    for name, shape in leaves.items():
        if name not in taken:
            alone = (Kind.PLAIN,)
            found.append(Sighting(name, {"": shape}, alone, frozenset(), prod(shape), order[name]))
    return sorted(found, key=lambda sighting: sighting.order)


def _weight(dialect: Dialect, kind: Kind, shapes: Shapes) -> int:
    heavy: set[str] = set()
    for spelling in spellings(dialect, kind):
        held = parts_by_leaf(kind, spelling)
        heavy |= {n for n, parts in held.items() if not all(_LIGHT.search(p) for p in parts)}
    return sum(prod(shape) for name, shape in shapes.items() if name in heavy)


_LIGHT = re.compile("bias|batches")


def _depth(members: Mapping[str, str]) -> int:
    return max(stem.count("/") + stem.count(".") for stem in members)


@lru_cache
def _stems(dialect: Dialect) -> frozenset[str]:
    return frozenset(name for kind in _ORDER for name in leaf_names(kind, dialect))


def _readings(name: str, separator: str, stems: frozenset[str]) -> Iterable[tuple[str, str]]:
    """Ways to read a name as a layer (with `*` for the leaf) and a leaf."""
    parts = name.split(separator)
    for count in (1, 2, 3):
        if count > len(parts):
            return
        stem = separator.join(parts[-count:])
        head = separator.join(parts[:-count])
        if stem in stems:
            yield f"{head}{separator}*" if head else "*", stem
        # torch.nn.LSTM writes weight_ih_l0, and weight_ih_l0_reverse
        cell = re.fullmatch(r"((?:weight|bias)_[ih]h)(_l\d+(?:_reverse)?)", stem)
        if cell and cell[1] in stems:
            yield f"{head}{separator}*{cell[2]}" if head else f"*{cell[2]}", cell[1]


def kinds_of(dialect: Dialect, shapes: Shapes) -> tuple[Kind, ...]:
    """Kinds whose leaves these can be."""
    leaves = tuple(sorted(shapes.items()))
    return tuple([kind for kind in _ORDER if _fits(dialect, kind, leaves)])


@lru_cache(maxsize=1 << 14)
def _fits(dialect: Dialect, kind: Kind, leaves: tuple[tuple[str, Shape], ...]) -> bool:
    """True when the leaves are those of `kind`: none foreign, none essential missing, of its ranks.

    Checked by writing the layer in its own dialect.
    """
    shapes = dict(leaves)
    essential = _essential(dialect, kind)
    if not any(names <= set(shapes) for names in essential):
        return False
    try:
        moves = translate(kind, dialect, dialect, shapes, shapes).moves
    except PortackptError:
        return False
    sizes = [dict(move.regroup.sizes) for move in moves]
    return all(s["hidden"] == s["recurrent"] for s in sizes if "recurrent" in s)


@lru_cache
def _essential(dialect: Dialect, kind: Kind) -> tuple[frozenset[str], ...]:
    """Leaves without which there is no layer of `kind`, for each of its spellings."""
    needed = {part for part in CANONICAL[kind] if not _LIGHT.search(part)}
    if kind is Kind.BATCH_NORM:
        needed = {"mean", "variance"}
    return tuple(
        frozenset(name for name, parts in parts_by_leaf(kind, spelling).items() if parts & needed)
        for spelling in spellings(dialect, kind)
    )


def grouped(sightings: Iterable[Sighting]) -> dict[object, list[Sighting]]:
    """Sightings that differ in the numbers of their names only, in the order of these."""
    found: defaultdict[object, list[Sighting]] = defaultdict(list)
    for sighting in sightings:
        found[re.sub(r"\d+", "0", _numbered(sighting.path)), sighting.signature].append(sighting)
    for members in found.values():
        members.sort(key=lambda sighting: numbers(sighting.path))
    return dict(found)


def numbers(path: str) -> tuple[int, ...]:
    """The numbers in a name, in order."""
    return tuple([int(n) for n in re.findall(r"\d+", _numbered(path))])


def _numbered(path: str) -> str:
    """Keras names layers `dense`, `dense_1`, …: the first is number 0, too."""
    return re.sub(r"([a-z])(?=/|$)", r"\1_0", path)


def shared(sightings: Iterable[Sighting]) -> int:
    """How many components all names begin with: they tell nothing."""
    split = [re.split("[/.]", sighting.name) for sighting in sightings]
    if len(split) < 2:
        return 0
    first, last = min(split), max(split)
    same = 0
    while same < min(len(first), len(last)) - 1 and first[same] == last[same]:
        same += 1
    return same
