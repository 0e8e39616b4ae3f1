"""The plan of a conversion: what will be written, and the ledger of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from portackpt.checkpoint import Checkpoint
from portackpt.errors import UsageError
from portackpt.ledger import Entry, Ledger, Side
from portackpt.plugins import Format
from portackpt.spelling import Spelling, spell
from portackpt.templates import compose, pour
from portackpt.tree import Node, tensors

if TYPE_CHECKING:
    from portackpt.matching import Mapping as Rules


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
    rules: Rules | None = None,
    settings: Mapping[str, str] | None = None,
) -> Plan:
    """How `checkpoint`, read from `source`, will be written to `path` by the format `target`.

    `like` is a checkpoint that the target's program wrote: the values are poured into it. `rules`
    say how the model's leaves are called and laid out there, `settings` what the source leaves
    open.
    """
    if target.vocabulary is None:
        raise UsageError(f"the format {target.name!r} can be read, but not written")
    told, code = _told(checkpoint, str(source), target, like, rules, settings or {})
    spelling = told or Spelling(checkpoint.tree, ())
    spelled = spell(spelling.tree, target.vocabulary)
    entries = spelled.entries if told is None else compose(told.entries, spelled.entries)
    ledger = Ledger(
        Side(str(source), checkpoint.format, checkpoint.framework),
        Side(str(path), target.name, target.framework),
        measured(entries, checkpoint.tree, spelled.tree),
        _imported_once("\n".join(filter(None, (target.resume(path, step), code)))),
    )
    return Plan(replace(like or checkpoint, tree=spelled.tree), target, path, step, ledger)


def _told(
    checkpoint: Checkpoint,
    where: str,
    target: Format,
    like: Checkpoint | None,
    rules: Rules | None,
    settings: Mapping[str, str],
) -> tuple[Spelling | None, str]:
    """The tree in the words of the target's program, and code for it; None: as it stands.

    What a checkpoint means is moved where the target's framework is another one, or where there is
    a mapping; else its leaves are, by their names.
    """
    framework = like.framework if like is not None else target.framework
    foreign = None not in (framework, checkpoint.framework) and framework != checkpoint.framework
    if rules is not None or foreign:
        from portackpt.translation import has_meaning, lift, translate  # as late as there is need

        run = lift(checkpoint, settings)
        if rules is not None or like is not None or has_meaning(run, settings):
            found = translate(checkpoint, run, where, framework, like, rules, settings)
            return found.spelling, found.code
    return (None if like is None else pour(checkpoint.tree, like.tree)), ""


def _imported_once(code: str) -> str:
    """`code` whose parts were written apart, without imports that stand in it already."""
    lines: list[str] = []
    for line in code.splitlines(keepends=True):
        if not (line.startswith(("import ", "from ")) and line in lines):
            lines.append(line)
    return "".join(lines)


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
        found.append(entry.holding(nbytes) if nbytes else entry)
    return tuple(found)
