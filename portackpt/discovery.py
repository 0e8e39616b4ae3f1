"""What distributions offer under a name: their entry points, read where installers put them.

    site-packages/NAME-VERSION.dist-info/entry_points.txt      [group]
                                                               name = package.module:ATTRIBUTE

Source: the entry points specification of the Python Packaging User Guide. `importlib.metadata`
reads the same files; importing it takes longer than all of that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

_ENDINGS = (".dist-info", ".egg-info")


def entry_points(group: str) -> dict[str, str]:
    """The entry points of `group`: where each name leads. What comes first on `sys.path` counts."""
    found: dict[str, str] = {}
    for text in _texts(tuple(sys.path)):
        for name, target in _section(text, group):
            found.setdefault(name, target)
    return found


def load(target: str) -> Any:
    """What `package.module:ATTRIBUTE` names. Raises `ImportError`, `AttributeError`."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


@cache
def _texts(folders: tuple[str, ...]) -> tuple[str, ...]:
    """The declarations of every distribution in `folders`; of two with one name, the first."""
    texts: dict[str, str] = {}
    for folder in folders:
        for place in _distributions(Path(folder)):
            distribution = place.name.partition("-")[0].lower().replace(".", "_")
            if distribution not in texts:
                texts[distribution] = _read(place / "entry_points.txt")
    return tuple(filter(None, texts.values()))


def _distributions(folder: Path) -> list[Path]:
    try:
        return sorted([place for place in folder.iterdir() if place.name.endswith(_ENDINGS)])
    except OSError:  # a zip archive, or nothing
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # most distributions declare none
        return ""


def _section(text: str, group: str) -> Iterator[tuple[str, str]]:
    if f"[{group}]" not in text:
        return
    inside = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == f"[{group}]"
        elif inside and "=" in line and not line.startswith(("#", ";")):
            name, _, target = line.partition("=")
            yield name.strip(), target.partition("[")[0].strip()  # less the extras it needs
