"""Packs: mappings of known model families, kept as mapping files beside the code."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from portackpt.errors import AmbiguousError, UsageError, located
from portackpt.layouts.dialects import Dialect
from portackpt.matching.files import parse
from portackpt.matching.mapping import Mapping
from portackpt.matching.resolution import Shapes


def names() -> tuple[str, ...]:
    """The names of all packs: `gpt2-flax`."""
    found = [entry.name for entry in files("portackpt.packs").iterdir()]
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


@cache
def load(name: str) -> Mapping:
    """The pack called `name`."""
    if name not in names():
        raise UsageError(f"unknown pack {name!r}; known are {', '.join(names())}")
    with located(f"the pack {name}"):
        return parse(files("portackpt.packs").joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def find(
    source: Shapes, target: Shapes, source_dialect: Dialect, target_dialect: Dialect
) -> tuple[str, Mapping] | None:
    """The pack that maps every leaf of `source` to every leaf of `target`, in either direction."""
    for name in names():
        pack = load(name)
        for mapping in (pack, pack.inverse()):
            if (mapping.source, mapping.target) != (source_dialect, target_dialect):
                continue
            try:
                mapping.resolve(source, target)
            except (UsageError, AmbiguousError):
                continue
            return name, mapping
    return None
