"""Restoring: filling live objects from a checkpoint, after all of it was compared with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from portackpt.checkpoint import Checkpoint
from portackpt.collector import paused_collector
from portackpt.errors import UnsupportedError
from portackpt.ledger import Entry, Fate, Ledger, Side
from portackpt.live import containers
from portackpt.live.adapters import Live, adapter_of, named
from portackpt.live.capturing import capture, raise_faults
from portackpt.planning import measured
from portackpt.tensor import Tensor
from portackpt.tree import PLAIN, Node, Object, escape, walk

_PLAIN = frozenset(PLAIN)
_NUMBERS = (bool, int, float)


@dataclass(frozen=True, slots=True)
class Restored:
    """Objects as the checkpoint has them, and what became of every leaf of it.

    Objects that can be changed are the same ones, filled in place; others (JAX arrays, numbers) are
    new, so that a program takes all of them from here.
    """

    objects: Mapping[str, Any]
    ledger: Ledger


def apply(
    checkpoint: Checkpoint,
    objects: Mapping[str, object],
    *,
    strict: bool = True,
    where: str = "",
    settings: Mapping[str, str] | None = None,
) -> Restored:
    """Fill `objects` from `checkpoint`.

    All of it is compared first: one `UsageError` lists every leaf that is missing, unexpected, or
    of another shape or type, and then nothing has changed. Without `strict`, what the checkpoint
    lacks stays as it is, and what the objects have no place for is left out; the ledger says so.
    A checkpoint of another framework is translated first, with the objects as its template.
    `settings` say what it leaves open.
    """
    tree, entries, framework = _in_words_of(checkpoint, objects, where, settings or {})
    scene = Restoring(objects, framework, strict)
    with paused_collector():
        scene.compare_all(tree)
        raise_faults("the checkpoint does not fit the objects; nothing was changed", scene.faults)
        filled = scene.restore_all(tree)
    sides = (
        Side(where or checkpoint.format, checkpoint.format, checkpoint.framework),
        Side("objects", "live", framework),
    )
    told = scene.entries(tree) if entries is None else entries
    return Restored(filled, Ledger(*sides, measured(told, checkpoint.tree, tree)))


def _in_words_of(
    checkpoint: Checkpoint, objects: Mapping[str, object], where: str, settings: Mapping[str, str]
) -> tuple[Node, tuple[Entry, ...] | None, str | None]:
    """The tree as the objects' framework spells it, with entries where that is another one."""
    if checkpoint.framework is None:
        return checkpoint.tree, None, None
    like = capture(objects)
    if like.framework in (None, checkpoint.framework):
        return checkpoint.tree, None, checkpoint.framework
    from portackpt.translation import lift, translate  # only where frameworks differ

    run = lift(checkpoint, settings)
    found = translate(checkpoint, run, where, like.framework, like, None, settings)
    return found.spelling.tree, found.spelling.entries, like.framework


