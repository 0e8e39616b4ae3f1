"""Capturing: live objects as a checkpoint over their own memory. No tensor byte is copied."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from portackpt.bytesource import ByteSource
from portackpt.checkpoint import Checkpoint
from portackpt.collector import paused_collector
from portackpt.errors import PortackptError, UsageError
from portackpt.live import containers
from portackpt.live.adapters import adapter_of
from portackpt.tensor import Tensor
from portackpt.tree import MAX_DEPTH, PLAIN, Node, escape

_PLAIN = frozenset(PLAIN)
_TOLD = 20
"""Faults that a message names; it counts the others."""


def capture(objects: Mapping[str, object]) -> Checkpoint:
    """`objects` as a checkpoint whose tree has a part for each of them, under its name.

    Tensors lie over the memory of the objects: who goes on training while it is written has to
    take a snapshot first. Raises `UsageError` that names everything that cannot be saved.
    """
    with paused_collector():
        scene = Capture(objects)
        tree = {name: scene.node(value, escape(name)) for name, value in objects.items()}
    raise_faults("these cannot be saved", scene.faults)
    return Checkpoint(tree, "live", scene.framework, scene.version)


class Capture:
    """What is known while objects are captured: tensors and storages that were met already."""

    def __init__(self, objects: Mapping[str, object]) -> None:
        self.objects = objects
        self.framework: str | None = None
        """That of the first object that has one; tensors of another one are marked with it."""
        self.version: str | None = None
        self.faults: list[tuple[str, str]] = []
        self._tensors: dict[Hashable, Tensor] = {}
        self._sources: dict[Hashable, ByteSource] = {}
        self._alive: list[object] = []
        self._depth = 0

    def fault(self, path: str, told: str) -> None:
        self.faults.append((path, told))

    def of(self, framework: str, version: str) -> dict[str, Any]:
        """The attributes of a tensor of `framework`: its name, where it is not the checkpoint's."""
        if self.framework is None:
            self.framework, self.version = framework, version
        return {} if self.framework == framework else {"framework": framework}

    def tensor(self, key: Hashable, value: object, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of `key`, made when it is met first. `value` is kept alive until the end."""
        found = self._tensors.get(key)
        if found is None:
            self._alive.append(value)
            found = self._tensors[key] = make()
        return found

    def source(self, key: Hashable, make: Callable[[], ByteSource]) -> ByteSource:
        """The storage of `key`, made when it is met first."""
        found = self._sources.get(key)
        if found is None:
            found = self._sources[key] = make()
        return found

    def node(self, value: Any, path: str) -> Node:
        """`value` as a node: plain data, a container of nodes, or what its adapter makes of it."""
        if type(value) in _PLAIN:
            return value
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                self.fault(path, f"more than {MAX_DEPTH} levels deep, or inside of itself")
                return None
            return self._node(value, path)
        except PortackptError as error:
            self.fault(path, str(error))
            return None
        finally:
            self._depth -= 1

    def _node(self, value: Any, path: str) -> Node:
        kind = type(value)
        if kind is dict:
            return self.entries(value, path)
        if kind is list or kind is tuple:
            return kind(self.items(value, path))
        spelled = containers.spell(
            value, lambda: self.items(value, path), lambda: self.entries(value, path)
        )
        if spelled is not None:
            return spelled
        adapter = adapter_of(value)
        if adapter is not None:
            return adapter.capture(value, self, path)
        fields = containers.fields_of(value)
        if fields is not None:
            return self.entries(dict(zip(fields, value, strict=True)), path)
        if isinstance(value, str):
            return str(value)
        self.fault(
            path,
            f"a {kind.__module__}.{kind.__qualname__}, which is no plain data and has neither "
            "state_dict and load_state_dict nor get_state and set_state",
        )
        return None

    def items(self, values: Any, path: str) -> list[Node]:
        return [self.node(value, f"{path}/{index}") for index, value in enumerate(values)]

    def entries(self, values: Mapping[Any, Any], path: str) -> dict[Node, Node]:
        found: dict[Node, Node] = {}
        for key, value in values.items():
            place = f"{path}/{escape(key if type(key) is str else str(key))}"
            if _is_key(key):
                found[key] = self.node(value, place)
            else:
                self.fault(place, f"its key is a {type(key).__qualname__}, which is no plain data")
        return found


def _is_key(key: object) -> bool:
    return type(key) in _PLAIN or (type(key) is tuple and all(map(_is_key, key)))


def raise_faults(told: str, faults: list[tuple[str, str]]) -> None:
    """Raise one `UsageError` for all `faults`, if there are any."""
    if not faults:
        return
    lines = [f"{path}: {fault}" for path, fault in faults[:_TOLD]]
    if len(faults) > _TOLD:
        lines.append(f"and {len(faults) - _TOLD} more")
    raise UsageError(f"{told}:\n  " + "\n  ".join(lines))
