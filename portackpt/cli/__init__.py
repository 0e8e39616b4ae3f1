"""The `portackpt` command: one thin module a subcommand; the only place that prints."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from portackpt.errors import PortackptError

_COMMANDS = ("inspect", "convert", "map", "diff", "validate", "ls", "prune", "formats")


class _Commands(click.Group):
    """Commands by the names of their modules; one that is not asked for is not imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"portackpt.cli.{cmd_name}").command
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="portackpt")
def portackpt() -> None:
    """Look into, convert, compare and check training checkpoints of any framework.

    Exit status: 0 done; 1 the answer is no; 2 wrong usage; 3 the input cannot be read; 4 ambiguous.
    """


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
