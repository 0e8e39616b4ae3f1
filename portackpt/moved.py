"""A run on its way: in the target's names and layouts, not yet in the target's spelling.

The meaning of a source is lifted (`run.Run`), carried over to the target's names (`carrying`), and
lowered by the target's dialect into a tree. The leaves of that tree are `Moved`: values that know
which leaves of the source they came from and what was done to them. The ledger is read off them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from portackpt.errors import AmbiguousError
from portackpt.ledger import Fate, consequences, worst
from portackpt.optimizers import Algorithm, Group
from portackpt.run import Run, Scheduled, Stream
from portackpt.tree import Node


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """A value for one leaf of the target, and how it came about: the fields of a ledger's entry.

    `sources` are paths of leaves of the source: none where the value is `created`.
    """

    value: Node
    sources: tuple[str, ...] = ()
    fate: Fate = Fate.EXACT
    detail: str = ""
    consequence: str = ""
    tolerance: float | None = None
    assumption: str = ""

    def then(
        self,
        value: Node,
        fate: Fate,
        detail: str,
        consequence: str = "",
        tolerance: float | None = None,
    ) -> Moved:
        """This value after one more step."""
        known = [t for t in (self.tolerance, tolerance) if t is not None]
        return replace(
            self,
            value=value,
            fate=self.fate if self.fate is Fate.CREATED else worst(self.fate, fate),
            detail="; ".join(filter(None, (self.detail, detail))),
            consequence=consequences(self.consequence, consequence),
            tolerance=max(known) if known else None,
        )


def created(value: Node, detail: str, consequence: str = "none") -> Moved:
    """A value that the target needs and the source does not have."""
    return Moved(value, (), Fate.CREATED, detail, consequence)


@dataclass(frozen=True, slots=True, eq=False)
class MovedOptimizer:
    """An optimizer whose parameters have the target's names.

    `groups` have canonical hyperparameters, those given by the user among them; `slots` by the
    target's FQN and canonical slot name, in canonical units and the target's layout; `step` the
    count of updates, `steps` those of single parameters where they differ from it.
    """

    name: str
    algorithm: Algorithm
    groups: tuple[Group, ...]
    slots: Mapping[str, Mapping[str, Moved]]
    step: Moved
    steps: Mapping[str, Moved] = field(default_factory=dict)

    def need(self, *names: str) -> None:
        """Raise `AmbiguousError` where a group does not say the hyperparameters of these names."""
        missing = [
            name for name in names if any(name not in g.hyperparameters for g in self.groups)
        ]
        if missing:
            flags = " ".join([f"--set {name}=VALUE" for name in missing])
            raise AmbiguousError(
                f"the source does not say {', '.join(missing)} of its optimizer "
                f"({self.algorithm}); give {flags}, or carry its state as it stands with "
                "--set optimizer=native",
                self.name,
            )

    def of(self, name: str, default: Any = None) -> Any:
        """A hyperparameter of the first group."""
        return self.groups[0].hyperparameters.get(name, default) if self.groups else default


@dataclass(frozen=True, slots=True, eq=False)
class MovedRun:
    """What a dialect lowers. Names are the target's; `ties` are names of what another one owns.

    A schedule's groups are those of the one optimizer, in their order.
    """

    parameters: Mapping[str, Moved]
    buffers: Mapping[str, Moved]
    ties: Mapping[str, str]
    optimizers: tuple[MovedOptimizer, ...] = ()
    schedules: tuple[Scheduled, ...] = ()
    streams: tuple[Stream, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A checkpoint that the target's program wrote before training, and what it means."""

    tree: Node
    run: Run


@dataclass(frozen=True, slots=True, eq=False)
class Lowered:
    """A run in one dialect's spelling.

    `tree` has `Moved` leaves (any other leaf of it is kept from a template). `code` is for the
    target's program: it builds the optimizer and the schedule and says how to go on. `notes` are
    fates of source leaves that became no leaf: by path (of a leaf or of a whole subtree), what
    became of it and its consequence for the run (`none`: it is in the code).
    """

    tree: Node
    code: str = ""
    notes: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def placed(tree: Node, values: Mapping[str, Moved]) -> Node:
    """A template's tree with `values` at these paths."""
    from portackpt.tree import rebuild

    return rebuild(tree, lambda path, leaf: values.get(path, leaf))


def flat(values: Sequence[Moved]) -> tuple[str, ...]:
    """The sources of several values, each once."""
    return tuple(dict.fromkeys(path for value in values for path in value.sources))
