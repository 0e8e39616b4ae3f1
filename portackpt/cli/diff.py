"""`portackpt diff`: two checkpoints of any two formats, by name and value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from portackpt.cli import text
from portackpt.cli.table import table

if TYPE_CHECKING:
    from portackpt.comparison import Comparison

_ROWS = 50


@click.command(name="diff")
@click.argument("a")
@click.argument("b")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--rtol", type=click.FloatRange(min=0), default=0.0, help="Relative tolerance.")
@click.option("--atol", type=click.FloatRange(min=0), default=0.0, help="Absolute tolerance.")
def command(a: str, b: str, as_json: bool, rtol: float, atol: float) -> int:
    """Compare the checkpoints A and B; exit with 1 when they differ."""
    from portackpt.comparison import diff

    found = diff(a, b, rtol=rtol, atol=atol)
    if as_json:
        text.print_json(found.to_json())
    else:
        _show(found)
    return 0 if found.equal else 1


def _show(found: Comparison) -> None:
    alike = f"{found.compared:,} leaves in both, {text.size(found.nbytes)}"
    if found.equal:
        click.echo(f"equal: {alike}")
        return
    click.echo(f"{text.count(len(found.differences), 'difference')}; {alike}")
    rows = [
        (
            text.clean(difference.name),
            difference.kind,
            text.clean(difference.detail),
            "" if difference.max_abs is None else f"{difference.max_abs:.3g}",
            "" if difference.max_rel is None else f"{difference.max_rel:.3g}",
        )
        for difference in found.differences[:_ROWS]
    ]
    click.echo(table(("leaf", "kind", "what", "max |a-b|#", "relative#"), rows))
    if len(found.differences) > _ROWS:
        click.echo(f"and {len(found.differences) - _ROWS:,} more; --json lists all")
