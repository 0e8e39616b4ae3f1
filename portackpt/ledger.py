"""The ledger: what happens to every leaf on the way from a source to a target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

VERSION = 1


class Fate(StrEnum):
    """What became of a leaf, from best to worst."""

    EXACT = "exact"
    RELAYOUT = "relayout"
    EQUIVALENT = "equivalent"
    APPROXIMATE = "approximate"
    RESEEDED = "reseeded"
    DROPPED = "dropped"
    CREATED = "created"


_SEVERITY = {fate: rank for rank, fate in enumerate(Fate)}


MEANINGS: Mapping[Fate, str] = {
    Fate.EXACT: "The run goes on as if it had not moved: every value arrives bit for bit.",
    Fate.RELAYOUT: "The run goes on as if it had not moved: every value arrives, some of them in "
    "another order or container.",
    Fate.EQUIVALENT: "The run goes on as if it had not moved: some values are recomputed by a "
    "stated formula, and agree to the stated tolerance.",
    Fate.APPROXIMATE: "The run goes on, but departs from the one that never moved: some values "
    "are only close, or start anew.",
    Fate.RESEEDED: "The run goes on with other random numbers: its random streams continue from "
    "derived seeds.",
    Fate.DROPPED: "The run goes on without something it had: the target has no place for it.",
}
"""What each verdict means for the run, in a sentence."""


def worst(*fates: Fate) -> Fate:
    return max(fates, key=_SEVERITY.__getitem__)


NONE = "none"
"""The consequence of dropping what is not part of the run's mathematics."""


def consequences(*texts: str) -> str:
    """Several consequences as one; `none` only where there is no other."""
    told = dict.fromkeys(filter(None, texts))
    return "; ".join([text for text in told if text != NONE] or told)


