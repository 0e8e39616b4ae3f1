"""The Mersenne Twister MT19937, which torch on the CPU, numpy and Python share.

624 words of 32 bits and the place of the next; 624 means that new words are made first. The raw
stream is the same in all three, what each makes of it is not. Also kept is a normal deviate that
was made in a pair and not yet given out.

torch's state, 5056 bytes, little-endian (aten/src/ATen/CPUGeneratorImpl.cpp, `set_state`):

    0     u64 seed           8     i32 left            12    i32 seeded
    16    u64 next           24    u64 word[624]       5016  f64 normal_x (0)
    5024  f64 normal_y       5032  f64 normal_rho (0)  5040  i32 normal_is_valid, 4 of padding
    5048  f32 float normal   5052  u8 valid, 3 of padding

The first 5048 alone are the state of torch before 1.2, whose normal is rho * sin(2 pi x).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portackpt.errors import DamagedError
from portackpt.randomness.stream import Engine, entries, integer, integers
from portackpt.tree import Node

WORDS = 624
TORCH_BYTES = 5056
TORCH_OLD_BYTES = 5048
_HEAD = struct.Struct("<QiiQ624Q")
_DOUBLE = struct.Struct("<dddi4x")
_FLOAT = struct.Struct("<f?3x")


@dataclass(frozen=True, slots=True)
class Twister:
    """The state of an MT19937.

    `normal` and `float_normal` are deviates held back (numpy and Python have the first only).
    `seed` is what torch reports as the initial seed; `torch_next` torch's own place where it is not
    `position` (0 after seeding, where the next draw makes new words anyway).
    """

    words: tuple[int, ...]
    position: int
    normal: float | None = None
    float_normal: float | None = None
    seed: int | None = None
    torch_next: int | None = None

    def __post_init__(self) -> None:
        if len(self.words) != WORDS or not 0 <= self.position <= WORDS:
            raise DamagedError(
                f"a Mersenne Twister has {WORDS} words and a position up to {WORDS}, found "
                f"{len(self.words)} and {self.position}"
            )

    @property
    def engine(self) -> Engine:
        return Engine.MT19937

    def essence(self) -> bytes:
        held = (
            struct.pack("<?d", self.normal is not None, self.normal or 0.0),
            struct.pack("<?f", self.float_normal is not None, self.float_normal or 0.0),
        )
        return struct.pack(f"<{WORDS + 1}I", *self.words, self.position) + b"".join(held)

    def to_plain(self) -> dict[str, Any]:
        return {
            "words": list(self.words),
            "position": self.position,
            "normal": self.normal,
            "float_normal": self.float_normal,
            "seed": None if self.seed is None else str(self.seed),
            "torch_next": self.torch_next,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Twister:
        seed, place = plain.get("seed"), plain.get("torch_next")
        return cls(
            integers(plain.get("words"), WORDS, 32, "words"),
            integer(plain.get("position"), 10, "position"),
            _normal(plain.get("normal"), "normal"),
            _normal(plain.get("float_normal"), "float_normal"),
            None if seed is None else integer(seed, 64, "seed"),
            None if place is None else integer(place, 10, "torch_next"),
        )


def _normal(node: Node, what: str) -> float | None:
    if node is None:
        return None
    if hasattr(node, "item"):
        node = node.item()
    if isinstance(node, bool) or not isinstance(node, int | float) or not math.isfinite(node):
        raise DamagedError(f"expected a finite number, found {node!r}", what)
    return float(node)


def from_torch(data: bytes) -> Twister:
    """The state that `torch.get_rng_state()` gives as bytes."""
    if len(data) not in (TORCH_BYTES, TORCH_OLD_BYTES):
        raise DamagedError(
            f"torch's generator has a state of {TORCH_BYTES} bytes ({TORCH_OLD_BYTES} before 1.2), "
            f"found {len(data)}"
        )
    seed, left, seeded, place, *words = _HEAD.unpack_from(data)
    x, y, rho, valid = _DOUBLE.unpack_from(data, _HEAD.size)
    if seeded != 1 or not 1 <= left <= WORDS or (left > 1 and place + left != WORDS + 1):
        raise DamagedError(
            f"torch's generator was never seeded, or its place is lost: seeded {seeded}, "
            f"{left} words left, the next {place}"
        )
    position = WORDS if left == 1 else place
    normal, float_normal = (y if valid else None), None
    if len(data) == TORCH_OLD_BYTES:
        normal = rho * math.sin(2.0 * math.pi * x) if valid else None
    else:
        value, held = _FLOAT.unpack_from(data, TORCH_OLD_BYTES)
        float_normal = _normal(value, "float normal") if held else None
    return Twister(
        integers(words, WORDS, 32, "words"),
        position,
        _normal(normal, "normal"),
        float_normal,
        seed,
        None if place == position else integer(place, 10, "next"),
    )


def to_torch(state: Twister) -> bytes:
    """The 5056 bytes that `torch.set_rng_state` takes (as a uint8 tensor)."""
    left = 1 if state.position == WORDS else WORDS + 1 - state.position
    place = state.position if state.torch_next is None else state.torch_next
    head = _HEAD.pack(state.seed or 0, left, 1, place, *state.words)
    double = _DOUBLE.pack(0.0, state.normal or 0.0, 0.0, state.normal is not None)
    return head + double + _FLOAT.pack(state.float_normal or 0.0, state.float_normal is not None)


def from_numpy(node: Node) -> Twister:
    """`numpy.random.get_state()`, legacy tuple or dict, or the state of a `MT19937`."""
    if isinstance(node, tuple | list):
        if len(node) not in (3, 5) or node[0] != "MT19937":
            raise DamagedError("expected ('MT19937', words, position, has_gauss, gauss)")
        key, position = node[1], node[2]
        held, gauss = (node[3], node[4]) if len(node) == 5 else (0, 0.0)
    else:
        whole = entries(node, "state")
        if whole.get("bit_generator") != "MT19937":
            raise DamagedError(f"expected an MT19937, found {whole.get('bit_generator')!r}")
        inner = entries(whole.get("state"), "state")
        key, position = inner.get("key"), inner.get("pos")
        held, gauss = whole.get("has_gauss", 0), whole.get("gauss", 0.0)
    return Twister(
        integers(key, WORDS, 32, "key"),
        integer(position, 10, "pos"),
        _normal(gauss, "gauss") if integer(held, 1, "has_gauss") else None,
    )


def to_numpy(state: Twister) -> tuple[str, tuple[int, ...], int, int, float]:
    """What `numpy.random.set_state` takes."""
    held = int(state.normal is not None)
    return ("MT19937", state.words, state.position, held, state.normal or 0.0)


def to_numpy_dict(state: Twister) -> dict[str, Any]:
    """The state of a `numpy.random.MT19937`, which holds no normal back."""
    inner = {"key": list(state.words), "pos": state.position}
    return {"bit_generator": "MT19937", "state": inner}


def from_python(node: Node) -> Twister:
    """`random.getstate()`: (3, 624 words and the position, the normal held back or None)."""
    if not isinstance(node, tuple | list) or len(node) != 3 or node[0] != 3:
        raise DamagedError("expected (3, words and position, gauss_next)")
    values = integers(node[1], WORDS + 1, 32, "words")
    return Twister(values[:WORDS], values[WORDS], _normal(node[2], "gauss_next"))


def to_python(state: Twister) -> tuple[int, tuple[int, ...], float | None]:
    """What `random.setstate` takes."""
    return (3, (*state.words, state.position), state.normal)
