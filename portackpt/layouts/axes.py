"""Axes: the layout of a tensor in one line of text, and the way from one such line to another.

    out in ...              a convolution's weight in PyTorch
    ... in out              the same in Flax and Keras
    ~... in out             with its spatial axes in reverse order
    out (channel ...)       the first linear layer after the feature maps were flattened
    (gate hidden) in        gates one after another along the first dimension

Names stand for axes; parentheses merge axes into one dimension, in C order; `...` is every spatial
axis there is, `~` marks an axis that runs backward, `1` a dimension of one element, and `1...` one
such dimension for every spatial axis. Two lines that name the same axes are two layouts of the same
values: what leads from one to the other is declared, and inverts by being read backward.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from portackpt.errors import UsageError
from portackpt.layouts.transforms import (
    Chain,
    Flip,
    Insert,
    Permute,
    Remove,
    Transform,
    Unflatten,
)
from portackpt.tensor import Tensor

Sizes = Mapping[str, int]
_TOKEN = re.compile(r"\s*(~?\.\.\.|1\.\.\.|~?[A-Za-z_][A-Za-z0-9_]*|1(?![\w.])|[()])")


@dataclass(frozen=True, slots=True)
class Axes:
    """A parsed line: the names merged in each dimension (none: one element), and which run back."""

    text: str
    dimensions: tuple[tuple[str, ...], ...]
    backward: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple([name for dimension in self.dimensions for name in dimension])

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        return tuple([prod([sizes[name] for name in names]) for names in self.dimensions])


@lru_cache(maxsize=1 << 10)
def parse(text: str, spatial: int = 0) -> Axes:
    """The line `text` for a layer with `spatial` spatial axes."""
    dimensions: list[tuple[str, ...]] = []
    backward: set[str] = set()
    merged: list[str] | None = None
    for token in _tokens(text):
        if token == "(" and merged is None:
            merged = []
        elif token == ")" and merged is not None:
            dimensions.append(tuple(merged))
            merged = None
        elif token in "()1" and not (token == "1" and merged is None):
            raise UsageError(f"misplaced {token!r} in the axes {text!r}")
        elif token == "1...":
            dimensions.extend([()] * spatial)
        elif token == "1":
            dimensions.append(())
        else:
            name = token.removeprefix("~")
            names = [f"space{i}" for i in range(spatial)] if name == "..." else [name]
            if token.startswith("~"):
                backward.update(names)
            if merged is None:
                dimensions.extend([(each,) for each in names])
            else:
                merged.extend(names)
    found = Axes(text, tuple(dimensions), frozenset(backward))
    if merged is not None or len(set(found.names)) != len(found.names):
        raise UsageError(f"an open parenthesis or a name that comes twice in the axes {text!r}")
    return found


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    stripped = text.rstrip()
    while at < len(stripped):
        match = _TOKEN.match(stripped, at)
        if match is None:
            raise UsageError(f"cannot read {stripped[at:]!r} in the axes {text!r}")
        tokens.append(match[1])
        at = match.end()
    return tokens


def spatial_axes(text: str, shape: tuple[int, ...]) -> int | None:
    """How many spatial axes a tensor of `shape` has; None where the line does not tell."""
    tokens = _tokens(text)
    depth = 0
    fixed = 0
    open_ellipsis = False
    for token in tokens:
        depth += (token == "(") - (token == ")")
        if token.endswith("..."):
            open_ellipsis = open_ellipsis or depth == 0
        elif token == ")" or (depth == 0 and token != "("):
            fixed += 1
    return len(shape) - fixed if open_ellipsis else None


def solve(axes: Axes, shape: tuple[int, ...], sizes: dict[str, int]) -> str | None:
    """Add to `sizes` what `shape` tells of the axes; the reason where it does not fit them."""
    if len(shape) != len(axes.dimensions):
        return f"{_spell(shape)} does not have the {len(axes.dimensions)} axes {axes.text!r}"
    for names, n in zip(axes.dimensions, shape, strict=True):
        unknown = [name for name in names if name not in sizes]
        known = prod([sizes[name] for name in names if name in sizes])
        if len(unknown) == 1 and known and n % known == 0:
            sizes[unknown[0]] = n // known
        elif len(unknown) == 1 or (not unknown and known != n):
            told = " × ".join(f"{name} = {sizes.get(name, '?')}" for name in names) or "1"
            return f"{_spell(shape)} does not fit the axes {axes.text!r}: {n} is not {told}"
    return None


def _spell(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a scalar"


@dataclass(frozen=True, slots=True)
class Rearrange:
    """From the layout `before` to the layout `after` of the same axes, of the given sizes."""

    before: Axes
    after: Axes
    sizes: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return f"{self.before.text} -> {self.after.text}"

    def chain(self) -> Chain:
        """The steps: take apart, turn, put together."""
        sizes = dict(self.sizes)
        steps: list[Transform] = [*_apart(self.before, sizes)]
        names = [name for name in self.before.names if name in self.after.names]
        for name in self.before.names:
            if name not in names:  # of size 1, as `rearrange` made sure
                steps.append(Remove(_place(self.before.names, name, names)))
        backward = (self.before.backward ^ self.after.backward) & set(names)
        if turned := tuple([names.index(name) for name in names if name in backward]):
            steps.append(Flip(turned))
        wanted = [name for name in self.after.names if name in names]
        order = tuple([names.index(name) for name in wanted])
        if order != tuple(range(len(order))):
            steps.append(Permute(order))
        for index, name in enumerate(self.after.names):
            if name not in names:
                steps.append(Insert(index))
        together = Chain(tuple(_apart(self.after, sizes))).inverse()
        return Chain((*steps, *together.steps))

    def apply(self, tensor: Tensor) -> Tensor:
        return self.chain().apply(tensor)

    def inverse(self) -> Rearrange:
        return Rearrange(self.after, self.before, self.sizes)


def _place(names: tuple[str, ...], name: str, kept: list[str]) -> int:
    """Where `name` stands once the names before it that are not `kept` are gone."""
    return sum(other in kept for other in names[: names.index(name)])


def _apart(axes: Axes, sizes: dict[str, int]) -> list[Transform]:
    """The steps that give every name a dimension of its own."""
    steps: list[Transform] = []
    at = 0
    for names in axes.dimensions:
        if not names:
            steps.append(Remove(at))
        elif len(names) > 1:
            steps.append(Unflatten(at, tuple([sizes[name] for name in names])))
        at += len(names)
    return steps


def rearrange(before: Axes, after: Axes, sizes: Sizes) -> Rearrange:
    """The way from one layout to the other; every size has to be known."""
    names = dict.fromkeys((*before.names, *after.names))
    missing = [name for name in names if name not in sizes]
    if missing:
        raise UsageError(
            f"the sizes of {', '.join(missing)} are not known: the way from {before.text!r} to "
            f"{after.text!r} needs them"
        )
    for name in set(before.names) ^ set(after.names):
        if sizes[name] != 1:
            one = before if name in before.names else after
            raise UsageError(
                f"{name} has {sizes[name]} elements in {one.text!r}, and no place in the other "
                f"of {before.text!r} and {after.text!r}"
            )
    return Rearrange(before, after, tuple([(name, sizes[name]) for name in names]))
