"""The tree of an HDF5 file, made from its index (see `hdf5_names` for its keys).

Keras writes bfloat16 as an opaque type of two bytes with an attribute `dtype`; other dtypes that
HDF5 has no number for are kept in the same way. Old whole-model files lack that attribute: two
opaque bytes are bfloat16 there, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from portackpt.bytesource import ByteSource, InMemory, Swapped
from portackpt.dtypes import BY_NAME, STRING, UINT8, DType
from portackpt.errors import DamagedError, PortackptError, RefusedError
from portackpt.tensor import Strided, Tensor, contiguous, from_strings
from portackpt.tree import Node
from portackpt_keras.hdf5 import Hdf5
from portackpt_keras.hdf5_names import FIXED, KEY, KIND, NULL, OPAQUE, UNTYPED, key_of

Lying = Callable[[int, int], ByteSource]
"""The source of `nbytes` bytes at an offset of the HDF5 file."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The tree, and how many datasets are bfloat16 only because nothing else is."""

    tree: dict[str, Node]
    untyped: int


def read_tree(file: Hdf5, lying: Lying, verify: Callable[[], None]) -> Reading:
    """The tree of `file`; values that lie in it as they are, are read from `lying`.

    `verify` is called before the first value is decoded.
    """
    reader = _Reader(file, lying, verify)
    try:
        for number, record in enumerate(file.records()):
            reader.add(number, record)
        return Reading(reader.containers[0], reader.untyped)
    except PortackptError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(f"HDF5 answered nonsense: {error!r}", file.where) from error


