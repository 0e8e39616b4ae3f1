"""`portackpt map`: which name of one checkpoint is which of another, as a file to read and edit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from portackpt.errors import UsageError, WriteError

if TYPE_CHECKING:
    from portackpt.matching import Mapping


@click.command(name="map")
@click.argument("source", metavar="SRC")
@click.argument("like", metavar="LIKE")
@click.option("-o", "--output", metavar="FILE", help="Write the mapping there; else it is printed.")
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
def command(source: str, like: str, output: str | None, overwrite: bool) -> None:
    """Propose how the leaves of SRC become those of LIKE, a checkpoint of the target's program.

    Each line has a confidence (0 to 1) and its evidence. Read it, correct it, and pass it to
    convert with --map.
    """
    if output is not None and Path(output).exists() and not overwrite:
        raise UsageError("it exists, and may have been edited; replace it with --overwrite", output)
    from portackpt.matching.files import spell

    mapping = _propose(source, like)
    heading = (
        f"# {_plain(source)} to {_plain(like)}, a proposal: confidence and evidence of each line\n"
    )
    text = (heading + spell(mapping)).encode("utf-8", "backslashreplace")
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            Path(output).write_bytes(text)
        except OSError as error:
            raise WriteError(f"cannot write: {error.strerror or error}", output) from error
    click.echo(_summary(mapping), err=True)


def _propose(source: str, like: str) -> Mapping:
    from portackpt.conversion import open_checkpoint
    from portackpt.inspection import lift
    from portackpt.matching.proposal import propose
    from portackpt.models import model_of

    checkpoints = [open_checkpoint(path) for path in (source, like)]
    here, there = (
        model_of(checkpoint, lift(checkpoint, {}), path)
        for checkpoint, path in zip(checkpoints, (source, like), strict=True)
    )
    return propose(here.shapes, there.shapes, here.dialect, there.dialect, here.ties)


def _plain(path: str) -> str:
    return "".join(c if c.isprintable() else " " for c in path)


def _summary(mapping: Mapping) -> str:
    """What the person who reads the file should know first."""
    parts = [f"{len(mapping.rules)} rules"]
    if mapping.doubts:
        parts.append(f"{len(mapping.doubts)} of them doubtful: read these first")
    if mapping.remarks:
        parts.append(f"{len(mapping.remarks)} leaves without a counterpart, named at the end")
    return f"portackpt: {'; '.join(parts)}"
