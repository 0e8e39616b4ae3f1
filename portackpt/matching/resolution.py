"""Resolution: what every leaf of one program becomes in another, by the rules of a mapping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from portackpt.layouts.kinds import Kind
from portackpt.layouts.notes import Note
from portackpt.layouts.packing import Regroup
from portackpt.tensor import Tensor

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = Mapping[str, Shape]


@dataclass(frozen=True, slots=True)
class Assignment:
    """Source leaves that become target leaves.

    `notes` are about these leaves, `lost` names parts that have no place, with the reason;
    `assumption` is what neither a rule nor a name said.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    regroup: Regroup
    kind: Kind | None = None
    notes: tuple[Note, ...] = ()
    lost: tuple[tuple[str, str], ...] = ()
    assumption: str = ""

    @property
    def detail(self) -> str:
        """What is done to the bytes; empty where they stay as they are."""
        return str(self.regroup) if self.regroup.moves else ""

    def apply(self, tensors: Sequence[Tensor], *, slots: bool = False) -> tuple[Tensor, ...]:
        """The target leaves (or one slot of each) from the source leaves (or their slots)."""
        return self.regroup.apply(tensors, slots=slots)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What becomes of every leaf: each source leaf and each target leaf stands here once.

    `dropped` are source leaves without a place, with the reason; `kept` target leaves that keep
    what the template holds, with the reason; `zeros` target leaves of one integer zero.
    `tied_sources` and `tied_targets` are other names of a leaf that is assigned: (name, that
    leaf's name). `layers` are notes on how the target builds its layers, by kind.
    """

    assignments: tuple[Assignment, ...]
    dropped: tuple[tuple[str, str], ...] = ()
    kept: tuple[tuple[str, str], ...] = ()
    zeros: tuple[str, ...] = ()
    tied_sources: tuple[tuple[str, str], ...] = ()
    tied_targets: tuple[tuple[str, str], ...] = ()
    layers: tuple[tuple[Kind, Note], ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """Every target leaf that gets a value."""
        assigned = [name for assignment in self.assignments for name in assignment.targets]
        return (*assigned, *self.zeros, *[name for name, _ in self.tied_targets])

    @property
    def assumptions(self) -> tuple[tuple[str, str], ...]:
        """(source leaf, what was assumed of it)."""
        return tuple([(a.sources[0], a.assumption) for a in self.assignments if a.assumption])


@dataclass(slots=True)
class Faults:
    """All that keeps a mapping from being applied: found together, told together."""

    unmapped: list[str] = field(default_factory=list)
    ambiguous: list[tuple[str, str]] = field(default_factory=list)
    unfilled: list[str] = field(default_factory=list)
    doubly: list[tuple[str, str]] = field(default_factory=list)
    unfitting: list[tuple[str, str]] = field(default_factory=list)

    def told(self) -> str:
        """One sentence a kind of fault, with the leaves; empty where there is none."""
        sentences = [
            _sentence(self.unmapped, "no rule maps the source's leaf", "leaves"),
            _sentence(self.unfilled, "no rule fills the target's leaf", "leaves"),
            *[f"{name} is mapped twice: by {rules}" for name, rules in self.ambiguous],
            *[f"{name} is filled twice: by {rules}" for name, rules in self.doubly],
            *[f"{name}: {reason}" for name, reason in self.unfitting],
        ]
        return "; ".join(sentence for sentence in sentences if sentence)


def _sentence(names: Iterable[str], single: str, plural: str) -> str:
    found = list(names)
    if not found:
        return ""
    if len(found) == 1:
        return f"{single} {found[0]}"
    return f"{single.replace('leaf', plural)} {', '.join(found)}"
