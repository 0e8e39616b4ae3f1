"""Which parameter of the model is number i of the optimizer?

torch numbers the parameters of all groups one after the other. Newer files say their names; in
others the shapes of the slots and the model's order are the evidence: in every group parameters
stand in the model's order, so that the groups are an interleaving of the model's parameters. One
interleaving that fits the shapes is an assumption; several leave it open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Key: TypeAlias = Hashable
Shape: TypeAlias = tuple[int, ...] | None
"""The shape of a parameter's slots; None where it has none that tells."""
_Way: TypeAlias = tuple[int, "_Way"] | None
"""The group of each parameter so far (-1: in none), the last first."""
_WORK = 4_000_000
_SETTLE = "list the names in the optimizer's order in a file and pass --set parameters=FILE"


@dataclass(frozen=True, slots=True)
class Model:
    """Parameters of a model by FQN, no buffers and no tied name twice; `ordered` where they stand
    in the model's order (safetensors sorts names)."""

    shapes: Mapping[str, tuple[int, ...]]
    ordered: bool


@dataclass(frozen=True, slots=True)
class Assignment:
    """The FQN of each key, and what was assumed or is open; without `names` nothing fits."""

    names: Mapping[Key, str] = field(default_factory=dict)
    assumption: str = ""
    ambiguity: str = ""


def assign(
    groups: Sequence[Sequence[Key]], shapes: Mapping[Key, Shape], model: Model
) -> Assignment:
    """The parameters of `model` that the keys of `groups` stand for, by `shapes` and order."""
    flat = [key for keys in groups for key in keys]
    if all(key in model.shapes for key in flat):
        return Assignment({key: str(key) for key in flat})
    count, names = len(flat), list(model.shapes)
    wanted = [[shapes.get(key) for key in keys] for keys in groups]
    if not model.ordered:
        return _by_shape(flat, shapes, model)
    ways = _interleavings(wanted, list(model.shapes.values()))
    if ways is None:
        return Assignment(ambiguity=f"too many orders of {count} parameters may fit; {_SETTLE}")
    if not ways:
        return _none(count, len(groups), len(names))
    first = _numbered(groups, ways[0], names)
    if len(ways) == 1:
        return Assignment(
            first, f"{count} numbered parameters are the model's, in its order (shapes agree)"
        )
    second = _numbered(groups, ways[1], names)
    key = next(key for key in flat if first[key] != second[key])
    return Assignment(ambiguity=(
        f"parameter {key!r} of the optimizer may be {first[key]!r} or {second[key]!r}: several "
        f"orders fit the shapes; {_SETTLE}"
    ))  # fmt: skip


def _none(count: int, groups: int, parameters: int) -> Assignment:
    return Assignment(ambiguity=(
        f"the optimizer has {count} parameters in {groups} groups, the model {parameters}, and no "
        f"order of them fits the shapes; {_SETTLE}"
    ))  # fmt: skip


def _by_shape(flat: Sequence[Key], shapes: Mapping[Key, Shape], model: Model) -> Assignment:
    """Without an order, a shape that only one parameter has is the evidence."""
    owners = {shape: name for name, shape in model.shapes.items()}
    counts = Counter(model.shapes.values())
    wanted = Counter([shapes.get(key) for key in flat])
    if any(shape is not None and n > counts[shape] for shape, n in wanted.items()):
        return _none(len(flat), 1, len(model.shapes))
    names: dict[Key, str] = {}
    for key in flat:
        shape = shapes.get(key)
        if shape is None or counts[shape] != 1:
            alike = [n for n, s in model.shapes.items() if shape is None or s == shape][:3]
            return Assignment(ambiguity=(
                f"parameter {key!r} of the optimizer may be {' or '.join(map(repr, alike))}: the "
                f"model's names are sorted, and their order tells nothing; {_SETTLE}"
            ))  # fmt: skip
        names[key] = owners[shape]
    return Assignment(names, f"{len(flat)} numbered parameters are those with their shapes")


def _numbered(
    groups: Sequence[Sequence[Key]], way: Sequence[int], names: Sequence[str]
) -> dict[Key, str]:
    waiting = [iter(keys) for keys in groups]
    return {
        next(waiting[group]): name for name, group in zip(names, way, strict=True) if group >= 0
    }


def _interleavings(
    groups: Sequence[Sequence[Shape]], model: Sequence[tuple[int, ...]]
) -> list[list[int]] | None:
    """Up to two ways to give each model parameter a group (-1: in none) that use up all groups.

    None where there are too many to look at. A parameter in no group is allowed only where the
    counts say that some are left over.
    """
    spare = len(model) - sum(map(len, groups))
    if spare < 0:
        return []
    # for each state (how many of each group are taken) the first two ways that lead there
    front: dict[tuple[int, ...], list[_Way]] = {(0,) * len(groups): [None]}
    work = 0
    for index, shape in enumerate(model):
        following: dict[tuple[int, ...], list[_Way]] = {}
        work += len(front) * (len(groups) + 1)
        if work > _WORK:
            return None
        for taken, ways in front.items():
            for group, sequence in enumerate(groups):
                at = taken[group]
                if at < len(sequence) and sequence[at] in (None, shape):
                    _extend(following, (*taken[:group], at + 1, *taken[group + 1 :]), ways, group)
            if index - sum(taken) < spare:
                _extend(following, taken, ways, -1)
        front = following
    return [_unrolled(way) for way in front.get(tuple(map(len, groups)), [])]


def _extend(
    following: dict[tuple[int, ...], list[_Way]],
    state: tuple[int, ...],
    ways: Sequence[_Way],
    group: int,
) -> None:
    kept = following.setdefault(state, [])
    kept += [(group, way) for way in ways[: 2 - len(kept)]]


def _unrolled(way: _Way) -> list[int]:
    found: list[int] = []
    while way is not None:
        found.append(way[0])
        way = way[1]
    found.reverse()
    return found
