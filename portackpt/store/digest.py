"""Digests: the registry of algorithms (`spec/format.md`, Digests)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from portackpt.store.fault import Fault


class Hash(Protocol):
    """A digest that is being computed."""

    def update(self, data: Any, /) -> object: ...

    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One way to compute digests; `digits` is the length of one in hexadecimal."""

    name: str
    digits: int
    new: Callable[[], Hash]
    of: Callable[[Any], str]
    """The hexadecimal digest of a buffer."""


XXH3 = "xxh3-128"


def algorithm(name: str) -> Algorithm:
    """The algorithm called `name`. Raises `UnsupportedError` for one that is not known here."""
    if name == XXH3:
        import xxhash

        return Algorithm(name, 32, xxhash.xxh3_128, xxhash.xxh3_128_hexdigest)
    if name == "sha2-256":
        import hashlib

        return Algorithm(name, 64, hashlib.sha256, lambda data: hashlib.sha256(data).hexdigest())
    raise Fault(
        "G-1", f"unknown digest algorithm {name!r}; known are {XXH3} and sha2-256", "manifest.json"
    ).error()
