"""Writing DCP directories: every item an archive of torch.save in one file, then the metadata.

    __0_0.distcp   archive of an item | archive of an item | …
    .metadata      the pickle that says which is where (see `dcp_metadata`)

A tree that DCP does not give back as it was has a document beside its metadata (`dcp_document`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from portackpt.box import whole
from portackpt.dtypes import BY_NAME, STRING, DType
from portackpt.errors import WriteError
from portackpt.plugins import Progress
from portackpt.storage.local import Writer, write_file
from portackpt.store.index import Index, Stored, index, named_tensors
from portackpt.store.state import pack
from portackpt.tensor import Tensor
from portackpt.tree import Node
from portackpt_torch.dcp_archives import Archives, write
from portackpt_torch.dcp_document import VERSION, Document, Row
from portackpt_torch.dcp_emission import emit
from portackpt_torch.dcp_metadata import BytesItem, Chunk, Extent, Item, Metadata, TensorItem
from portackpt_torch.dcp_projection import project
from portackpt_torch.vocabulary import VOCABULARY

if TYPE_CHECKING:
    import numpy as np

    from portackpt.box import Box

DATA = "__0_0.distcp"
METADATA = ".metadata"


def write_directory(directory: Path, tree: Node, progress: Progress) -> None:
    """Write `tree` into the empty `directory`."""
    projection = project(tree)
    archives = Archives()
    numbers = [archives.add(flat.node) for flat in projection.items]
    found = None if projection.is_whole else index(named_tensors(("", tree)))
    owners = [] if found is None else [
        archives.add_tensor(_held(entry.tensor))
        for entry in found.entries if isinstance(entry, Stored)
    ]  # fmt: skip
    with Writer(directory / DATA) as file:
        extents = [
            Extent(DATA, start, length) for start, length in write(file, archives.listed, progress)
        ]
    items: dict[str, Item] = {}
    for flat, number in zip(projection.items, numbers, strict=True):
        items[flat.name] = _item(flat.node, extents[number])
    places = {flat.name: flat.place for flat in projection.items}
    document = None if found is None else _document(tree, found, owners, extents)
    write_file(directory / METADATA, emit(Metadata(items, places, document=document)))


def _item(node: Node, extent: Extent) -> Item:
    if not isinstance(node, Tensor):
        return BytesItem(extent)
    trained = bool(node.attributes.get("requires_grad"))
    return TensorItem(node.dtype, node.shape, (Chunk(whole(node.shape), extent),), trained)


def _held(tensor: Tensor) -> Tensor:
    """A tensor of the same bytes that torch.save can write: torch makes no quantized ones so."""
    dtype, shape = tensor.dtype, tensor.shape
    if dtype is STRING:
        raise WriteError("torch has no tensors of strings")
    if dtype.name in VOCABULARY.dtypes:
        return tensor
    holder = BY_NAME[f"uint{8 * dtype.itemsize}"]
    return Tensor(holder, shape, _Seen(tensor))


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """The elements of a tensor as integers of their size."""

    tensor: Tensor

    def read(self, dtype: DType, box: Box, out: np.ndarray[Any, Any]) -> None:
        out[...] = self.tensor.read(box).view(out.dtype)


def _document(tree: Node, found: Index, numbers: list[int], extents: list[Extent]) -> bytes:
    """The document: `numbers` are the archives of the tensors that own their bytes, in order."""
    rows = []
    owned = iter(numbers)
    for entry in found.entries:
        if isinstance(entry, Stored):
            dtype, shape, place = entry.tensor.dtype, entry.tensor.shape, extents[next(owned)]
            rows.append(Row(dtype.name, shape, None, place.offset, place.length))
        else:
            view = (entry.of, entry.offset, 0, entry.strides)
            rows.append(Row(entry.dtype.name, entry.shape, *view))
    state = pack(tree, found.numbers)
    return msgspec.msgpack.encode(Document(VERSION, DATA, state, tuple(rows)))
