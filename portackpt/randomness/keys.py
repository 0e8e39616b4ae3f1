"""Stateless generators: jax keys, and Keras' SeedGenerator, whose state makes its backend's keys.

A jax key is two uint32 (threefry2x32) or four (rbg, unsafe_rbg), and no stream by itself: programs
split it or fold counts into it. Which bits come out of it depends on the implementation, on
`jax_threefry_partitionable`, and on jax_enable_x64 (float64 draws other bits, and a seed beyond 32
bits is cut without it).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from portackpt.errors import DamagedError
from portackpt.randomness.stream import Engine, integer, integers, listed
from portackpt.tree import Node

WIDTHS: Mapping[Engine, int] = {Engine.THREEFRY2X32: 2, Engine.RBG: 4, Engine.UNSAFE_RBG: 4}
# names and the tags of typed keys' dtypes: key<fry>
IMPLEMENTATIONS: Mapping[str, Engine] = {
    "threefry2x32": Engine.THREEFRY2X32,
    "fry": Engine.THREEFRY2X32,
    "rbg": Engine.RBG,
    "unsafe_rbg": Engine.UNSAFE_RBG,
    "urbg": Engine.UNSAFE_RBG,
}


@dataclass(frozen=True, slots=True)
class Key:
    """A jax key, or an array of them of the given `shape`: words in C order.

    `partitionable` and `x64` are jax's flags where they are known. `count` is nnx' RngStream's: its
    n-th key is fold_in(key, n).
    """

    engine: Engine
    words: tuple[int, ...]
    shape: tuple[int, ...] = ()
    partitionable: bool | None = None
    x64: bool | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        expected = WIDTHS[self.engine] * prod(self.shape)
        if len(self.words) != expected:
            raise DamagedError(
                f"{self.engine} keys of shape {self.shape} have {expected} words, found "
                f"{len(self.words)}"
            )

    def essence(self) -> bytes:
        flags = [-1 if flag is None else int(flag) for flag in (self.partitionable, self.x64)]
        return struct.pack(
            f"<{len(self.words)}I2bq",
            *self.words,
            *flags,
            -1 if self.count is None else self.count,
        )

    def to_plain(self) -> dict[str, Any]:
        return {
            "words": list(self.words),
            "shape": list(self.shape),
            "partitionable": self.partitionable,
            "x64": self.x64,
            "count": self.count,
        }

    @classmethod
    def from_plain(cls, engine: Engine, plain: Mapping[str, Any]) -> Key:
        shape = tuple([integer(n, 31, "shape") for n in listed(plain.get("shape")) or []])
        count = plain.get("count")
        return cls(
            engine,
            integers(plain.get("words"), WIDTHS[engine] * prod(shape), 32, "words"),
            shape,
            _flag(plain.get("partitionable"), "partitionable"),
            _flag(plain.get("x64"), "x64"),
            None if count is None else integer(count, 32, "count"),
        )


def _flag(node: Node, what: str) -> bool | None:
    if node is not None and not isinstance(node, bool):
        raise DamagedError(f"expected True, False or nothing, found {node!r}", what)
    return node


def implementation(name: str) -> Engine:
    """The engine of `jax.random.key_impl`'s name, or of a typed key's dtype: `key<fry>`."""
    short = name.removeprefix("key<").removesuffix(">")
    if short not in IMPLEMENTATIONS:
        raise DamagedError(
            f"unknown implementation of jax keys {name!r}: known are {', '.join(IMPLEMENTATIONS)}"
        )
    return IMPLEMENTATIONS[short]


def from_jax(
    data: Node,
    name: str = "threefry2x32",
    partitionable: bool | None = None,
    x64: bool | None = None,
    count: int | None = None,
) -> Key:
    """Of `jax.random.key_data(key)`, an array of uint32 whose last axis is one key."""
    engine = implementation(name)
    shape = getattr(data, "shape", None)
    if shape is None:
        values = listed(data) or []
        shape = (len(values),)
    if not shape or shape[-1] != WIDTHS[engine]:
        raise DamagedError(f"{engine} keys end in an axis of {WIDTHS[engine]}, found {shape}")
    outer = tuple(int(n) for n in shape[:-1])
    words = integers(data, WIDTHS[engine] * prod(outer), 32, "key")
    return Key(engine, words, outer, partitionable, x64, count)


def to_jax(state: Key) -> Any:
    """The uint32 array that `jax.random.wrap_key_data(data, impl=state.engine)` takes."""
    import numpy as np

    return np.array(state.words, np.uint32).reshape(*state.shape, WIDTHS[state.engine])


@dataclass(frozen=True, slots=True)
class Seed:
    """The state of a `keras.random.SeedGenerator`: the seed and how many were drawn from it.

    `dtype` is that of its variable, which the backend decides (int64 TensorFlow, uint32 jax).
    """

    seed: int
    counter: int
    dtype: str = "int64"

    @property
    def engine(self) -> Engine:
        return Engine.KERAS_SEED

    def essence(self) -> bytes:
        return struct.pack("<qq", self.seed, self.counter)

    def to_plain(self) -> dict[str, Any]:
        return {"seed": str(self.seed), "counter": str(self.counter), "dtype": self.dtype}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Seed:
        values = [str(plain.get(key)) for key in ("seed", "counter")]
        if not all(v.removeprefix("-").isdigit() and len(v) < 21 for v in values):
            raise DamagedError(f"expected two integers, found {values}")
        return _seed([int(v) for v in values], str(plain.get("dtype", "int64")))


def from_keras(node: Node) -> Seed:
    """Of `SeedGenerator.state`: an array [seed, counter]."""
    dtype = getattr(node, "dtype", "int64")
    return _seed(listed(node), getattr(dtype, "name", str(dtype)))


def _seed(values: list[Any] | None, dtype: str) -> Seed:
    if (
        values is None
        or len(values) != 2
        or not all(type(v) is int and -(1 << 63) <= v < 1 << 63 for v in values)
    ):
        raise DamagedError(f"a SeedGenerator's state is [seed, counter], found {values!r}")
    return Seed(values[0], values[1], dtype)


def to_keras(state: Seed) -> Any:
    """The array that `SeedGenerator.state.assign` takes."""
    import numpy as np

    return np.array([state.seed, state.counter], state.dtype)
