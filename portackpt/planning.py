"""The plan of a conversion: what will be written, and the ledger of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from portackpt.checkpoint import Checkpoint
from portackpt.errors import UsageError
from portackpt.ledger import Entry, Ledger, Side
from portackpt.plugins import Format
from portackpt.spelling import Spelling, spell
from portackpt.templates import compose, pour
from portackpt.tree import Node, tensors


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
        measured(spelling.entries, checkpoint.tree, spelling.tree),
        target.resume(path, step),
    )
    return Plan(written, target, path, step, ledger)


def measured(entries: Iterable[Entry], source: Node, target: Node) -> tuple[Entry, ...]:
    """`entries` with the bytes that each tensor holds.

    Of a tensor that was split, widened or joined with others: on the side where it is smaller.
    """
    before: dict[str | None, int] = {path: tensor.nbytes for path, tensor in tensors(source)}
    after: dict[str | None, int] = {path: tensor.nbytes for path, tensor in tensors(target)}
    found = []
    for entry in entries:
        here, there = before.get(entry.source), after.get(entry.target)
        nbytes = min(here, there) if here is not None and there is not None else here or there
        found.append(replace(entry, nbytes=nbytes) if nbytes else entry)
    return tuple(found)