@dataclass(frozen=True, slots=True)
class Entry:
    """One leaf (or one container, where only its kind changes).

    `source` and `target` are paths; None where there is none. `detail` says what was done,
    `consequence` what that means for the run, `tolerance` how far values may differ, `assumption`
    what was taken for granted. A `created` value that an uninterrupted run would also hold has the
    consequence `none`. `nbytes` counts what a tensor holds.
    """

    source: str | None
    target: str | None
    fate: Fate
    detail: str = ""
    consequence: str = ""
    tolerance: float | None = None
    assumption: str = ""
    nbytes: int = 0

    @property
    def weight(self) -> Fate:
        """The fate that counts towards the verdict."""
        if self.fate is Fate.CREATED:
            return Fate.EQUIVALENT if self.consequence == NONE else Fate.APPROXIMATE
        if self.fate is Fate.DROPPED and self.consequence == NONE:
            return Fate.EXACT
        return self.fate

    def holding(self, nbytes: int) -> Entry:
        """This entry of a tensor, with its bytes."""
        return Entry(self.source, self.target, self.fate, self.detail, self.consequence,
                     self.tolerance, self.assumption, nbytes)  # fmt: skip

    @property
    def changes_the_run(self) -> bool:
        return self.consequence not in ("", NONE)


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a conversion."""

    path: str
    format: str
    framework: str | None


@dataclass(frozen=True, slots=True)
class Ledger:
    """The account of one conversion; it is complete before a tensor byte moves."""

    source: Side
    target: Side
    entries: tuple[Entry, ...]
    resume: str = ""
    """Code for the target's program that restores what was written."""

    @property
    def verdict(self) -> Fate:
        """The worst fate of any entry."""
        return worst(Fate.EXACT, *[entry.weight for entry in self.entries])

    @property
    def counts(self) -> Mapping[Fate, int]:
        """Entries of each fate that occurs, from best to worst."""
        found = Counter(entry.fate for entry in self.entries)
        return {fate: found[fate] for fate in Fate if fate in found}

    @property
    def sizes(self) -> Mapping[Fate, int]:
        """Bytes of each fate that occurs, from best to worst."""
        found = dict.fromkeys(self.counts, 0)
        for entry in self.entries:
            found[entry.fate] += entry.nbytes
        return found

    @property
    def changes(self) -> Mapping[str, tuple[Entry, ...]]:
        """The entries that change the run, by their consequence, from worst to best."""
        return _grouped(
            [(entry.consequence, entry) for entry in self.entries if entry.changes_the_run]
        )

    @property
    def assumptions(self) -> Mapping[str, tuple[Entry, ...]]:
        """The entries that take something for granted, by what that is."""
        return _grouped([(entry.assumption, entry) for entry in self.entries if entry.assumption])

    def meets(self, required: str) -> bool:
        """Whether the verdict is at least `required`: `exact`, `equivalent` or `any`.

        `exact` admits `relayout`: the values are the same.
        """
        limit = {"exact": Fate.RELAYOUT, "equivalent": Fate.EQUIVALENT, "any": Fate.CREATED}
        return _SEVERITY[self.verdict] <= _SEVERITY[limit[required]]

    def to_json(self) -> dict[str, Any]:
        """The document of the command-line contract."""
        return {
            "ledger": VERSION,
            "source": asdict(self.source),
            "target": asdict(self.target),
            "verdict": str(self.verdict),
            "counts": {str(fate): count for fate, count in self.counts.items()},
            "nbytes": {str(fate): nbytes for fate, nbytes in self.sizes.items()},
            "entries": [_plain(entry) for entry in self.entries],
            "resume": self.resume,
        }

    def to_markdown(self) -> str:
        """The ledger as a page: the verdict, what it changes, the counts, then every entry."""
        sizes = self.sizes
        lines = [
            f"# {self.source.path} → {self.target.path}",
            "",
            f"`{self.source.format}` → `{self.target.format}`: verdict **{self.verdict}**",
            "",
            MEANINGS[self.verdict],
            "",
            *_listed("What changes for the run", self.changes),
            *_listed("What was taken for granted", self.assumptions),
            "| fate | leaves | bytes |",
            "|---|---:|---:|",
            *(f"| {fate} | {count} | {sizes[fate]} |" for fate, count in self.counts.items()),
            "",
            "| source | target | fate | what was done | consequence |",
            "|---|---|---|---|---|",
        ]
        for entry in self.entries:
            cells = (entry.source, entry.target, str(entry.fate), _told(entry), entry.consequence)
            lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
        if self.resume:
            lines += ["", "```python", self.resume.rstrip(), "```"]
        return "\n".join(lines) + "\n"


def _grouped(told: list[tuple[str, Entry]]) -> Mapping[str, tuple[Entry, ...]]:
    """Entries by what is told of them; those with the worst one come first."""
    groups: dict[str, list[Entry]] = {}
    for text, entry in told:
        groups.setdefault(text, []).append(entry)
    severity = {
        text: max([_SEVERITY[entry.weight] for entry in entries])
        for text, entries in groups.items()
    }
    ordered = sorted(groups, key=severity.__getitem__, reverse=True)
    return {text: tuple(groups[text]) for text in ordered}


def _plain(entry: Entry) -> dict[str, Any]:
    return {
        "source": entry.source,
        "target": entry.target,
        "fate": str(entry.fate),
        "detail": entry.detail,
        "consequence": entry.consequence,
        "tolerance": entry.tolerance,
        "assumption": entry.assumption,
        "nbytes": entry.nbytes,
    }


def _listed(heading: str, groups: Mapping[str, tuple[Entry, ...]]) -> list[str]:
    if not groups:
        return []
    items = [f"- {_cell(told)} ({len(entries):,})" for told, entries in groups.items()]
    return [f"{heading}:", "", *items, ""]


def _told(entry: Entry) -> str:
    parts = [entry.detail, f"assumed: {entry.assumption}" if entry.assumption else ""]
    return "; ".join(part for part in parts if part)


def _cell(text: str | None) -> str:
    return "–" if text is None else text.replace("|", "\\|").replace("\n", " ")
