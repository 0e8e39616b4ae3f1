"""Spelling a tree in the vocabulary of a format, with the fate of every leaf.

Pure: no byte of a tensor moves. What does not fit is spelled as the nearest thing that does, and
the entry of each leaf says so: a tuple becomes a list, a plain value a 0-d tensor, an object of a
foreign type the plain data it is made of, an unknown dtype the bits of a known one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from portackpt.deferred import carried_out, is_pending
from portackpt.ledger import NONE, Entry, Fate
from portackpt.renaming import rename
from portackpt.standins import INT64, bits, scalar_tensor
from portackpt.tensor import Tensor
from portackpt.ties import Ties
from portackpt.tree import PLAIN, Node, Object, assemble, children, is_leaf, unescape, walk
from portackpt.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Spelling:
    """A tree that fits a vocabulary, and one entry for each leaf of the tree it was made from."""

    tree: Node
    entries: tuple[Entry, ...]


def spell(tree: Node, vocabulary: Vocabulary) -> Spelling:
    """`tree` in `vocabulary`, with what that does to each leaf."""
    speller = _Speller(vocabulary)
    spelled = speller.node(tree, None, None)
    if not vocabulary.any_root and not isinstance(spelled, dict):
        speller = _Speller(vocabulary)
        spelled = speller.node(tree, None, "value")
        spelled = {} if spelled is _ABSENT else {"value": spelled}
    elif spelled is _ABSENT:
        spelled = {}
    return Spelling(*rename(spelled, speller.entries, vocabulary.renames))


# Kinds of objects whose type says how a program holds the values, not what the values are.
_CONTAINERS = {
    "collections.OrderedDict": "a dict",
    "collections.defaultdict": "a dict",
    "collections.Counter": "a dict",
    "collections.deque": "a list",
    "builtins.set": "a list",
    "builtins.frozenset": "a list",
    "torch.Size": "a list",
}
_ABSENT: Any = object()
_Path = str | None
"""A path; None is the root, whose parts have no slash before them."""


def _at(path: _Path, component: str) -> str:
    return component if path is None else f"{path}/{component}"


class _Speller:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._words = vocabulary
        self.entries: list[Entry] = []
        self._ties = Ties()
        self._spelled: dict[int, Tensor] = {}

    def node(self, node: Node, source: _Path, target: _Path) -> Node:
        if isinstance(node, Tensor):
            return self._tensor(node, source, target)
        if isinstance(node, PLAIN):
            return self._scalar(node, source, target)
        if isinstance(node, Object):
            return self._object(node, source, target)
        if not node:
            return self._empty(node, source, target)
        parts = [_at(source, name) for name, _ in children(node)]
        return self._fill(node, parts, source, target)

    def _note(
        self,
        source: _Path,
        target: _Path,
        fate: Fate,
        detail: str = "",
        consequence: str = "",
        assumption: str = "",
    ) -> None:
        goal = None if fate is Fate.DROPPED and not target else target or ""
        self.entries.append(Entry(source or "", goal, fate, detail, consequence, None, assumption))

    # containers

    def _fill(self, container: Node, sources: Sequence[str], source: _Path, target: _Path) -> Node:
        """A dict, list or tuple with its parts, which come from `sources`, spelled."""
        kind = type(container)
        words = self._words
        if kind is dict:
            return self._fill_dict(container, sources, source, target)
        goal = kind if kind in words.containers else list if list in words.containers else dict
        if goal is not kind:
            told = f"{kind.__name__} written as a {goal.__name__}"
            self._note(source, target, Fate.RELAYOUT, told, NONE)
        parts = [
            self.node(item, place, _at(target, str(index)))
            for index, (item, place) in enumerate(zip(container, sources, strict=True))
        ]
        if goal is dict:
            return self._kept({str(i): part for i, part in enumerate(parts)})
        kept = [None if part is _ABSENT else part for part in parts]
        return tuple(kept) if goal is tuple else kept

    def _fill_dict(
        self, container: dict[Node, Node], sources: Sequence[str], source: _Path, target: _Path
    ) -> Node:
        names = [name for name, _ in children(container)]
        keys = list(container)
        foreign = [key for key in keys if not self._fits_as_key(key)]
        if foreign:
            kinds = sorted({getattr(key, "type", type(key).__name__) for key in foreign})
            told = f"keys of type {', '.join(kinds)} written as text"
            self._note(source, target, Fate.RELAYOUT, told, NONE)
            keys = [unescape(name) for name in names]
        spell_one = self._part if target is None else self._below
        parts = {
            key: spell_one(key, item, place, _at(target, name))
            for key, item, place, name in zip(keys, container.values(), sources, names, strict=True)
        }
        return self._kept(parts)

    def _below(self, key: Node, node: Node, source: str, target: str) -> Node:
        return self.node(node, source, target)

    def _part(self, key: Node, node: Node, source: str, target: str) -> Node:
        """What stands under a key of the root: some formats have others there."""
        whole = self._words
        self._words = whole.parts(key, node) or whole
        try:
            return self.node(node, source, target)
        finally:
            self._words = whole

    def _fits_as_key(self, key: Node) -> bool:
        if isinstance(key, Object) and not self._words.objects(key):
            return False
        return type(key) in self._words.keys

    def _kept(self, parts: dict[Node, Node]) -> Node:
        kept = {key: part for key, part in parts.items() if part is not _ABSENT}
        return kept if kept or self._words.empty else _ABSENT

    def _empty(self, node: Node, source: _Path, target: _Path) -> Node:
        if not self._words.empty:
            told = f"an empty {type(node).__name__} has no counterpart; the name is absent"
            self._note(source, None, Fate.DROPPED, told, NONE)
            return _ABSENT
        kind = type(node)
        if kind in self._words.containers:
            self._note(source, target, Fate.EXACT)
            return node
        goal = list if list in self._words.containers else dict
        told = f"an empty {kind.__name__} written as an empty {goal.__name__}"
        self._note(source, target, Fate.RELAYOUT, told, NONE)
        return goal()

    # objects

    def _object(self, node: Object, source: _Path, target: _Path) -> Node:
        if self._words.objects(node):
            if is_leaf(node):
                self._note(source, target, Fate.EXACT)
                return node
            parts = [
                self.node(item, _at(source, name), _at(target, name))
                for name, item in children(node)
            ]
            return assemble(node, iter([None if part is _ABSENT else part for part in parts]))
        if is_leaf(node):
            return self._bare(node, source, target)
        self._told_type(node, source, target)
        if node.type in _CONTAINERS and (node.items is None) is not (node.entries is None):
            return self._contents(node, source, target)
        return self._plain(node, source, target)

    def _contents(self, node: Object, source: _Path, target: _Path) -> Node:
        """What a container of a special type holds, without what else is known of it."""
        content = node.items if node.entries is None else node.entries
        held = range(len(node.args), len(node.args) + len(content or ()))
        places: list[str] = []
        for index, (name, part) in enumerate(children(node)):
            place = _at(source, name)
            if index in held:
                places.append(place)
                continue
            for path, _ in walk(part):
                told = f"beside the contents of a {node.type}, which alone are kept"
                self._note(f"{place}/{path}" if path else place, None, Fate.DROPPED, told, NONE)
        if not content:
            return self._empty(content, source, target)
        return self._fill(content, places, source, target)

    def _told_type(self, node: Object, source: _Path, target: _Path) -> None:
        kind = _CONTAINERS.get(node.type)
        if kind is not None:
            self._note(source, target, Fate.RELAYOUT, f"{node.type} written as {kind}", NONE)
        elif node.type.startswith(("torch.", "jax.", "numpy.", "tensorflow.")):
            told = f"{node.type} written as its parts"
            meaning = f"the target program builds the {node.type.rpartition('.')[2]} from them"
            self._note(source, target, Fate.RELAYOUT, told, meaning)
        else:
            told = f"type {node.type} written as the plain data it is made of"
            meaning = (
                f"a program that needs a {node.type.rpartition('.')[2]} must build it from that"
            )
            self._note(source, target, Fate.DROPPED, told, meaning)

    def _bare(self, node: Object, source: _Path, target: _Path) -> Node:
        """An object without parts: its name is all there is."""
        if node.type in _CONTAINERS:
            kind: Node = {} if _CONTAINERS[node.type] == "a dict" else []
            return self._empty(kind, source, target)
        value = node.type
        spelled = value if str in self._words.scalars else scalar_tensor(value, self._words)
        told = f"the name {node.type} written as text"
        self._note(
            source, target, Fate.RELAYOUT, told, "a program that needs it looks it up by name"
        )
        return spelled

    def _plain(self, node: Object, source: _Path, target: _Path) -> Node:
        """The parts of an object: alone where there is one kind of them, else by kind."""
        places = iter([_at(source, name) for name, _ in children(node)])
        groups: dict[str, tuple[Node, list[str]]] = {}
        for name, part in (
            ("args", list(node.args)),
            ("items", node.items),
            ("entries", node.entries),
            ("state", node.state),
        ):
            count = len(part) if isinstance(part, (list, dict)) else int(part is not None)
            if name == "state" and not isinstance(part, dict) and part is not None:
                part, count = [part], 1
            if part and count:
                groups[name] = (part, [next(places) for _ in range(count)])
        if len(groups) == 1:
            part, sources = next(iter(groups.values()))
            return self._fill(part, sources, source, target)
        return self._kept(
            {
                name: self._fill(part, sources, source, _at(target, name))
                for name, (part, sources) in groups.items()
            }
        )

    # leaves

    def _scalar(self, value: Node, source: _Path, target: _Path) -> Node:
        kind = type(value)
        words = self._words
        small = kind is not int or words.large_integers or value in INT64
        if kind in words.scalars and small:
            self._note(source, target, Fate.EXACT)
            return value
        if value is None:
            told = "None has no counterpart; the name is absent"
            self._note(source, None, Fate.DROPPED, told, NONE)
            return _ABSENT
        if not small and str in words.scalars:
            self._note(source, target, Fate.RELAYOUT, "an integer beyond 64 bits written as text",
                       "the target program parses it")  # fmt: skip
            return str(value)
        spelled = scalar_tensor(value, words)
        shape = "0-d" if not spelled.shape else "1-d"
        self._note(source, target, Fate.RELAYOUT, f"{kind.__name__} written as a {shape} "
                   f"{spelled.dtype} tensor", NONE)  # fmt: skip
        return spelled

    def _tensor(self, tensor: Tensor, source: _Path, target: _Path) -> Node:
        words = self._words
        fate = Fate.EXACT
        told: list[str] = []
        meaning: list[str] = []
        assumption = ""
        spelled = self._spelled.get(id(tensor))
        if not words.shared:
            owner = self._ties.meet(tensor, target or "")
            if owner is not None:
                fate = Fate.RELAYOUT
                told.append(f"shares storage with {owner}; written apart")
                assumption = "the target program ties the two again"
        if spelled is None:
            kept = {k: v for k, v in tensor.attributes.items() if words.attributes(k)}
            spelled = tensor
            if len(kept) < len(tensor.attributes):
                spelled = carried_out(tensor, kept)
            if tensor.dtype.name not in words.dtypes:
                spelled = bits(spelled, words)
            self._spelled[id(tensor)] = spelled
        if is_pending(tensor) and not is_pending(spelled):
            fate = Fate.RELAYOUT
            told.append("conjugated or negated as it is read, which torch had put off")
        if spelled.dtype is not tensor.dtype:
            fate = Fate.RELAYOUT
            told.append(f"bytes of {tensor.dtype} written as {spelled.dtype}")
            meaning.append(f"view as {tensor.dtype} after loading")
        elif tensor.dtype.name in words.remarks:
            meaning.append(words.remarks[tensor.dtype.name])
        if tensor.attributes.get("requires_grad") and not words.attributes("requires_grad"):
            meaning.append("the target program says which parameters are trained")
        self._note(source, target, fate, "; ".join(told), "; ".join(meaning), assumption)
        return spelled
