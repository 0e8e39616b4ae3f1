"""The document: what a DCP directory cannot say by itself, kept beside its metadata.

DCP keeps a tree of dicts with text as keys, and each tensor by itself. For any other tree the
`Metadata` in the pickle has one attribute more, `portackpt`, which torch passes over: MessagePack,

    {"portackpt": 1, "file": text, "state": bytes, "tensors": [row…]}

`state` spells the tree as a state file of the neutral format does (`spec/`). Its tensors are the
rows, by number: `[dtype, shape, nil, offset, length]` for the bytes of the one tensor that
torch.save wrote at that place of the file (an item of DCP's, where it is one), and
`[dtype, shape, of, offset, 0, strides]`, in bytes, for a view of row `of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from portackpt.dtypes import named
from portackpt.errors import DamagedError, UnsupportedError, located
from portackpt.store.index import extent
from portackpt.store.state import unpack
from portackpt.tensor import Strided, Tensor, c_strides
from portackpt.tree import Node
from portackpt_torch.dcp_metadata import Extent, is_file_name
from portackpt_torch.dcp_reading import Files, ItemBytes, c_nbytes
from portackpt_torch.tensors import MAX_RANK

VERSION = 1
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    dtype: str
    shape: tuple[_Count, ...]
    of: int | None
    offset: _Count
    length: _Count = 0
    strides: tuple[_Count, ...] = ()


class Document(msgspec.Struct, frozen=True):
    portackpt: int
    file: str
    state: bytes
    tensors: tuple[Row, ...]


class _Version(msgspec.Struct):
    portackpt: int


def parse(data: bytes) -> Document:
    """The document in `data`. Raises `InputError`."""
    try:
        version = msgspec.msgpack.decode(data, type=_Version).portackpt
        if version != VERSION:
            raise UnsupportedError(
                f"needs a newer portackpt: the document has version {version}, known is {VERSION}"
            )
        document = msgspec.msgpack.decode(data, type=Document)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise DamagedError(f"not a document of portackpt: {error}") from None
    if not is_file_name(document.file):
        raise DamagedError(f"no name of a file: {document.file!r:.80}")
    return document


def tree_of(document: Document, files: Files) -> Node:
    """The tree, over the tensors of the directory."""
    rows = document.tensors

    def make(number: int, attributes: Mapping[str, Any]) -> Tensor:
        if not 0 <= number < len(rows):
            raise DamagedError(f"the tree names tensor {number}, there are {len(rows)}")
        with located(f"tensors[{number}]"):
            return _tensor(document, number, files, attributes)

    return unpack(document.state, make)


def _tensor(document: Document, number: int, files: Files, attributes: Mapping[str, Any]) -> Tensor:
    row = document.tensors[number]
    dtype, shape = named(row.dtype), row.shape
    if len(shape) > MAX_RANK:
        raise DamagedError(f"a tensor of {len(shape)} dimensions")
    strides = c_strides(shape, dtype.itemsize)
    if row.of is None:
        return Tensor(dtype, shape, Strided(_source(document, row, files), 0, strides), attributes)
    owner = document.tensors[row.of] if 0 <= row.of < len(document.tensors) else row
    if owner.of is not None:
        raise DamagedError("a view is of a tensor that is stored, this one is not")
    source = _source(document, owner, files)
    if len(row.strides) != len(shape):
        raise DamagedError(f"{len(shape)} dimensions have {len(row.strides)} strides")
    end = extent(dtype, shape, row.offset, row.strides)
    if end > source.nbytes:
        raise DamagedError(f"the view ends at byte {end} of a storage of {source.nbytes}")
    return Tensor(dtype, shape, Strided(source, row.offset, row.strides), attributes)


def _source(document: Document, row: Row, files: Files) -> ItemBytes:
    place = Extent(document.file, row.offset, row.length)
    return files.elements(place, c_nbytes(named(row.dtype), row.shape))
