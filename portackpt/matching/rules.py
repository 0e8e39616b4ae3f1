"""Rules: one line of a mapping file each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from portackpt.errors import UsageError
from portackpt.layouts.dialects import Dialect
from portackpt.layouts.kinds import Kind
from portackpt.matching.patterns import Pattern

Options = Mapping[str, int | tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Rule:
    """Names of the source, and what they are in the target.

    `source` and `target` are patterns; None where that side has no such leaf. A `layer` has all the
    leaves that its `kind` has, under the names of each dialect; else the rule is about one leaf,
    whose layout is that of its `kind`, or `axes` (`out in -> in out`), or the same on both sides.
    `options` are sizes of axes, and `shape`, that of feature maps before they were flattened.

    A leaf without counterpart has a `reason`. `tied` is a name on the same side whose values the
    leaf shares; with a counterpart, it is so where the counterpart is not there.
    `confidence` (0 to 1) and `evidence` are of a proposal.
    """

    source: str | None
    target: str | None
    layer: bool = False
    kind: Kind | None = None
    axes: str = ""
    options: Options = field(default_factory=dict)
    reason: str = ""
    tied_source: str = ""
    tied_target: str = ""
    confidence: float | None = None
    evidence: str = ""

    def inverse(self) -> Rule:
        before, arrow, after = self.axes.partition("->")
        return replace(
            self,
            source=self.target,
            target=self.source,
            axes=f"{after.strip()} -> {before.strip()}" if arrow else "",
            tied_source=self.tied_target,
            tied_target=self.tied_source,
        )

    def patterns(self, source: Dialect, target: Dialect) -> tuple[Pattern | None, Pattern | None]:
        """The two sides; `UsageError` where one captures what the other does not use."""
        here, there = (
            None if text is None else Pattern(text, dialect.separator)
            for text, dialect in ((self.source, source), (self.target, target))
        )
        if here is not None and there is not None and here.captures != there.captures:
            odd = ", ".join(sorted(here.captures ^ there.captures))
            raise UsageError(
                f"{self.source!r} and {self.target!r} do not capture the same: {odd} is in one only"
            )
        return here, there

    def __str__(self) -> str:
        sides = [side for side in (self.source, self.target) if side is not None]
        return " = ".join(repr(side) for side in sides)
