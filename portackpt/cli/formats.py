"""`portackpt formats`: what can be read and written."""

from __future__ import annotations

import click

from portackpt.cli import text
from portackpt.cli.table import table


@click.command(name="formats")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_json: bool) -> None:
    """List the formats, and what each needs."""
    from portackpt import plugins

    found = list(plugins.known())
    if as_json:
        text.print_json(
            [
                {
                    "name": known.name,
                    "framework": known.framework,
                    "summary": known.summary,
                    "suffixes": list(known.suffixes),
                    "reads": True,
                    "writes": known.vocabulary is not None,
                }
                for known in found
            ]
        )
        return
    rows = [
        (
            known.name,
            known.framework or "any",
            "read, write" if known.vocabulary is not None else "read",
            " ".join(known.suffixes),
            known.summary,
        )
        for known in found
    ]
    click.echo(table(("format", "framework", "access", "suffixes", "what it is"), rows))
