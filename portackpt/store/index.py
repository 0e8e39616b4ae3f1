"""The index: which tensors a tree holds, which of them own their bytes, and which are views.

Tensors over one byte source share storage. One that is exactly the source's bytes owns them, and
the others are views of it; where none is (a slice of a larger storage, a transposed weight), the
source itself becomes one more tensor of the index, in one dimension.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from portackpt.bytesource import ByteSource
from portackpt.dtypes import STRING, UINT8, DType
from portackpt.errors import DamagedError
from portackpt.tensor import Strided, Tensor, c_strides, contiguous
from portackpt.tree import Node, children, tensors

NAME_LIMIT = 500
"""Characters of a name; what is longer ends in a digest of itself."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor whose bytes, in C order, are to be written."""

    name: str
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class View:
    """A tensor over the bytes of another: entry number `of`; `offset` and `strides` in bytes.

    `strides` is empty for a `string` tensor, which always spans the whole.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    of: int
    offset: int
    strides: tuple[int, ...]


Entry: TypeAlias = Stored | View


@dataclass(frozen=True, slots=True)
class Index:
    """Entries in the order of the tree, then storages that no tensor of it owns.

    `numbers` gives the number of the entry for the `id()` of a tensor.
    """

    entries: tuple[Entry, ...]
    numbers: Mapping[int, int]


def index(named: Iterable[tuple[str, Tensor]]) -> Index:
    """The index of distinct tensors (see `named_tensors`). Nothing is read."""
    ordered = list(named)
    entries: list[Entry | None] = [None] * len(ordered)
    storages = 0
    for group in _groups([tensor for _, tensor in ordered]):
        owner = next((number for number in group if _owns(ordered[number][1])), None)
        if owner is None:
            owner = len(entries)
            source = ordered[group[0]][1].layout.source  # type: ignore[union-attr]
            kinds = {ordered[number][1].dtype for number in group}
            entries.append(Stored(f"~storage/{storages}", _storage(source, kinds)))
            storages += 1
        else:
            entries[owner] = Stored(*ordered[owner])
        for number in group:
            if number != owner:
                name, tensor = ordered[number]
                entries[number] = _view(name, tensor, owner, ordered)
    numbers = {id(tensor): number for number, (_, tensor) in enumerate(ordered)}
    return Index(tuple([entry for entry in entries if entry is not None]), numbers)


def _groups(ordered: list[Tensor]) -> Iterable[list[int]]:
    """The numbers of tensors that share their bytes, in order."""
    groups: dict[int, list[int]] = {}
    for number, tensor in enumerate(ordered):
        layout = tensor.layout
        key = id(layout.source) if isinstance(layout, Strided) else id(layout)
        group = groups.get(key)
        if group is None:
            groups[key] = [number]
        else:
            group.append(number)
    return groups.values()


def _owns(tensor: Tensor) -> bool:
    layout = tensor.layout
    return not isinstance(layout, Strided) or layout.covers(tensor.dtype, tensor.shape)


def _storage(source: ByteSource, kinds: set[DType]) -> Tensor:
    """A whole source as one dimension, of the dtype of all its views if there is one that fits."""
    kind = kinds.pop() if len(kinds) == 1 else UINT8
    if kind is STRING or source.nbytes % kind.itemsize:
        kind = UINT8
    return contiguous(kind, (source.nbytes // kind.itemsize,), source)


def _view(name: str, tensor: Tensor, owner: int, ordered: list[tuple[str, Tensor]]) -> Entry:
    layout = tensor.layout
    dtype, shape = tensor.dtype, tensor.shape
    if not isinstance(layout, Strided):
        first = ordered[owner][1]
        if (first.dtype, first.shape) != (dtype, shape):
            return Stored(name, tensor)
        return View(name, dtype, shape, owner, 0, c_strides(shape, dtype.itemsize))
    if dtype is STRING:
        return View(name, dtype, shape, owner, 0, ())
    strides = layout.strides
    if strides is None:
        strides = c_strides(shape, dtype.itemsize)
    end = extent(dtype, shape, layout.offset, strides)
    if layout.offset < 0 or end > layout.source.nbytes:
        raise DamagedError(
            f"a {dtype} tensor of shape {shape} needs bytes {layout.offset} to {end}, "
            f"found a storage of {layout.source.nbytes} bytes",
            f"tensor {name!r}",
        )
    return View(name, dtype, shape, owner, layout.offset, strides)


def extent(dtype: DType, shape: tuple[int, ...], offset: int, strides: tuple[int, ...]) -> int:
    """Where the last element of a view ends, in bytes of what it is a view of; 0 if it has none."""
    if 0 in shape:
        return 0
    reach = sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    return offset + reach + dtype.itemsize


def named_tensors(*trees: tuple[str, Node]) -> list[tuple[str, Tensor]]:
    """Each distinct tensor of some trees, in order, with a distinct name fit for safetensors.

    A tree is given with the name under which its paths stand; the name of one that is given
    without is the path itself. A tensor's name is made of the path where it stands first.
    """
    found: dict[int, tuple[str, Tensor]] = {}
    used: set[str] = set()
    for base, tree in trees:
        for path, tensor in _tensors(tree):
            if id(tensor) in found:
                continue
            name = safe_name(f"{base}/{path}" if base else path)
            if name in used:
                name = next(other for other in _numbered(name) if other not in used)
            used.add(name)
            found[id(tensor)] = (name, tensor)
    return list(found.values())


def _tensors(tree: Node) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a tree, and behind each those that are attributes of it."""
    for path, tensor in tensors(tree):
        yield path, tensor
        for name, value in children(dict(tensor.attributes)) if tensor.attributes else ():
            for below, inner in _tensors(value):
                yield f"{path}/~@{name}" + (f"/{below}" if below else ""), inner


def _numbered(name: str) -> Iterator[str]:
    number = 2
    while True:
        yield f"{name}~#{number}"
        number += 1


_UNSAFE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def safe_name(path: str) -> str:
    """`path` as a safetensors key: not empty, not too long, without control characters."""
    if not path or path == "__metadata__":
        return f"~{path}"
    name = _UNSAFE.sub(_spelled, path)
    if len(name) <= NAME_LIMIT:
        return name
    import xxhash

    return f"{name[: NAME_LIMIT - 18]}~={xxhash.xxh3_64_hexdigest(name.encode())}"


def _spelled(match: re.Match[str]) -> Any:
    return f"~u{ord(match[0]):04x}"
