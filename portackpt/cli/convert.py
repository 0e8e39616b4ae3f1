"""`portackpt convert`: from any format to any other, with the ledger of every leaf."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from portackpt.cli import text
from portackpt.errors import UsageError

if TYPE_CHECKING:
    from portackpt.ledger import Ledger
    from portackpt.planning import Plan

_ROWS = 20


@click.command(name="convert")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--to", metavar="FORMAT", help="Format of DST; else its suffix says.")
@click.option("--from", "from_", metavar="FORMAT", help="Format of SRC; else its content says.")
@click.option("--like", metavar="CKPT", help="Pour into a checkpoint of the target's program.")
@click.option("--step", type=click.IntRange(min=0), help="The step to read or to write in a root.")
@click.option(
    "--require",
    type=click.Choice(("exact", "equivalent", "any")),
    default="any",
    help="Write nothing and exit with 1 when the verdict is below this.",
)
@click.option("--report", metavar="FILE", help="Write the ledger to FILE (.json or .md).")
@click.option("--dry-run", is_flag=True, help="Show the ledger; write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace DST; it is never half-written.")
@click.option("--json", "as_json", is_flag=True, help="Print the ledger as one JSON document.")
def command(
    source: str,
    target: str,
    to: str | None,
    from_: str | None,
    like: str | None,
    step: int | None,
    require: str,
    report: str | None,
    dry_run: bool,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Convert the checkpoint SRC to DST, and say what became of every leaf."""
    if report and Path(report).suffix not in (".json", ".md"):
        raise UsageError(f"a report is a .json or .md file, not {report!r}")
    from portackpt.conversion import plan_conversion

    plan = plan_conversion(source, target, to=to, from_=from_, step=step, like=like)
    met = plan.ledger.meets(require)
    if met and not dry_run:
        _execute(plan, overwrite)
    if report:
        _report(plan.ledger, Path(report))
    if as_json:
        text.print_json(plan.ledger.to_json())
    else:
        _show(plan.ledger, written=met and not dry_run)
    if not met:
        click.echo(
            f"portackpt: the verdict is {plan.ledger.verdict}, below the required {require}; "
            "nothing was written",
            err=True,
        )
    return 0 if met else 1


def _execute(plan: Plan, overwrite: bool) -> None:
    from portackpt.conversion import execute
    from portackpt.tree import tensors

    total = sum(tensor.nbytes for _, tensor in tensors(plan.checkpoint.tree))
    with text.progress(f"writing {plan.path.name}", total) as advance:
        execute(plan, overwrite=overwrite, progress=advance)


def _report(ledger: Ledger, path: Path) -> None:
    if path.suffix == ".json":
        content = json.dumps(ledger.to_json(), ensure_ascii=True, indent=1) + "\n"
    else:
        content = ledger.to_markdown()
    path.write_text(content, encoding="utf-8", errors="backslashreplace")


def _show(ledger: Ledger, written: bool) -> None:
    from rich import box
    from rich.table import Table

    from portackpt.ledger import Fate

    out = text.console()
    done = "" if written else " (nothing written)"
    out.print(
        f"{ledger.source.path} ({ledger.source.format}) → "
        f"{ledger.target.path} ({ledger.target.format}){done}"
    )
    counts = ", ".join(f"{count:,} {fate}" for fate, count in ledger.counts.items())
    out.print(f"verdict: {ledger.verdict}    ({counts or 'no leaves'})")
    told = [entry for entry in ledger.entries if entry.fate is not Fate.EXACT or entry.consequence]
    groups: dict[tuple[str, str, str], list[str]] = {}
    for entry in told:
        meaning = entry.consequence or (f"assumed: {entry.assumption}" if entry.assumption else "")
        key = (str(entry.fate), entry.detail, meaning)
        groups.setdefault(key, []).append(entry.source if entry.source is not None else "")
    if groups:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("fate", "leaves", "for example", "what was done", "for the run"):
            table.add_column(heading, overflow="fold")
        for (fate, detail, meaning), paths in list(groups.items())[:_ROWS]:
            example = text.clean(paths[0]) or "(root)"
            table.add_row(fate, f"{len(paths):,}", example, text.clean(detail), meaning)
        out.print(table)
        if len(groups) > _ROWS:
            out.print(f"and {len(groups) - _ROWS:,} more kinds; --report FILE.md holds all")
    if ledger.resume:
        out.print("to load it:")
        for line in ledger.resume.rstrip().splitlines():
            out.print(f"    {line}")
