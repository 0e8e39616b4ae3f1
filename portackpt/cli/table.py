"""Tables of text: columns as wide as they need to be, folded to a terminal's width."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence

_GAP = "   "
_LEAST = 8


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of cells under `headings`; a column of a heading that ends with `#` is one of numbers.

    Nothing is cut: on a terminal long cells are folded, elsewhere lines are as long as it takes.
    """
    names = [heading.rstrip("#") for heading in headings]
    right = [heading.endswith("#") for heading in headings]
    body = [list(row) for row in rows]
    needed = [max(map(len, column)) for column in zip(names, *body, strict=True)]
    widths = _fitted(needed, _room() - len(_GAP) * (len(names) - 1))
    lines = [*_lines(names, widths, right), _GAP.join(["─" * width for width in widths])]
    for row in body:
        lines += _lines(row, widths, right)
    return "\n".join(["", *lines])


def _room() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 1 << 20


def _fitted(needed: list[int], room: int) -> list[int]:
    """The widths: as needed, the widest cut down to one width until all fit."""
    if sum(needed) <= room:
        return needed
    limit = max(needed)
    while limit > _LEAST and sum([min(width, limit) for width in needed]) > room:
        limit -= 1
    return [min(width, limit) for width in needed]


def _lines(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> Iterator[str]:
    folded = [list(_folded(cell, width)) for cell, width in zip(cells, widths, strict=True)]
    for index in range(max(map(len, folded))):
        parts = [column[index] if index < len(column) else "" for column in folded]
        aligned = [
            part.rjust(width) if number else part.ljust(width)
            for part, width, number in zip(parts, widths, right, strict=True)
        ]
        yield _GAP.join(aligned).rstrip()


def _folded(cell: str, width: int) -> Iterator[str]:
    """Pieces of at most `width` characters, broken after a space where there is one."""
    while len(cell) > width:
        end = cell.rfind(" ", 0, width) + 1 or width
        yield cell[:end].rstrip()
        cell = cell[end:]
    yield cell
