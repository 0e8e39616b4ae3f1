"""`portackpt convert`: from any format to any other, with the ledger of every leaf."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

import click

from portackpt.cli import report, text
from portackpt.cli.settings import read
from portackpt.collector import paused_collector

if TYPE_CHECKING:
    from portackpt.planning import Plan


@click.command(name="convert")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--to", metavar="FORMAT", help="Format of DST; else its suffix says.")
@click.option("--from", "from_", metavar="FORMAT", help="Format of SRC; else its content says.")
@click.option("--like", metavar="CKPT", help="Pour into a checkpoint of the target's program.")
@click.option("--map", "map_", metavar="FILE", help="Names and layouts, as `map` proposes them.")
@click.option(
    "--set",
    "pairs",
    metavar="NAME=VALUE",
    multiple=True,
    help="What SRC leaves open: optimizer=adamw, lr=0.001, … (may be repeated).",
)
@click.option("--step", type=click.IntRange(min=0), help="The step to read or to write in a root.")
@click.option(
    "--require",
    type=click.Choice(("exact", "equivalent", "any")),
    default="any",
    help="Write nothing and exit with 1 when the verdict is below this.",
)
@click.option(
    "--report", "report_to", metavar="FILE", help="Write the ledger to FILE (.html, .md or .json)."
)
@click.option("--dry-run", is_flag=True, help="Show the ledger; write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace DST; it is never half-written.")
@click.option("--json", "as_json", is_flag=True, help="Print the ledger as one JSON document.")
def command(
    source: str,
    target: str,
    to: str | None,
    from_: str | None,
    like: str | None,
    map_: str | None,
    pairs: tuple[str, ...],
    step: int | None,
    require: str,
    report_to: str | None,
    dry_run: bool,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Convert the checkpoint SRC to DST, and say what became of every leaf."""
    if report_to:
        report.check(report_to)
    from portackpt.conversion import plan_conversion

    with paused_collector():
        plan = plan_conversion(
            source, target, to=to, from_=from_, step=step, like=like, map=map_, settings=read(pairs)
        )
    gc.freeze()  # the plan stays until the process ends: the collector need not look at it
    met = plan.ledger.meets(require)
    if met and not dry_run:
        _execute(plan, overwrite)
    if report_to:
        report.write(plan.ledger, Path(report_to))
    if as_json:
        text.print_json(plan.ledger.to_json())
    else:
        report.show(plan.ledger, written=met and not dry_run)
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
