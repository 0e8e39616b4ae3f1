"""numpy's bit generators: PCG64, PCG64DXSM, SFC64 and Philox (4x64, not torch's), as their dicts.

    {"bit_generator": "PCG64", "state": {"state": int, "inc": int}, "has_uint32", "uinteger"}
    {"bit_generator": "SFC64", "state": {"state": u64[4]}, "has_uint32", "uinteger"}
    {"bit_generator": "Philox", "state": {"counter": u64[4], "key": u64[2]}, "buffer": u64[4],
     "buffer_pos", "has_uint32", "uinteger"}

PCG64's integers have 128 bits: as text in JSON. (numpy/random/_pcg64.pyx and its neighbours.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portackpt.errors import DamagedError
from portackpt.randomness.stream import Engine, entries, integer, integers
from portackpt.tree import Node

NAMES: Mapping[str, Engine] = {
    "PCG64": Engine.PCG64,
    "PCG64DXSM": Engine.PCG64DXSM,
    "SFC64": Engine.SFC64,
    "Philox": Engine.PHILOX4X64,
}
_BY_ENGINE = {engine: name for name, engine in NAMES.items()}
# engine: the words of its state and their bits
_PARTS: Mapping[Engine, Mapping[str, tuple[int, int]]] = {
    Engine.PCG64: {"state": (1, 128), "inc": (1, 128)},
    Engine.PCG64DXSM: {"state": (1, 128), "inc": (1, 128)},
    Engine.SFC64: {"state": (4, 64)},
    Engine.PHILOX4X64: {"counter": (4, 64), "key": (2, 64)},
}


@dataclass(frozen=True, slots=True)
class BitGenerator:
    """The state of one of numpy's generators: the words of each part, and a half word held back."""

    engine: Engine
    parts: Mapping[str, tuple[int, ...]]
    held: int | None = None
    buffer: tuple[int, ...] | None = None
    buffer_position: int | None = None

    def essence(self) -> bytes:
        found = bytearray()
        for name, (_, bits) in _PARTS[self.engine].items():
            for word in self.parts[name]:
                found += word.to_bytes(bits // 8, "little")
        for word in self.buffer or ():
            found += word.to_bytes(8, "little")
        found += bytes([self.buffer_position or 0, self.held is not None])
        return bytes(found) + (self.held or 0).to_bytes(4, "little")

    def to_plain(self) -> dict[str, Any]:
        return {
            "parts": {name: [str(word) for word in words] for name, words in self.parts.items()},
            "held": self.held,
            "buffer": None if self.buffer is None else [str(word) for word in self.buffer],
            "buffer_position": self.buffer_position,
        }

    @classmethod
    def from_plain(cls, engine: Engine, plain: Mapping[str, Any]) -> BitGenerator:
        parts = entries(plain.get("parts"), "parts")
        held = plain.get("held")
        state = cls(
            engine,
            _parts(engine, parts),
            None if held is None else integer(held, 32, "held"),
        )
        return _buffered(state, plain.get("buffer"), plain.get("buffer_position"))


def _parts(engine: Engine, node: Mapping[Any, Any]) -> dict[str, tuple[int, ...]]:
    found = {}
    for name, (count, bits) in _PARTS[engine].items():
        value = node.get(name)
        single = count == 1 and not isinstance(value, list | tuple)
        words = [value] if single else value
        found[name] = integers(words, count, bits, name)
    return found


def _buffered(state: BitGenerator, buffer: Node, position: Node) -> BitGenerator:
    if state.engine is not Engine.PHILOX4X64:
        return state
    return BitGenerator(
        state.engine,
        state.parts,
        state.held,
        integers(buffer, 4, 64, "buffer"),
        integer(position, 3, "buffer_pos"),
    )


def from_numpy(node: Node) -> BitGenerator:
    """`numpy.random.Generator.bit_generator.state`; for an MT19937 see `twister`."""
    whole = entries(node, "state")
    name = whole.get("bit_generator")
    engine = NAMES.get(name) if isinstance(name, str) else None
    if engine is None:
        raise DamagedError(f"expected one of numpy's bit generators, found {name!r}")
    held = integer(whole.get("uinteger", 0), 32, "uinteger")
    kept = integer(whole.get("has_uint32", 0), 1, "has_uint32")
    parts = _parts(engine, entries(whole.get("state"), "state"))
    state = BitGenerator(engine, parts, held if kept else None)
    return _buffered(state, whole.get("buffer"), whole.get("buffer_pos"))


def to_numpy(state: BitGenerator, listed: bool = False) -> dict[str, Any]:
    """What `bit_generator.state` is set to; arrays of uint64, or lists with `listed`."""
    import numpy as np

    def words(values: tuple[int, ...]) -> Any:
        return list(values) if listed else np.array(values, np.uint64)

    inner = {
        name: values[0] if _PARTS[state.engine][name][0] == 1 else words(values)
        for name, values in state.parts.items()
    }
    found: dict[str, Any] = {"bit_generator": _BY_ENGINE[state.engine], "state": inner}
    if state.buffer is not None:
        found |= {"buffer": words(state.buffer), "buffer_pos": state.buffer_position}
    return found | {"has_uint32": int(state.held is not None), "uinteger": state.held or 0}
