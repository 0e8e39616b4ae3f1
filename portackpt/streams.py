"""Random streams of a run in the places of a template's: one engine goes on, others are derived."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from portackpt.moved import Moved
from portackpt.randomness import Library, RandomStream, counters, generators, keys, twister
from portackpt.randomness.counters import Philox, TensorflowThreefry
from portackpt.randomness.generators import BitGenerator
from portackpt.randomness.keys import Key
from portackpt.randomness.moving import move
from portackpt.randomness.twister import Twister
from portackpt.run import Stream, at
from portackpt.tensor import Tensor, from_array
from portackpt.tree import Node, walk


def poured(
    source: Node, streams: Sequence[Stream], like: Node, wanted: Sequence[Stream]
) -> dict[str, Moved]:
    """Values of the leaves of the `wanted` streams (of the tree `like`), by path.

    Each wanted stream goes on from the first of the source's that has its engine and is not taken;
    where there is none, it starts from a seed derived from the source's state.
    """
    if not streams:
        return {}
    found: dict[str, Moved] = {}
    left = list(streams)
    engines = {stream.stream.engine for stream in streams}
    for stream in sorted(wanted, key=lambda one: one.stream.engine not in engines):
        same = [s for s in left if s.stream.engine is stream.stream.engine]
        origin = (same or left or list(streams))[0]
        if origin in left:
            left.remove(origin)
        places = dict(_leaves(like, stream.path))
        paths = tuple([path for path, _ in _leaves(source, origin.path)])
        moved = move(
            origin.stream, stream.stream.library, stream.path or "stream", stream.stream.engine
        )
        if moved.stream is None:
            continue
        for below, value in walk(_spelled(moved.stream, set(places.values()))):
            place = at(stream.path, below) if below else stream.path
            if place in places:
                found[place] = Moved(value, paths, moved.fate, moved.detail, moved.consequence)
    return found


def _leaves(tree: Node, path: str) -> Iterator[tuple[str, str]]:
    """Paths of the leaves of a stream, whole and below its own."""
    for place, _ in walk(tree):
        if place == path:
            yield place, ""
        elif place.startswith(f"{path}/") or not path:
            yield place, place[len(path) + 1 :] if path else place


def _spelled(stream: RandomStream, places: set[str]) -> Node:
    """The state as its library keeps it, in the form whose leaves are `places`."""
    state = cast(Any, stream.state)
    match stream.library:
        case Library.TORCH_CPU:
            return _bytes(twister.to_torch(state))
        case Library.TORCH_CUDA:
            return _bytes(counters.to_torch_cuda(state))
        case Library.TORCH_MPS:
            return _bytes(counters.to_torch_mps(state))
        case Library.KERAS:
            return from_array(keys.to_keras(state))
        case Library.PYTHON:
            return twister.to_python(state)
        case Library.JAX:
            return _key(state, places)
        case Library.TENSORFLOW:
            return _tensorflow(state)
    return _numpy(state, places)


def _bytes(data: bytes) -> Tensor:
    import numpy as np

    return from_array(np.frombuffer(data, np.uint8))


def _key(state: Key, places: set[str]) -> Node:
    data = from_array(keys.to_jax(state))
    whole = {"data": data, "impl": str(state.engine)}
    if any(place.startswith("key") for place in places):
        return {"key": whole if "key/data" in places else data, "count": state.count or 0}
    return whole if "data" in places else data


def _tensorflow(state: Philox | TensorflowThreefry) -> Node:
    import numpy as np

    words = (
        counters.to_tensorflow(state) if isinstance(state, Philox)
        else counters.to_tensorflow_threefry(state)
    )  # fmt: skip
    return from_array(np.array(words, np.int64))


def _numpy(state: Twister | BitGenerator, places: set[str]) -> Node:
    if isinstance(state, BitGenerator):
        return generators.to_numpy(state)
    return twister.to_numpy(state) if "4" in places else twister.to_numpy_dict(state)
