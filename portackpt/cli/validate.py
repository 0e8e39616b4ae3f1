"""`portackpt validate`: every fault of a neutral checkpoint, or of a root of them."""

from __future__ import annotations

from dataclasses import asdict

import click

from portackpt.cli import text


@click.command(name="validate")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--quick", is_flag=True, help="Structure and sizes only; no tensor is read.")
def command(path: str, as_json: bool, quick: bool) -> int:
    """Check the neutral checkpoint at PATH, or all in a root; exit with 1 on a fault."""
    from portackpt.validation import validate

    faults = validate(path, quick=quick)
    if as_json:
        document = {
            "path": path,
            "valid": not faults,
            "faults": [asdict(fault) for fault in faults],
        }
        text.print_json(document)
    elif faults:
        for fault in faults:
            click.echo(f"{fault.place}: {fault.message} [{fault.code}]")
        click.echo(text.count(len(faults), "fault"))
    else:
        click.echo(f"{path}: valid" + (" (structure only)" if quick else ""))
    return 1 if faults else 0
