"""The document: what a safetensors file cannot say by itself, kept in its metadata.

A flat dict of tensors needs none. For any other tree, `__metadata__` has an entry `portackpt`: the
base64 of a MessagePack map

    {"portackpt": 1, "framework": text or nil, "framework_version": text or nil, "step": int or nil,
     "state": bytes, "tensors": [row…]}

`state` spells the tree as a state file of the neutral format does (`spec/`). Its tensors are the
rows, by number: a name, for a tensor of the file as it is; `[name, dtype, shape]` for one whose
dtype safetensors does not have, kept as bytes; `[nil, dtype, shape, of, offset, strides]`, in
bytes, for a view of row `of`. A document beyond `INLINE` bytes is a tensor of bytes itself, and the
entry is that tensor's name, which begins with a tilde (base64 has none).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, NamedTuple

import msgspec

from portackpt.bytesource import InMemory
from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import STRING, UINT8, DType, named
from portackpt.errors import DamagedError, UnsupportedError, located
from portackpt.store.index import Stored, extent, index, named_tensors
from portackpt.store.state import pack, unpack
from portackpt.tensor import Strided, Tensor, c_strides, contiguous
from portackpt.tree import Node, plain_name
from portackpt_safetensors.header import METADATA, is_native

KEY = "portackpt"
VERSION = 1
INLINE = 32 << 20
"""Bytes of a document in the header, at most; a header has at most 100 MB."""
_OUTSIDE = "~document"


class Written(NamedTuple):
    """A tensor with the dtype and shape that the file says it has."""

    tensor: Tensor
    dtype: DType
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Spelled:
    """What goes into a file: named tensors, and the metadata entry where there is a document."""

    tensors: Mapping[str, Written]
    entry: str | None = None


_Count = Annotated[int, msgspec.Meta(ge=0)]


class Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    name: str | None
    dtype: str
    shape: tuple[_Count, ...]
    of: int | None = None
    offset: _Count = 0
    strides: tuple[_Count, ...] = ()


class Document(msgspec.Struct, frozen=True):
    portackpt: int
    framework: str | None
    framework_version: str | None
    step: int | None
    state: bytes
    tensors: tuple[str | Row, ...]


def spell(checkpoint: Checkpoint) -> Spelled:
    """The tree of `checkpoint` as named tensors, with a document where they do not say it all."""
    plain = _plain(checkpoint.tree)
    if plain is not None:
        return Spelled(plain)
    found = index(_named(checkpoint.tree))
    tensors: dict[str, Written] = {}
    rows: list[str | Row] = []
    for entry in found.entries:
        if not isinstance(entry, Stored):
            view = (entry.of, entry.offset, entry.strides)
            rows.append(Row(None, entry.dtype.name, entry.shape, *view))
            continue
        dtype, shape = entry.tensor.dtype, entry.tensor.shape
        if is_native(dtype, shape):
            tensors[entry.name] = Written(entry.tensor, dtype, shape)
            rows.append(entry.name)
        else:
            as_bytes = (entry.tensor.nbytes,) if dtype is STRING else (*shape, dtype.itemsize)
            tensors[entry.name] = Written(entry.tensor, UINT8, as_bytes)
            rows.append(Row(entry.name, dtype.name, shape))
    document = Document(
        VERSION, checkpoint.framework, checkpoint.framework_version, checkpoint.step,
        pack(checkpoint.tree, found.numbers), tuple(rows),
    )  # fmt: skip
    data = msgspec.msgpack.encode(document)
    if len(data) <= INLINE:
        return Spelled(tensors, base64.b64encode(data).decode())
    name = _OUTSIDE
    while name in tensors:
        name += "~"
    held = contiguous(UINT8, (len(data),), InMemory(data))
    tensors[name] = Written(held, UINT8, held.shape)
    return Spelled(tensors, name)


def _plain(tree: Node) -> dict[str, Written] | None:
    """The tensors of a flat dict that the format holds as they are; None for any other tree."""
    if type(tree) is not dict or METADATA in tree:
        return None
    sources = set()
    for name, tensor in tree.items():
        if (
            not isinstance(tensor, Tensor)
            or tensor.attributes
            or type(name) is not str
            or not is_native(tensor.dtype, tensor.shape)
            or not _encodable(name)
        ):
            return None
        layout = tensor.layout
        if isinstance(layout, Strided):
            if not layout.covers(tensor.dtype, tensor.shape):
                return None
            sources.add(id(layout.source))
        else:
            sources.add(id(layout))
    if len(sources) < len(tree):
        return None
    return {name: Written(t, t.dtype, t.shape) for name, t in tree.items()}


def _encodable(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _named(tree: Node) -> list[tuple[str, Tensor]]:
    """The distinct tensors of a tree, named by their paths; without escapes if that is distinct."""
    found = named_tensors(("", tree))
    plain = {plain_name(name) for name, _ in found}
    if len(plain) < len(found) or METADATA in plain:
        return found
    return [(plain_name(name), tensor) for name, tensor in found]


def read(entry: str, tensors: Mapping[str, Tensor]) -> Document:
    """The document that the metadata entry holds or names. Raises `InputError`."""
    with located(f"{METADATA}[{KEY!r}]"):
        try:
            data = _outside(entry, tensors) if entry.startswith("~") else base64.b64decode(
                entry, validate=True)  # fmt: skip
            version = msgspec.msgpack.decode(data, type=_Version).portackpt
            if version != VERSION:
                raise UnsupportedError(f"needs a newer portackpt: the document has version "
                                       f"{version}, known is {VERSION}")  # fmt: skip
            return msgspec.msgpack.decode(data, type=Document)
        except (binascii.Error, msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise DamagedError(f"not a document of portackpt: {error}") from None


class _Version(msgspec.Struct):
    portackpt: int


def _outside(name: str, tensors: Mapping[str, Tensor]) -> bytes:
    tensor = tensors.get(name)
    if tensor is None or tensor.dtype is not UINT8:
        raise DamagedError(f"the document is said to be the tensor {name!r}, which is not there")
    return tensor.to_bytes()


def tree_of(document: Document, tensors: Mapping[str, Tensor]) -> Node:
    """The tree, over the tensors of the file."""
    rows = document.tensors

    def make(number: int, attributes: Mapping[str, Any]) -> Tensor:
        if not 0 <= number < len(rows):
            raise DamagedError(f"the tree names tensor {number}, there are {len(rows)}")
        with located(f"tensors[{number}]"):
            return _tensor(rows, number, tensors, attributes)

    with located(f"{METADATA}[{KEY!r}]"):
        return unpack(document.state, make)


def _tensor(
    rows: tuple[str | Row, ...],
    number: int,
    tensors: Mapping[str, Tensor],
    attributes: Mapping[str, Any],
) -> Tensor:
    row = rows[number]
    if isinstance(row, str):
        found = _stored(row, tensors)
        return Tensor(found.dtype, found.shape, found.layout, attributes) if attributes else found
    dtype, shape = named(row.dtype), row.shape
    name = row.name
    if row.of is not None:
        owner = rows[row.of] if 0 <= row.of < len(rows) else None
        name = owner.name if isinstance(owner, Row) else owner
    if name is None:
        raise DamagedError("a view is of a tensor that is stored, this one is not")
    layout = _stored(name, tensors).layout
    assert isinstance(layout, Strided)  # as every tensor of a file
    source = layout.source
    if row.of is None:
        strides = None if dtype is STRING else c_strides(shape, dtype.itemsize)
        expected = source.nbytes if dtype is STRING else prod(shape) * dtype.itemsize
        if expected != source.nbytes:
            raise DamagedError(f"{dtype} of shape {shape} needs {expected} bytes, "
                               f"found {source.nbytes}")  # fmt: skip
        return Tensor(dtype, shape, Strided(source, 0, strides), attributes)
    if dtype is STRING:
        return Tensor(dtype, shape, Strided(source), attributes)
    if len(row.strides) != len(shape):
        raise DamagedError(f"{len(shape)} dimensions have {len(row.strides)} strides")
    end = extent(dtype, shape, row.offset, row.strides)
    if end > source.nbytes:
        raise DamagedError(f"the view ends at byte {end} of a storage of {source.nbytes}")
    return Tensor(dtype, shape, Strided(source, row.offset, row.strides), attributes)


def _stored(name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    try:
        return tensors[name]
    except KeyError:
        raise DamagedError(f"the tree names the tensor {name!r}, which the file lacks") from None
