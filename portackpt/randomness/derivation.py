"""A stream that goes on in another engine: a seed derived from the whole state.

Where the target has no such engine, its stream is started anew from

    seed = SHA-256( "portackpt/rng-derive/v1" 0 engine 0 hex(SHA-256(state)) 0 name 0 target )

(0 a zero byte, texts in UTF-8, `state` the bytes of `essence`): deterministic, another one for each
stream and each target, and another one when a single number more had been drawn. The 32 bytes, or
as many more as an engine needs (the SHA-256 of the seed and a little-endian u32 that counts from 0,
one after the other), fill its state:

    mt19937                   624 words, the next draw makes new ones
    philox4x32                64 bits of key, counter 0
    philox4x64                128 bits of key, counter 0, nothing buffered
    pcg64, pcg64dxsm          128 bits of state, 128 of increment (made odd)
    sfc64                     192 bits, and the counter 1
    threefry2x32              64 bits of key         rbg, unsafe_rbg   128 bits of key
    tf-threefry               64 bits of key, counter 0
    keras-seed                31 bits (every backend's dtype holds them), counter 0
    mps-philox                64 bits, as torch.mps.manual_seed
"""

from __future__ import annotations

import hashlib
import struct

from portackpt.randomness.counters import Philox, TensorflowThreefry, seeded_mps
from portackpt.randomness.generators import BitGenerator
from portackpt.randomness.keys import Key, Seed
from portackpt.randomness.stream import Engine, Library, RandomStream, State
from portackpt.randomness.twister import WORDS, Twister

DOMAIN = b"portackpt/rng-derive/v1"


def seed(stream: RandomStream, target: Engine, name: str) -> bytes:
    """The 32 bytes that start the stream `name` in the engine `target`."""
    state = hashlib.sha256(stream.state.essence()).hexdigest()
    fields = (DOMAIN, stream.engine.encode(), state.encode(), name.encode(), target.encode())
    return hashlib.sha256(b"\0".join(fields)).digest()


def derive(
    stream: RandomStream, target: Engine, name: str, library: Library | None = None
) -> RandomStream:
    """The stream `name` in the engine `target`, started from the state of `stream`."""
    state = _state(target, seed(stream, target, name))
    return RandomStream(name, library or _HOME[target], state)


_HOME = {
    Engine.MT19937: Library.NUMPY,
    Engine.PHILOX4X32: Library.TORCH_CUDA,
    Engine.PHILOX4X64: Library.NUMPY,
    Engine.PCG64: Library.NUMPY,
    Engine.PCG64DXSM: Library.NUMPY,
    Engine.SFC64: Library.NUMPY,
    Engine.THREEFRY2X32: Library.JAX,
    Engine.RBG: Library.JAX,
    Engine.UNSAFE_RBG: Library.JAX,
    Engine.TF_THREEFRY: Library.TENSORFLOW,
    Engine.KERAS_SEED: Library.KERAS,
    Engine.MPS: Library.TORCH_MPS,
}


def _expanded(seed: bytes, count: int) -> bytes:
    blocks = [
        hashlib.sha256(seed + struct.pack("<I", block)).digest() for block in range(-(-count // 32))
    ]
    return b"".join(blocks)[:count]


def _state(engine: Engine, seed: bytes) -> State:
    words = struct.unpack("<4Q", seed)
    halves = struct.unpack("<8I", seed)
    low = int.from_bytes(seed[:16], "little")
    match engine:
        case Engine.MT19937:
            key = struct.unpack(f"<{WORDS}I", _expanded(seed, 4 * WORDS))
            return Twister((key[0] | 1 << 31, *key[1:]), WORDS)
        case Engine.PHILOX4X32:
            return Philox(words[0], 0)
        case Engine.PHILOX4X64:
            parts = {"counter": (0, 0, 0, 0), "key": words[:2]}
            return BitGenerator(engine, parts, None, (0, 0, 0, 0), 4)
        case Engine.PCG64 | Engine.PCG64DXSM:
            increment = int.from_bytes(seed[16:], "little") | 1
            return BitGenerator(engine, {"state": (low,), "inc": (increment,)})
        case Engine.SFC64:
            return BitGenerator(engine, {"state": (*words[:3], 1)})
        case Engine.TF_THREEFRY:
            return TensorflowThreefry(0, words[0])
        case Engine.KERAS_SEED:
            return Seed(halves[0] & 0x7FFFFFFF, 0)
        case Engine.MPS:
            return seeded_mps(words[0])
        case Engine.THREEFRY2X32:
            return Key(engine, halves[:2])
        case Engine.RBG | Engine.UNSAFE_RBG:
            return Key(engine, halves[:4])
    raise AssertionError(f"no derivation for {engine}")
