"""A ledger for the terminal, and as a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from portackpt.cli import text
from portackpt.cli.table import table
from portackpt.errors import UsageError, WriteError

if TYPE_CHECKING:
    from portackpt.ledger import Entry, Ledger

SUFFIXES = (".json", ".md", ".html")
_ROWS = 20


def check(path: str) -> None:
    """Raise `UsageError` where no report can be written to `path`."""
    if Path(path).suffix not in SUFFIXES:
        raise UsageError(f"a report is a .json, .md or .html file, not {path!r}")


def write(ledger: Ledger, path: Path) -> None:
    """The ledger as a document of the kind that the suffix of `path` names."""
    try:
        path.write_text(_document(ledger, path.suffix), "utf-8", errors="backslashreplace")
    except OSError as error:
        raise WriteError(f"cannot write: {error.strerror or error}", str(path)) from error


def _document(ledger: Ledger, suffix: str) -> str:
    if suffix == ".json":
        return json.dumps(ledger.to_json(), ensure_ascii=True, indent=1) + "\n"
    if suffix == ".md":
        return ledger.to_markdown()
    from portackpt.page import page

    return page(ledger)


def show(ledger: Ledger, *, written: bool) -> None:
    """The verdict, what changes for the run, what was done, and the code that loads the result."""
    from portackpt.ledger import MEANINGS

    done = "" if written else " (nothing written)"
    click.echo(
        f"{ledger.source.path} ({ledger.source.format}) → "
        f"{ledger.target.path} ({ledger.target.format}){done}"
    )
    click.echo(f"verdict: {ledger.verdict}. {MEANINGS[ledger.verdict]}")
    sizes = ledger.sizes
    counts = [f"{count:,} {fate}" + (f" ({text.size(sizes[fate])})" if sizes[fate] else "")
              for fate, count in ledger.counts.items()]  # fmt: skip
    click.echo(f"leaves: {', '.join(counts) or 'none'}")
    _groups("changes for the run", ledger.changes)
    _work(ledger.entries)
    _groups("taken for granted", ledger.assumptions)
    if ledger.resume:
        click.echo("to load it:")
        for line in ledger.resume.rstrip().splitlines():
            click.echo(f"    {line}")


def _groups(heading: str, groups: Mapping[str, Sequence[Entry]]) -> None:
    rows = [
        (", ".join(dict.fromkeys([str(entry.fate) for entry in entries])), entries, told)
        for told, entries in groups.items()
    ]
    _kinds(heading, rows)


def _work(entries: Iterable[Entry]) -> None:
    groups: dict[tuple[str, str, float | None], list[Entry]] = {}
    for entry in entries:
        if entry.detail or entry.tolerance is not None:
            groups.setdefault((entry.fate, entry.detail, entry.tolerance), []).append(entry)
    rows = []
    for (fate, detail, tolerance), members in groups.items():
        within = "" if tolerance is None else f"within {tolerance:.3g}"
        rows.append((str(fate), members, "; ".join(filter(None, (detail, within)))))
    _kinds("what was done", rows)


def _kinds(heading: str, rows: Sequence[tuple[str, Sequence[Entry], str]]) -> None:
    """Of each kind: its fate, how many leaves, the sentence that they share, and one of them."""
    if not rows:
        return
    cells = [
        (fate, f"{len(entries):,}", text.clean(told), _place(entries[0]))
        for fate, entries, told in rows[:_ROWS]
    ]
    click.echo(table(("fate", "leaves#", heading, "for example"), cells))
    if len(rows) > _ROWS:
        click.echo(f"and {len(rows) - _ROWS:,} more kinds; --report FILE.html holds all")


def _place(entry: Entry) -> str:
    path = entry.target if entry.source is None else entry.source
    return text.clean(path or "") or "(root)"
