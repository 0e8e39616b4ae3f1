"""The `portackpt` command: one thin module a subcommand; the only place that prints."""

from __future__ import annotations

import sys

import click

from portackpt.cli import convert, diff, formats, inspect, map, validate
from portackpt.errors import PortackptError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="portackpt")
def portackpt() -> None:
    """Look into, convert, compare and check training checkpoints of any framework.

    Exit status: 0 done; 1 the answer is no; 2 wrong usage; 3 the input cannot be read; 4 ambiguous.
    """


for command in (
    inspect.command,
    convert.command,
    map.command,
    diff.command,
    validate.command,
    formats.command,
):
    portackpt.add_command(command)


def main() -> None:
    """Run the command and exit with its status; errors go to standard error in one paragraph."""
    try:
        status = portackpt.main(standalone_mode=False)
    except PortackptError as error:
        click.echo(f"portackpt: {error}", err=True)
        status = error.exit_status
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        place = f", at {error.filename}" if error.filename else ""
        click.echo(f"portackpt: {error.strerror or error}{place}", err=True)
        status = 3
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("portackpt: interrupted; nothing was left half-written", err=True)
        status = 130
    sys.exit(status or 0)
