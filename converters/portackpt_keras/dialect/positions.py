"""Optimizer variables by position: `optimizer/vars/0`, `1`, … of `.keras` and `.weights.h5`.

What an option adds (an average, a maximum) moves all that follows. The configuration says which
options there were; without one, the shapes do: the first layout in which every slot of a parameter
has one shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from operator import mul
from typing import Any

from portackpt.optimizers import Algorithm, Origin, Slot
from portackpt.tensor import Tensor
from portackpt_keras.dialect.optimizer_classes import Class

_FACTORS = (Slot.ROW_MOMENT, Slot.COLUMN_MOMENT)
ACCUMULATOR = "gradient_accumulator"


@dataclass(frozen=True, slots=True)
class Layout:
    """Variables after iteration and learning rate: blocks, slots of each parameter, blocks."""

    before: tuple[str, ...]
    each: tuple[str, ...]
    after: tuple[str, ...]
    extra: int

    def place(self, arrays: Sequence[Origin]) -> list[dict[str, Origin]] | None:
        """The slots of each parameter; None where the arrays do not fit."""
        width = len(self.before) + len(self.each) + len(self.after)
        count = len(arrays) - self.extra
        if count < 0 or not width or count % width:
            return None
        n = count // width
        found: list[dict[str, Origin]] = [{} for _ in range(n)]
        at = 0
        for name in self.before:
            at = _block(found, name, arrays, at)
        for own in found:
            for name in self.each:
                own[name] = arrays[at]
                at += 1
        for name in self.after:
            at = _block(found, name, arrays, at)
        return found if all(map(_fits, found)) else None


def _block(found: list[dict[str, Origin]], name: str, arrays: Sequence[Origin], at: int) -> int:
    for own in found:
        own[name] = arrays[at]
        at += 1
    return at


def _fits(slots: Mapping[str, Origin]) -> bool:
    shapes = {origin.value.shape for name, origin in slots.items() if name not in _FACTORS}
    return len(shapes) == 1


def place(
    kind: Class, arrays: Sequence[Origin], config: Mapping[str, Any] | None, parameters: int
) -> tuple[list[dict[str, Origin]], str]:
    """The slots of each parameter in the order of the variables, and what was assumed.

    The model has as many `parameters`; one that is not trained has no slots.
    """
    if kind.algorithm is Algorithm.MUON:
        return [], "Keras' Muon has one or two arrays a parameter: they are not told apart"
    placed = [found for layout in _layouts(kind, config)
              if (found := layout.place(arrays)) is not None]  # fmt: skip
    if placed:
        fitting = [one for one in placed if len(one) == parameters] or placed
        if config is not None:
            return fitting[0], ""
        others = "" if len(fitting) == 1 else "; others fit them, too"
        return fitting[0], f"its options are taken from the shapes{others}"
    if not arrays[kind.extra :]:
        return [], ""
    return [], f"{len(arrays)} arrays are not the slots of this class: they are not told apart"


def _layouts(kind: Class, config: Mapping[str, Any] | None) -> Iterator[Layout]:
    before = ((Slot.AVERAGE, "use_ema"), (ACCUMULATOR, "gradient_accumulation_steps"))
    blocks = [(str(name), option) for name, option in before]
    blocks += [(str(name), option) for option, name in kind.blocks]
    choices = [_choice(option, config) for _, option in blocks]
    # the class's own options first, then an average, then accumulated gradients
    costs = (20, 30, *[10 + i for i in range(len(kind.blocks))])
    for chosen in sorted(product(*choices), key=lambda used: sum(map(mul, used, costs))):
        used = [name for (name, _), use in zip(blocks, chosen, strict=True) if use]
        first = tuple([name for name in used if name in (Slot.AVERAGE, ACCUMULATOR)])
        rest = tuple([name for name in used if name not in first])
        yield Layout(first, tuple(map(str, kind.each)), rest, kind.extra)


def _choice(option: str, config: Mapping[str, Any] | None) -> tuple[bool, ...]:
    if not option:
        return (True,)
    return (False, True) if config is None else (bool(config.get(option)),)


def split(variables: Sequence[Origin]) -> tuple[Origin | None, list[Origin]]:
    """The iteration, and the arrays without the learning rate that may follow it."""
    if not variables:
        return None, []
    rest = list(variables[1:])
    if rest and isinstance(rest[0].value, Tensor) and rest[0].value.shape == ():
        rest.pop(0)
    return variables[0], rest
