"""The plan of a conversion: what will be written, and the ledger of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from portackpt.checkpoint import Checkpoint
from portackpt.errors import UsageError
from portackpt.ledger import Ledger, Side
from portackpt.plugins import Format
from portackpt.spelling import spell


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A checkpoint that fits its target, and what became of each leaf on the way."""

    checkpoint: Checkpoint
    target: Format
    path: Path
    step: int | None
    ledger: Ledger


def plan(
    checkpoint: Checkpoint, source: Path, target: Format, path: Path, step: int | None = None
) -> Plan:
    """How `checkpoint`, read from `source`, will be written to `path` by the format `target`."""
    if target.vocabulary is None:
        raise UsageError(f"the format {target.name!r} can be read, but not written")
    spelling = spell(checkpoint.tree, target.vocabulary)
    ledger = Ledger(
        Side(str(source), checkpoint.format, checkpoint.framework),
        Side(str(path), target.name, target.framework),
        spelling.entries,
        target.resume(path, step),
    )
    return Plan(replace(checkpoint, tree=spelling.tree), target, path, step, ledger)