class Restoring:
    """What is known while objects are restored: what does not fit, and how to take steps back."""

    def __init__(self, objects: Mapping[str, object], framework: str | None, strict: bool) -> None:
        self.objects = objects
        self.framework = framework
        self.faults: list[tuple[str, str]] = []
        self._strict = strict
        self._missing: list[str] = []
        self._unexpected: set[str] = set()
        self._undo: list[Callable[[], object]] = []

    def fault(self, path: str, told: str) -> None:
        self.faults.append((path, told))

    def missing(self, path: str) -> None:
        """The checkpoint has nothing for this place of the objects."""
        if self._strict:
            self.fault(path, "missing from the checkpoint")
        self._missing.append(path)

    def unexpected(self, path: str) -> None:
        """The objects have no place for this part of the checkpoint."""
        if self._strict:
            self.fault(path, "in the checkpoint, and not in the objects")
        self._unexpected.add(path)

    def undo(self, step: Callable[[], object]) -> None:
        """`step` takes back what is done next, should anything fail later."""
        self._undo.append(step)

    def compare_all(self, tree: Node) -> None:
        entries = containers.mapping(tree)
        if entries is None:
            self.fault("", f"expected a dict of {', '.join(self.objects)}, found {_kind(tree)}")
            return
        for key in self.pair(self.objects, entries, ""):
            self.compare(self.objects[key], entries[key], escape(key))

    def restore_all(self, tree: Node) -> dict[str, Any]:
        """First what can refuse its state, and be taken back; then what was compared in full."""
        entries = containers.mapping(tree) or {}
        found = dict(self.objects)
        names = [name for name in found if name in entries]
        for name in sorted(names, key=lambda name: not _can_refuse(found[name])):
            try:
                found[name] = self.restore(found[name], entries[name], escape(name))
            except BaseException as error:
                for step in reversed(self._undo):
                    with suppress(Exception):
                        step()
                if not _can_refuse(self.objects[name]):
                    error.add_note("the objects are filled in part: do not train on them")
                raise
        return found

    def pair(self, live: Mapping[Any, Any], entries: Mapping[Any, Node], path: str) -> list[Any]:
        """The keys that both have; what only one of them has is told."""
        for key in live:
            if key not in entries:
                self.missing(_below(path, key))
        for key in entries:
            if key not in live:
                self.unexpected(_below(path, key))
        return [key for key in live if key in entries]

    # comparing

    def compare(self, value: Any, node: Node, path: str) -> None:
        """Tell of every leaf of `node` that does not fit `value`."""
        adapter = None if type(value) in _PLAIN else adapter_of(value)
        if adapter is not None:
            adapter.compare(value, node, self, path)
            return
        fields = containers.fields_of(value)
        if isinstance(value, dict) or fields is not None:
            self._compare_entries(value, fields, node, path)
        elif isinstance(value, (list, tuple)):
            self._compare_items(value, node, path)
        elif type(value) in _PLAIN:
            self._compare_plain(value, node, path)
        elif not isinstance(node, Object) or not containers.is_container(node):
            self.fault(path, f"expected a {type(value).__name__}, found {_kind(node)}")

    def _compare_entries(
        self, value: Any, fields: tuple[str, ...] | None, node: Node, path: str
    ) -> None:
        entries = containers.mapping(node)
        live = value if fields is None else dict(zip(fields, value, strict=True))
        if entries is None:
            self.fault(path, f"expected a {type(value).__name__}, found {_kind(node)}")
        elif live and type(value).__name__ not in ("Counter", "defaultdict"):
            for key in self.pair(live, entries, path):
                self.compare(live[key], entries[key], _below(path, key))

    def _compare_items(self, value: Any, node: Node, path: str) -> None:
        if not isinstance(node, (list, tuple)):
            self.fault(path, f"expected a {type(value).__name__}, found {_kind(node)}")
        elif len(value) == len(node):
            for index, (one, other) in enumerate(zip(value, node, strict=True)):
                self.compare(one, other, f"{path}/{index}")
        elif any(type(one) not in _PLAIN for one in value):
            self.fault(path, f"expected {len(value)} items, found {len(node)}")

    def _compare_plain(self, value: Any, node: Node, path: str) -> None:
        """A place that holds None takes anything: it was not set yet."""
        if value is None or node is None:
            return
        same = type(value) is type(node)
        numbers = type(value) in _NUMBERS and type(node) in _NUMBERS
        number = type(value) in _NUMBERS and isinstance(node, Tensor) and node.size == 1
        if not (same or numbers or number):
            self.fault(path, f"expected a {type(value).__name__}, found {_kind(node)}")

    def compare_array(self, dtype: str, shape: tuple[int, ...], node: Node, path: str) -> bool:
        """Whether `node` is a tensor of this dtype and shape; if not, that is told."""
        if not isinstance(node, Tensor) or (node.dtype.name, node.shape) != (dtype, shape):
            self.fault(path, f"expected {dtype}{list(shape)}, found {_kind(node)}")
            return False
        return True

    # restoring

    def restore(self, value: Any, node: Node, path: str) -> Any:
        """`value` filled from `node`, which fits it; a new value where it cannot be changed."""
        kind = type(value)
        if kind in _PLAIN:
            return self._plain(value, node)
        adapter = adapter_of(value)
        if adapter is not None:
            return adapter.restore(value, node, self, path)
        fields = containers.fields_of(value)
        if fields is not None:
            entries = containers.mapping(node) or {}
            return value._replace(**{
                name: self.restore(getattr(value, name), entries[name], _below(path, name))
                for name in fields
                if name in entries
            })  # fmt: skip
        if isinstance(value, dict):
            return self._restore_entries(value, containers.mapping(node) or {}, path)
        if isinstance(value, (list, tuple)):
            items = [
                self.restore(value[index], item, f"{path}/{index}")
                if len(value) == len(node)
                else self.revive(item)
                for index, item in enumerate(node)
            ]
            if isinstance(value, list):
                value[:] = items
                return value
            return tuple(items)
        return self.revive(node)

    def _restore_entries(self, value: Any, entries: Mapping[Any, Node], path: str) -> Any:
        found = {
            key: self.restore(value[key], item, _below(path, key))
            if key in value
            else self.revive(item)
            for key, item in entries.items()
            if key in value or _below(path, key) not in self._unexpected
        }
        kept = {key: item for key, item in value.items() if key not in found and not self._strict}
        value.clear()
        value.update(found)
        value.update(kept)
        return value

    def _plain(self, value: Any, node: Node) -> Any:
        if isinstance(node, Tensor) and type(value) in _NUMBERS:
            return type(value)(node.item())
        return self.revive(node)

    def revive(self, node: Node) -> Any:
        """The value that `node` spells, made anew."""
        if isinstance(node, Tensor):
            return self._maker(node).make(node)
        if isinstance(node, dict):
            return {key: self.revive(item) for key, item in node.items()}
        if isinstance(node, (list, tuple)):
            return type(node)([self.revive(item) for item in node])
        if not isinstance(node, Object):
            return node
        if not containers.is_container(node):
            adapter = named("pytorch") if node.type.startswith("torch.") else None
            if adapter is None:
                raise UnsupportedError(f"a {node.type} cannot be made from a checkpoint")
            return adapter.make(node)
        if node.entries is not None:
            return containers.make(node, {k: self.revive(v) for k, v in node.entries.items()})
        return containers.make(node, [self.revive(item) for item in node.items or ()])

    def _maker(self, tensor: Tensor) -> Live:
        from portackpt.live.builtin import ARRAYS

        if "numpy.class" in tensor.attributes:
            return ARRAYS
        framework = tensor.attributes.get("framework", self.framework)
        return (named(framework) if framework else None) or ARRAYS

    def entries(self, tree: Node) -> tuple[Entry, ...]:
        """The entry of every leaf, where no framework was left."""
        found = []
        for path, _ in walk(tree):
            if self._is_unexpected(path):
                told = "the objects have no place for it"
                meaning = "the run goes on without it"
                found.append(Entry(path, None, Fate.DROPPED, told, meaning))
            else:
                found.append(Entry(path, path, Fate.EXACT))
        meaning = "the run starts with the object's own value"
        kept = [Entry(None, p, Fate.CREATED, "kept as it was", meaning) for p in self._missing]
        return (*found, *kept)

    def _is_unexpected(self, path: str) -> bool:
        if not self._unexpected:
            return False
        while path:
            if path in self._unexpected:
                return True
            path = path.rpartition("/")[0]
        return False


def _can_refuse(value: object) -> bool:
    adapter = None if type(value) in _PLAIN else adapter_of(value)
    return adapter is not None and adapter.framework is None


def _below(path: str, key: Any) -> str:
    component = escape(key if isinstance(key, str) else str(key))
    return f"{path}/{component}" if path else component


def _kind(node: Node) -> str:
    if isinstance(node, Tensor):
        return f"{node.dtype}{list(node.shape)}"
    return f"a {node.type if isinstance(node, Object) else type(node).__name__}"
