"""Keys of a pytree's leaves, as Orbax records them, and the name that they make."""

from __future__ import annotations

from typing import TypeAlias

SEQUENCE = 1
"""A place in a list or tuple."""
MAPPING = 2
"""A key of a dict, or an attribute."""

Key: TypeAlias = tuple[str, int]
"""A key as text, and its type."""


def joined_name(path: tuple[Key, ...]) -> str:
    """What the data of a leaf are stored under."""
    return ".".join([key for key, _ in path])


def key_prefix(name: str) -> str:
    """What the keys of the array called `name` start with."""
    if name in ("", "/"):
        return ""
    return name if name.endswith("/") else f"{name}/"


def spell(path: tuple[Key, ...]) -> str:
    """A path for people."""
    return "/".join([key for key, _ in path])
