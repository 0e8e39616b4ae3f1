"""`portackpt formats`: what can be read and written."""

from __future__ import annotations

import click

from portackpt.cli import text


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
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("format", "framework", "access", "suffixes", "what it is"):
        table.add_column(heading, overflow="fold")
    for known in found:
        access = "read, write" if known.vocabulary is not None else "read"
        suffixes = " ".join(known.suffixes)
        table.add_row(known.name, known.framework or "any", access, suffixes, known.summary)
    text.console().print(table)
