"""A ledger for the terminal, and as a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from portackpt.cli import text
from portackpt.errors import UsageError, WriteError

if TYPE_CHECKING:
    from rich.console import Console

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

    out = text.console()
    done = "" if written else " (nothing written)"
    out.print(
        f"{ledger.source.path} ({ledger.source.format}) → "
        f"{ledger.target.path} ({ledger.target.format}){done}"
    )
    out.print(f"verdict: {ledger.verdict}. {MEANINGS[ledger.verdict]}")
    sizes = ledger.sizes
    counts = [f"{count:,} {fate}" + (f" ({text.size(sizes[fate])})" if sizes[fate] else "")
              for fate, count in ledger.counts.items()]  # fmt: skip
    out.print(f"leaves: {', '.join(counts) or 'none'}")
    _groups(out, "changes for the run", ledger.changes)
    _work(out, ledger.entries)
    _groups(out, "taken for granted", ledger.assumptions)
    if ledger.resume:
        out.print("to load it:")
        for line in ledger.resume.rstrip().splitlines():
            out.print(f"    {line}")


def _groups(out: Console, heading: str, groups: Mapping[str, Sequence[Entry]]) -> None:
    rows = [
        (", ".join(dict.fromkeys([str(entry.fate) for entry in entries])), entries, told)
        for told, entries in groups.items()
    ]
    _table(out, heading, rows)


def _work(out: Console, entries: Iterable[Entry]) -> None:
    groups: dict[tuple[str, str, float | None], list[Entry]] = {}
    for entry in entries:
        if entry.detail or entry.tolerance is not None:
            groups.setdefault((entry.fate, entry.detail, entry.tolerance), []).append(entry)
    rows = []
    for (fate, detail, tolerance), members in groups.items():
        within = "" if tolerance is None else f"within {tolerance:.3g}"
        rows.append((str(fate), members, "; ".join(filter(None, (detail, within)))))
    _table(out, "what was done", rows)


def _table(out: Console, heading: str, rows: Sequence[tuple[str, Sequence[Entry], str]]) -> None:
    """Of each kind: its fate, how many leaves, the sentence that they share, and one of them."""
    if not rows:
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("fate", "leaves", heading, "for example"):
        table.add_column(name, overflow="fold", justify="right" if name == "leaves" else "left")
    for fate, entries, told in rows[:_ROWS]:
        table.add_row(fate, f"{len(entries):,}", text.clean(told), _place(entries[0]))
    out.print(table)
    if len(rows) > _ROWS:
        out.print(f"and {len(rows) - _ROWS:,} more kinds; --report FILE.html holds all")


def _place(entry: Entry) -> str:
    path = entry.target if entry.source is None else entry.source
    return text.clean(path or "") or "(root)"
