"""`portackpt prune`: delete what a preservation policy gives up."""

from __future__ import annotations

from pathlib import Path

import click

from portackpt.cli import text


@click.command(name="prune")
@click.argument("root")
@click.option(
    "--policy", "policies", metavar="POLICY", multiple=True, required=True,
    help="What to keep: latest:N, best:METRIC:min|max[:K], every:N, since:TIME, pinned[:TAG], "
    "step:N, all. Given several times, what one of them keeps is kept.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Delete; without it, only say what would be deleted.")
def command(root: str, policies: tuple[str, ...], yes: bool) -> None:
    """Say which checkpoints of ROOT the policies give up. The newest whole one always stays."""
    import time

    from portackpt.errors import InputError
    from portackpt.manager import preservation
    from portackpt.manager import root as disk
    from portackpt.manager.journal import Journal

    place = Path(root)
    if not place.is_dir():
        raise InputError("expected a directory", root)
    policy = preservation.AnyOf(tuple(map(preservation.parse, policies)))
    whole = set(disk.complete(place))
    found = [one for one in disk.records(place) if one.step in whole]
    steps = preservation.doomed(found, policy)
    freed = sum(one.nbytes for one in found if one.step in steps)
    if yes and steps:
        disk.remove(place, steps)
        Journal(place, time.time).append("pruned", steps=steps, policy=list(policies))
    done = "deleted" if yes else "would delete"
    named = ": " + ", ".join(map(str, steps)) if steps else ""
    click.echo(f"{done} {text.count(len(steps), 'checkpoint')} ({text.size(freed)}){named}")
