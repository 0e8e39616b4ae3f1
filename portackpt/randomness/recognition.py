"""Random states recognized by their shape, as training programs keep them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from portackpt.errors import DamagedError
from portackpt.randomness import counters, generators, keys, twister
from portackpt.randomness.stream import Engine, Library, RandomStream, State, raw
from portackpt.tensor import Tensor
from portackpt.tree import Node, Object

_TORCH_SIZES: Mapping[int, tuple[Library, Callable[[bytes], State]]] = {
    twister.TORCH_BYTES: (Library.TORCH_CPU, twister.from_torch),
    twister.TORCH_OLD_BYTES: (Library.TORCH_CPU, twister.from_torch),
    counters.CUDA_BYTES: (Library.TORCH_CUDA, counters.from_torch_cuda),
    counters.CUDA_OLD_BYTES: (Library.TORCH_CUDA, counters.from_torch_cuda),
    36: (Library.TORCH_MPS, counters.from_torch_mps),
    44: (Library.TORCH_MPS, counters.from_torch_mps),
}


def recognize(node: Node, name: str) -> RandomStream | None:
    """The stream at a place that is called `name`; None where it is nothing of the kind.

    Recognized are the byte tensors of torch, `numpy.random.get_state()` and the states of numpy's
    bit generators, and `random.getstate()`. What looks like one and is not whole raises
    `DamagedError`.
    """
    if isinstance(node, Tensor):
        if node.dtype.name != "uint8" or len(node.shape) != 1 or node.size not in _TORCH_SIZES:
            return None
        library, read = _TORCH_SIZES[node.size]
        return RandomStream(name, library, read(raw(node, name)))
    if isinstance(node, tuple | list):
        if len(node) == 5 and isinstance(node[0], str) and node[0] == "MT19937":
            return RandomStream(name, Library.NUMPY, twister.from_numpy(node))
        words = node[1] if len(node) == 3 and node[0] == 3 else None
        if isinstance(words, tuple | list) and len(words) == twister.WORDS + 1:
            return RandomStream(name, Library.PYTHON, twister.from_python(node))
        return None
    entries = node.entries if isinstance(node, Object) else node
    if isinstance(entries, Mapping) and "bit_generator" in entries and "state" in entries:
        kind = entries["bit_generator"]
        if kind == "MT19937":
            return RandomStream(name, Library.NUMPY, twister.from_numpy(entries))
        if isinstance(kind, str) and kind in generators.NAMES:
            return RandomStream(name, Library.NUMPY, generators.from_numpy(entries))
    return None


def to_plain(stream: RandomStream) -> dict[str, Any]:
    """The stream as JSON can hold it."""
    return {
        "name": stream.name,
        "library": str(stream.library),
        "engine": str(stream.engine),
        "state": dict(stream.state.to_plain()),
    }


def from_plain(plain: Mapping[str, Any]) -> RandomStream:
    """The stream that `to_plain` described; every value checked."""
    try:
        engine, library = Engine(str(plain.get("engine"))), Library(str(plain.get("library")))
    except ValueError as error:
        raise DamagedError(f"unknown random engine or library: {error}") from error
    name, state = plain.get("name"), plain.get("state")
    if not isinstance(name, str) or not isinstance(state, Mapping):
        raise DamagedError("a random stream has a name and a state")
    return RandomStream(name, library, _state(engine, state))


def _state(engine: Engine, plain: Mapping[str, Any]) -> State:
    match engine:
        case Engine.MT19937:
            return twister.Twister.from_plain(plain)
        case Engine.PHILOX4X32:
            return counters.Philox.from_plain(plain)
        case Engine.TF_THREEFRY:
            return counters.TensorflowThreefry.from_plain(plain)
        case Engine.MPS:
            return counters.Mps.from_plain(plain)
        case Engine.KERAS_SEED:
            return keys.Seed.from_plain(plain)
        case Engine.THREEFRY2X32 | Engine.RBG | Engine.UNSAFE_RBG:
            return keys.Key.from_plain(engine, plain)
    return generators.BitGenerator.from_plain(engine, plain)
