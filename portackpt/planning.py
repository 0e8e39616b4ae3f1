"""The plan of a conversion: what will be written, and the ledger of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from portackpt.checkpoint import Checkpoint
from portackpt.errors import UsageError
from portackpt.ledger import Ledger, Side
from portackpt.plugins import Format
from portackpt.spelling import Spelling, spell
from portackpt.templates import compose, pour


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A checkpoint that fits its target, and what became of each leaf on the way."""

    checkpoint: Checkpoint
    target: Format
    path: Path
    step: int | None
    ledger: Ledger


def plan(
    checkpoint: Checkpoint,
    source: Path,
    target: Format,
    path: Path,
    step: int | None = None,
    like: Checkpoint | None = None,
) -> Plan:
    """How `checkpoint`, read from `source`, will be written to `path` by the format `target`.

    `like` is a checkpoint that the target's program wrote: the values are poured into it.
    """
    if target.vocabulary is None:
        raise UsageError(f"the format {target.name!r} can be read, but not written")
    if like is None:
        spelling = spell(checkpoint.tree, target.vocabulary)
        written = replace(checkpoint, tree=spelling.tree)
    else:
        poured = pour(checkpoint.tree, like.tree)
        spelling = spell(poured.tree, target.vocabulary)
        spelling = Spelling(spelling.tree, compose(poured.entries, spelling.entries))
        written = replace(like, tree=spelling.tree)
    ledger = Ledger(
        Side(str(source), checkpoint.format, checkpoint.framework),
        Side(str(path), target.name, target.framework),
        spelling.entries,
        target.resume(path, step),
    )
    return Plan(written, target, path, step, ledger)