class _Reader:
    def __init__(self, file: Hdf5, lying: Lying, verify: Callable[[], None]) -> None:
        self.containers: dict[int, dict[str, Node]] = {}
        self.untyped = 0
        self._paths: dict[int, bytes] = {}
        self._leaves: dict[int, Node] = {}
        self._file = file
        self._lying = lying
        self._verify = verify

    def add(self, number: int, record: Any) -> None:
        kind, parent, name, *rest = record
        if kind == "a":
            self._put(parent, _key(name, {}), self._leaves[rest[0]])
            return
        attributes = {_text(entry[0]): entry[1:] for entry in rest[0]}
        key = _key(name, attributes)
        attributes.pop(KEY, None)
        path = b"" if parent < 0 else self._paths[parent] + b"/" + name
        if kind == "g":
            group = {f"@{name}": _value(entry) for name, entry in attributes.items()}
            self.containers[number] = group
            self._paths[number] = path
            if parent >= 0:
                self._put(parent, key, group)
            return
        leaf = _leaf(rest[1], attributes, _Place(self._file, path, self._lying, self._verify))
        if isinstance(leaf, Tensor) and leaf.attributes.get(UNTYPED):
            self.untyped += 1
        self._leaves[number] = leaf
        self._put(parent, key, leaf)

    def _put(self, parent: int, key: str, node: Node) -> None:
        container = self.containers[parent]
        if key in container:
            raise RefusedError(f"two things are called {key!r}", self._file.where)
        container[key] = node


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _key(name: bytes, attributes: dict[str, Any]) -> str:
    kept = attributes.get(KEY)
    if kept is not None:
        return bytes(kept[4]).decode("utf-8", "surrogatepass")
    return key_of(name)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the values of a dataset are."""

    file: Hdf5
    path: bytes
    lying: Lying
    verify: Callable[[], None]


class Decoded:
    """The bytes of a dataset that the child decodes."""

    __slots__ = ("_nbytes", "_place")

    def __init__(self, place: _Place, nbytes: int) -> None:
        self._place = place
        self._nbytes = nbytes

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        self._place.verify()
        self._place.file.read(self._place.path, offset, out)

    def verify(self) -> None:
        self._place.verify()


def _leaf(dataset: dict[str, Any], attributes: dict[str, Any], place: _Place) -> Node:
    kind, size, shape = dataset["type"], dataset["size"], dataset["shape"]
    told = attributes.pop(KIND, [None] * 5)[4]
    meant = bytes(told[0]).decode("ascii", "replace") if told else ""
    kept = {f"@{name}": _value(entry) for name, entry in attributes.items()}
    if kind in ("string", "text"):
        return _strings(dataset, meant, kept, place)
    dtype, tail, extra = _dtype(kind, size, kept)
    if shape is None:
        return contiguous(dtype, (0,), InMemory(b""), 0, kept | extra | {NULL: True})
    dims = (*(int(n) for n in shape), *tail)
    nbytes = prod(dims) * dtype.itemsize
    if min(dims, default=0) < 0 or nbytes != dataset["nbytes"]:
        raise DamagedError(
            f"shape {dims} does not have {dataset['nbytes']} bytes", place.file.where
        )
    source = _source(dataset.get("offset"), nbytes, place)
    if dataset["big"]:
        # the halves of a complex number are swapped each
        source = Swapped(source, size // 2 if kind.startswith("complex") else size)
    return contiguous(dtype, dims, source, 0, kept | extra)


def _source(offset: int | None, nbytes: int, place: _Place) -> ByteSource:
    if not nbytes:
        return InMemory(b"")
    if offset is None:
        return Decoded(place, nbytes)
    if offset < 0 or offset + nbytes > place.file.size:
        raise DamagedError(
            f"dataset {_text(place.path)}: bytes {offset} to {offset + nbytes} lie outside the "
            f"HDF5 file of {place.file.size} bytes",
            place.file.where,
        )
    return place.lying(offset, nbytes)


def _dtype(
    kind: str, size: int, attributes: dict[str, Node]
) -> tuple[DType, tuple[int, ...], dict[str, Any]]:
    """(dtype, dimensions after the dataset's, attributes that say how it was written)."""
    if kind != "opaque":
        return BY_NAME[kind], (), {}
    told = BY_NAME.get(str(attributes.get("@dtype")))
    if told is not None and told.itemsize == size:
        return told, (), {}
    if size == 2 and "@dtype" not in attributes:
        return BY_NAME["bfloat16"], (), {UNTYPED: True}
    return UINT8, (size,), {OPAQUE: size}


def _strings(dataset: dict[str, Any], meant: str, kept: dict[str, Node], place: _Place) -> Node:
    kind, size, shape = dataset["type"], dataset["size"], dataset["shape"]
    fixed = {FIXED: size} if size else {}
    if shape is None:
        return replace(from_strings([], (0,)), attributes=kept | fixed | {NULL: True})
    value = dataset.get("value")
    if value is not None and not kept and meant != "tensor":
        plain = _plain(kind, bytes(value), meant)
        if plain is not None:
            return plain
    source = Decoded(place, int(dataset["nbytes"]))
    return Tensor(STRING, tuple(int(n) for n in shape), Strided(source), kept | fixed)


def _plain(kind: str, value: bytes, meant: str) -> str | bytes | None:
    """One string as `str` where it is declared as text and is, as `bytes` where it is not."""
    if kind == "string" and meant != "str":
        return value
    try:
        return value.decode("utf-8", "surrogatepass" if meant == "str" else "strict")
    except UnicodeDecodeError:
        return None


def _value(entry: list[Any]) -> Node:
    """The value of an attribute."""
    kind, size, big, shape, data = entry
    if kind in ("string", "text"):
        fixed = {FIXED: size} if size else {}
        if shape is None:
            return replace(from_strings([], (0,)), attributes=fixed | {NULL: True})
        values = [bytes(value) for value in data]
        plain = None if shape else _plain(kind, values[0], "")
        if plain is not None:
            return plain
        return replace(from_strings(values, tuple(shape)), attributes=fixed)
    dtype, tail, extra = _dtype(kind, size, {"@dtype": None})
    if shape is None:
        return contiguous(dtype, (0,), InMemory(b""), 0, extra | {NULL: True})
    source: ByteSource = InMemory(bytes(data))
    if big:
        source = Swapped(source, size // 2 if kind.startswith("complex") else size)
    return contiguous(dtype, (*shape, *tail), source, 0, extra)
