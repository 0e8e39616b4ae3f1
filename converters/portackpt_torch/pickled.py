"""What a pickle describes: plain data, and the three things that are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

Raw: TypeAlias = Any
"""None, bool, int, float, str, bytes, list, tuple, dict, `Global`, `Call`, `Persistent`."""


class Global(NamedTuple):
    """A name in a module, as the pickle spells it (Python 2's names of built-ins translated)."""

    module: str
    name: str

    @property
    def dotted(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Call:
    """A value described by how it is made: `function(*args)`, then what was put into it.

    `items` were appended, `entries` set by key, `state` given to `__setstate__`. `new` says that it
    is `function.__new__` that is called (in protocol 4 with `keywords`).
    """

    function: Raw
    args: tuple[Raw, ...]
    new: bool = False
    keywords: dict[str, Raw] | None = None
    items: list[Raw] | None = None
    entries: dict[Raw, Raw] | None = None
    state: Raw = None


@dataclass(slots=True, eq=False)
class Persistent:
    """A value that is kept outside the pickle, by its id."""

    id: Raw


def call(function: Raw, args: Raw) -> Call:
    """The call of something callable on a tuple; anything else is a malformed pickle."""
    if type(args) is not tuple:
        raise ValueError(f"arguments must be a tuple, found {type(args).__name__}")
    if type(function) is not Global and type(function) is not Call:
        raise ValueError(f"a {type(function).__name__} is called")
    return Call(function, args)
