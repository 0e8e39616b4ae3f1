"""What the commands share: readable numbers, tables, progress, JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console


def size(nbytes: int) -> str:
    """`nbytes` for a person: `1.49 GB` (powers of ten, three digits)."""
    amount = float(nbytes)
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if amount < 999.5 or unit == "PB":
            return f"{nbytes} B" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1000
    raise AssertionError


def count(number: int, noun: str) -> str:
    """`1 tensor`, `2,000 tensors`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def print_json(document: Any) -> None:
    """One JSON document on standard output. NaN and infinities are spelled as text."""
    click.echo(json.dumps(_plain(document), ensure_ascii=False, indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def clean(name: str) -> str:
    """`name` with control characters and lone surrogates escaped, fit for a terminal."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def console() -> Console:
    """Standard output; wide where it is no terminal, so that nothing is cut."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 160
    return Console(width=width, highlight=False, soft_wrap=False, markup=False, emoji=False)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A function that counts bytes, and a bar on a terminal for work over a second."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task(title, total=total)
    started = time.monotonic()
    shown = False

    def advance(count: int) -> None:
        nonlocal shown
        bar.advance(task, count)
        if not shown and time.monotonic() - started > 1:
            shown = True
            bar.start()

    try:
        yield advance
    finally:
        if shown:
            bar.stop()
