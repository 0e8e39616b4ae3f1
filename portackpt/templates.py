"""Pouring a checkpoint into a template: a checkpoint that the target's program wrote itself.

The template gives names, nesting, containers and dtypes; the source gives values. A leaf of the
template takes the source's leaf of the same name (compared without escapes); its shape must agree.
What the template has no place for is dropped; what the source lacks keeps the template's value.
Pure: no byte of a tensor moves, except those of single numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from portackpt.dtypes import STRING
from portackpt.elementwise import cast
from portackpt.errors import UsageError
from portackpt.ledger import NONE, Entry, Fate, consequences, worst
from portackpt.spelling import Spelling
from portackpt.tensor import Tensor, from_array
from portackpt.tree import Node, plain_name, rebuild, walk

_NUMBERS = (bool, int, float, complex)


def pour(tree: Node, template: Node) -> Spelling:
    """`template` with the values of `tree`, and the entry of every leaf of both."""
    sources = {plain_name(path): (path, leaf) for path, leaf in walk(tree)}
    entries: list[Entry] = []
    taken: set[str] = set()

    def fill(path: str, leaf: Node) -> Node:
        found = sources.get(plain_name(path))
        if found is None:
            entries.append(_kept(path, leaf))
            return leaf
        taken.add(found[0])
        value, fate, detail = _fitted(found[1], leaf, path)
        entries.append(Entry(found[0], path, fate, detail))
        return value

    filled = rebuild(template, fill)
    if not taken:
        raise UsageError(
            "no leaf of the template has the name of a leaf of the source; the first names are "
            f"{_first(template)} there and {_first(tree)} here"
        )
    told = "the template has no leaf of this name"
    for path, leaf in sources.values():
        if path not in taken:
            meaning = NONE if _holds_nothing(leaf) else "the target's run goes on without it"
            entries.append(Entry(path, None, Fate.DROPPED, told, meaning))
    return Spelling(filled, tuple(entries))


def compose(first: tuple[Entry, ...], second: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The entries of two steps as one: the targets of the first are the sources of the second."""
    then = {entry.source: entry for entry in second}
    joined = [_join(entry, then.pop(entry.target, None)) for entry in first]
    return (*joined, *[entry for entry in then.values() if entry.fate is not Fate.EXACT])


def _join(entry: Entry, following: Entry | None) -> Entry:
    if entry.target is None or following is None:
        return entry
    fate = entry.fate if entry.fate is Fate.CREATED else worst(entry.fate, following.fate)
    return Entry(
        entry.source,
        following.target,
        fate,
        "; ".join(filter(None, (entry.detail, following.detail))),
        consequences(entry.consequence, following.consequence),
        entry.tolerance if entry.tolerance is not None else following.tolerance,
        "; ".join(filter(None, (entry.assumption, following.assumption))),
    )


def _kept(path: str, leaf: Node) -> Entry:
    meaning = NONE if _holds_nothing(leaf) else "the target's run starts with the template's value"
    return Entry(None, path, Fate.CREATED, "kept from the template", meaning)


def _fitted(value: Node, like: Node, path: str) -> tuple[Node, Fate, str]:
    """`value` in the type of `like`."""
    if isinstance(like, Tensor):
        if isinstance(value, _NUMBERS):
            import numpy as np

            value = from_array(np.array(value))
        if isinstance(value, Tensor):
            return _fitted_tensor(value, like, path)
    elif isinstance(value, Tensor) and isinstance(like, _NUMBERS) and value.size == 1:
        number = type(like)(value.item())
        return number, Fate.RELAYOUT, f"a tensor written as a plain {type(like).__name__}"
    elif type(value) is type(like):
        return value, Fate.EXACT, ""
    elif isinstance(value, _NUMBERS) and isinstance(like, _NUMBERS):
        kind: Any = type(like)
        if kind(value) == value:
            return kind(value), Fate.RELAYOUT, f"written as {kind.__name__}"
    raise UsageError(
        f"expected {_kind(like)}, as the template has it, found {_kind(value)} in the source", path
    )


def _fitted_tensor(value: Tensor, like: Tensor, path: str) -> tuple[Node, Fate, str]:
    if value.shape != like.shape:
        if value.size != 1 or like.size != 1:
            raise UsageError(
                f"expected shape {list(like.shape)}, as the template has it, found "
                f"{list(value.shape)} in the source; a mapping file (--map) declares layouts", path,
            )  # fmt: skip
        value = from_array(value.read().reshape(like.shape))
    kept = Tensor(value.dtype, value.shape, value.layout, like.attributes)
    if value.dtype is like.dtype:
        return kept, Fate.EXACT, ""
    if STRING in (value.dtype, like.dtype):
        raise UsageError(f"expected {_kind(like)}, found {_kind(value)} in the source", path)
    import numpy as np

    widened = np.can_cast(value.dtype.to_numpy(), like.dtype.to_numpy(), "safe")
    turned = replace(cast(value, like.dtype), attributes=like.attributes)
    if widened:
        return turned, Fate.RELAYOUT, f"{value.dtype} widened to {like.dtype}, the same values"
    return turned, Fate.APPROXIMATE, f"{value.dtype} rounded to {like.dtype}"


def _kind(leaf: Node) -> str:
    if isinstance(leaf, Tensor):
        return f"a {leaf.dtype} tensor of shape {list(leaf.shape)}"
    return f"a {getattr(leaf, 'type', type(leaf).__name__)}"


def _first(tree: Node) -> str:
    return repr(next(iter(walk(tree)))[0])


def _holds_nothing(leaf: Node) -> bool:
    return leaf is None or (isinstance(leaf, (dict, list, tuple)) and not leaf)
