"""`portackpt ls`: the checkpoints of a root, and what its journal tells."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from portackpt.cli import text
from portackpt.cli.table import table

if TYPE_CHECKING:
    from portackpt.manager.record import Record

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 60
_EVENTS = 5


@click.command(name="ls")
@click.argument("root")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(root: str, as_json: bool) -> None:
    """List the checkpoints in ROOT: steps, times, sizes, metrics, tags, and the last events."""
    from portackpt.errors import InputError
    from portackpt.manager import root as disk
    from portackpt.manager.journal import Journal

    place = Path(root)
    if not place.is_dir():
        raise InputError("expected a directory", root)
    found = disk.records(place)
    whole = set(disk.complete(place))
    events = list(Journal(place, lambda: 0.0).events())
    if as_json:
        steps = [
            {
                "step": one.step, "time": one.time, "nbytes": one.nbytes, "why": one.why,
                "metrics": dict(one.metrics), "tags": list(one.tags),
                "complete": one.step in whole,
            }
            for one in found
        ]  # fmt: skip
        told = [{"event": one.event, "time": one.time, **one.facts} for one in events]
        text.print_json({"root": root, "steps": steps, "events": told})
        return
    metrics = sorted({name for one in found for name in one.metrics})
    rows = []
    for one in found:
        values = [f"{one.metrics[name]:.6g}" if name in one.metrics else "" for name in metrics]
        why = one.why if one.step in whole else "DAMAGED: the manifest is not whole"
        tags = text.clean(" ".join(one.tags))
        rows.append((str(one.step), _time(one.time), text.size(one.nbytes), *values, tags,
                     text.clean(why)))  # fmt: skip
    headings = [f"{text.clean(name)}#" for name in metrics]
    click.echo(table(("step#", "time (UTC)", "bytes#", *headings, "tags", "why"), rows))
    for name in metrics if sys.stdout.isatty() else ():
        click.echo(f"{text.clean(name)}  {chart(found, name)}")
    for event in events[-_EVENTS:]:
        facts = ", ".join(f"{key} {value}" for key, value in event.facts.items())
        click.echo(text.clean(f"{_time(event.time)}  {event.event}  {facts}"))


def chart(records: Sequence[Record], metric: str) -> str:
    """One line of blocks: a metric over the steps, of the newest that fit."""
    values = [one.metrics[metric] for one in records if metric in one.metrics]
    finite = [value for value in values if abs(value) < float("inf")]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    top = len(_BLOCKS) - 1
    return (
        "".join(
            _BLOCKS[round(top * (value - low) / ((high - low) or 1))]
            if abs(value) < float("inf")
            else " "
            for value in values[-_WIDTH:]
        )
        + f"  {low:.6g} to {high:.6g}"
    )


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "?"
