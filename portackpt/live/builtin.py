"""Adapters that need no framework: numpy's arrays and generators, and two protocols.

Anything with `state_dict` and `load_state_dict`, or with `get_state` and `set_state`, is saved as
what the first of them gives and restored by the second: schedulers, scalers, loaders, samplers.
"""

from __future__ import annotations

from typing import Any

from portackpt.bytesource import InMemory
from portackpt.dtypes import from_numpy
from portackpt.errors import PortackptError, UnsupportedError, UsageError
from portackpt.live.adapters import Live
from portackpt.live.capturing import Capture
from portackpt.live.memory import fill
from portackpt.live.restoring import Restoring
from portackpt.strides import as_bytes
from portackpt.tensor import Tensor, contiguous, from_array
from portackpt.tree import Node, Object

_CLASS = "numpy.class"


class _Arrays:
    """numpy's arrays and scalars. Arrays are filled in place where they can be."""

    framework: str | None = None

    def handles(self, value: Any) -> bool:
        names = [f"{kind.__module__}.{kind.__name__}" for kind in type(value).__mro__]
        return "numpy.ndarray" in names or "numpy.generic" in names

    def capture(self, value: Any, scene: Capture, path: str) -> Node:
        import numpy as np

        if not isinstance(value, np.ndarray):
            return from_array(np.asarray(value), {_CLASS: "numpy.scalar"})
        own = {_CLASS: "numpy.ndarray"}
        if value.dtype.kind in "OSUV" and value.dtype.kind != "S":
            raise UnsupportedError(f"a numpy array of dtype {value.dtype}")
        if value.dtype.kind == "S" or value.dtype.byteorder == ">" or not value.flags.c_contiguous:
            return scene.tensor(id(value), value, lambda: from_array(value, own))
        return scene.tensor(
            id(value),
            value,
            lambda: contiguous(from_numpy(value.dtype), value.shape, _frozen_or_not(value), 0, own),
        )

    def compare(self, value: Any, node: Node, scene: Restoring, path: str) -> None:
        scene.compare_array(from_numpy(value.dtype).name, value.shape, node, path)

    def restore(self, value: Any, node: Tensor, scene: Restoring, path: str) -> Any:
        import numpy as np

        if isinstance(value, np.ndarray) and value.flags.writeable and value.dtype.isnative:
            fill(value, node)
            return value
        return self.make(node)

    def make(self, node: Tensor | Object) -> Any:
        assert isinstance(node, Tensor)
        values = node.read()
        return values[()] if node.attributes.get(_CLASS) == "numpy.scalar" else values


def _frozen_or_not(array: Any) -> InMemory:
    return InMemory(memoryview(as_bytes(array)))


class _Generators:
    """`numpy.random.Generator`: the state of its bit generator."""

    framework: str | None = None

    def handles(self, value: Any) -> bool:
        kind = type(value)
        return kind.__name__ == "Generator" and kind.__module__.startswith("numpy.random")

    def capture(self, value: Any, scene: Capture, path: str) -> Node:
        return scene.node(value.bit_generator.state, path)

    def compare(self, value: Any, node: Node, scene: Restoring, path: str) -> None:
        own = value.bit_generator.state["bit_generator"]
        found = node.get("bit_generator") if isinstance(node, dict) else None
        if found != own:
            scene.fault(path, f"expected the state of a {own}, found {found or type(node)}")

    def restore(self, value: Any, node: Node, scene: Restoring, path: str) -> Any:
        value.bit_generator.state = scene.revive(node)
        return value

    def make(self, node: Tensor | Object) -> Any:
        raise UnsupportedError("a generator is filled, not made")


class _Protocol:
    """Objects that give their state by one method and take it back by another."""

    framework: str | None = None

    def __init__(self, give: str, take: str) -> None:
        self._give = give
        self._take = take

    def handles(self, value: Any) -> bool:
        return not isinstance(value, type) and all(
            callable(getattr(value, name, None)) for name in (self._give, self._take)
        )

    def capture(self, value: Any, scene: Capture, path: str) -> Node:
        return scene.node(getattr(value, self._give)(), path)

    def compare(self, value: Any, node: Node, scene: Restoring, path: str) -> None:
        """Only the object knows what it takes; what fails is taken back."""

    def restore(self, value: Any, node: Node, scene: Restoring, path: str) -> Any:
        from copy import deepcopy

        take = getattr(value, self._take)
        before = deepcopy(getattr(value, self._give)())
        scene.undo(lambda: take(before))
        state = scene.revive(node)
        try:
            take(state)
        except PortackptError:
            raise
        except Exception as error:
            raise UsageError(
                f"{type(value).__name__}.{self._take} does not take what was saved: "
                f"{type(error).__name__}: {error}",
                path,
            ) from error
        return value

    def make(self, node: Tensor | Object) -> Any:
        raise UnsupportedError("such an object is filled, not made")


class _PythonRandom(_Protocol):
    """`random.Random`."""

    def handles(self, value: Any) -> bool:
        import random

        return isinstance(value, random.Random)


ARRAYS: Live = _Arrays()
ADAPTERS: tuple[Live, ...] = (
    ARRAYS,
    _Generators(),
    _Protocol("state_dict", "load_state_dict"),
    _PythonRandom("getstate", "setstate"),
    _Protocol("get_state", "set_state"),
)
