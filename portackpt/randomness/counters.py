"""Philox4x32-10, the cipher of torch on CUDA and of tf.random.Generator; and MPS' own.

A block of four 32-bit words is the encryption of a 128-bit counter under a 64-bit key. torch keeps
(u64 seed, i64 offset), 16 bytes: the key, and how many words each thread has taken (multiples of 4;
the thread is the upper half of the counter). TensorFlow keeps three int64: the counter's lower and
upper half, and the key. (aten/src/ATen/cuda/CUDAGeneratorImpl.cpp,
tensorflow/core/kernels/stateful_random_ops.h.)
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portackpt.errors import DamagedError, UsageError
from portackpt.randomness.stream import Engine, integer, listed, raw
from portackpt.tree import Node

CUDA_BYTES = 16
CUDA_OLD_BYTES = 816
"""Until torch 1.8: 800 bytes of another generator's, all ones, before the 16."""
MPS_BYTES = (36, 44)
_CUDA = struct.Struct("<Qq")
MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Philox:
    """Philox4x32-10: the key, the next block's counter (128 bits), words of it already taken."""

    key: int
    counter: int
    taken: int = 0

    @property
    def engine(self) -> Engine:
        return Engine.PHILOX4X32

    def essence(self) -> bytes:
        return struct.pack("<QQQB", self.key, self.counter & MASK, self.counter >> 64, self.taken)

    def to_plain(self) -> dict[str, Any]:
        return {"key": str(self.key), "counter": str(self.counter), "taken": self.taken}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Philox:
        return cls(
            integer(plain.get("key"), 64, "key"),
            integer(plain.get("counter"), 128, "counter"),
            integer(plain.get("taken"), 2, "taken"),
        )


def from_torch_cuda(data: bytes) -> Philox:
    """The state that `torch.cuda.get_rng_state()` gives as bytes."""
    if len(data) not in (CUDA_BYTES, CUDA_OLD_BYTES):
        raise DamagedError(
            f"torch's CUDA generator has a state of {CUDA_BYTES} bytes ({CUDA_OLD_BYTES} until "
            f"1.8), found {len(data)}"
        )
    seed, offset = _CUDA.unpack(data[-CUDA_BYTES:])
    if offset < 0:
        raise DamagedError(f"expected an offset of 0 or more, found {offset}", "offset")
    return Philox(seed, offset // 4, offset % 4)


def to_torch_cuda(state: Philox) -> bytes:
    """The 16 bytes that `torch.cuda.set_rng_state` takes; the counter's upper half has to be 0."""
    offset = state.counter * 4 + state.taken
    if offset >= 1 << 63:
        raise UsageError("torch's CUDA generator has no place for so large a counter")
    return _CUDA.pack(state.key, offset)


def from_tensorflow(node: Node) -> Philox:
    """The state of a tf.random.Generator with the algorithm philox (1)."""
    low, high, key = _words(node, 3)
    return Philox(key, low | high << 64)


def to_tensorflow(state: Philox) -> tuple[int, int, int]:
    """Three int64 for `tf.random.Generator.from_state(…, alg="philox")`."""
    if state.taken:
        raise UsageError("tf.random.Generator starts at a whole block of four words")
    return (
        _signed(state.counter & MASK),
        _signed(state.counter >> 64),
        _signed(state.key),
    )


@dataclass(frozen=True, slots=True)
class TensorflowThreefry:
    """Threefry2x32 of tf.random.Generator (algorithm 2): two int64, counter and key."""

    counter: int
    key: int

    @property
    def engine(self) -> Engine:
        return Engine.TF_THREEFRY

    def essence(self) -> bytes:
        return struct.pack("<QQ", self.counter, self.key)

    def to_plain(self) -> dict[str, Any]:
        return {"counter": str(self.counter), "key": str(self.key)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> TensorflowThreefry:
        return cls(
            integer(plain.get("counter"), 64, "counter"), integer(plain.get("key"), 64, "key")
        )


def from_tensorflow_threefry(node: Node) -> TensorflowThreefry:
    counter, key = _words(node, 2)
    return TensorflowThreefry(counter, key)


def to_tensorflow_threefry(state: TensorflowThreefry) -> tuple[int, int]:
    return (_signed(state.counter), _signed(state.key))


def _words(node: Node, count: int) -> tuple[int, ...]:
    """`count` int64, as unsigned."""
    values = listed(node)
    if values is None or len(values) != count:
        raise DamagedError(f"expected {count} int64, found something else")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 63) <= value <= MASK:
            raise DamagedError(f"expected an int64, found {value!r}")
    return tuple([value & MASK for value in values])


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


@dataclass(frozen=True, slots=True)
class Mps:
    """torch's MPS generator: seven words, the seed, and since 2.1 an offset; moved as it is."""

    words: tuple[int, ...]
    seed: int
    offset: int | None = None

    @property
    def engine(self) -> Engine:
        return Engine.MPS

    def essence(self) -> bytes:
        return to_torch_mps(self)

    def to_plain(self) -> dict[str, Any]:
        offset = None if self.offset is None else str(self.offset)
        return {"words": list(self.words), "seed": str(self.seed), "offset": offset}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Mps:
        offset = plain.get("offset")
        words = listed(plain.get("words")) or []
        return cls(
            tuple([integer(word, 32, "words") for word in words]),
            integer(plain.get("seed"), 64, "seed"),
            None if offset is None else integer(offset, 64, "offset"),
        )


def from_torch_mps(node: Node) -> Mps:
    """The state that `torch.mps.get_rng_state()` gives as bytes."""
    data = raw(node, "state")
    if len(data) not in MPS_BYTES:
        raise DamagedError(f"torch's MPS generator has 36 or 44 bytes, found {len(data)}")
    *words, seed = struct.unpack_from("<7IQ", data)
    offset = struct.unpack_from("<Q", data, 36)[0] if len(data) == 44 else None
    return Mps(tuple(words), seed, offset)


def to_torch_mps(state: Mps) -> bytes:
    tail = b"" if state.offset is None else struct.pack("<Q", state.offset)
    return struct.pack("<7IQ", *state.words, state.seed) + tail


def seeded_mps(seed: int) -> Mps:
    """The state after `torch.mps.manual_seed(seed)`: ones, with the seed as the cipher's key."""
    return Mps((1, 1, 1, 1, 1, seed & 0xFFFFFFFF, seed >> 32), seed, 0)
