"""Writing DCP directories: every item an archive of torch.save in one file, then the metadata.

__0_0.distcp   archive of an item | archive of an item | …
.metadata      the pickle that says which is where (see `dcp_metadata`)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from portackpt.box import Box
from portackpt.dtypes import BY_NAME, STRING, DType
from portackpt.errors import WriteError
from portackpt.plugins import Progress
from portackpt.storage.local import Writer, write_file
from portackpt.store.index import Index, Stored, index, named_tensors
from portackpt.store.state import pack
from portackpt.streaming import Piece, read_ahead
from portackpt.tensor import Strided, Tensor, c_strides
from portackpt.tree import Node
from portackpt_torch.archive_writer import ArchiveWriter
from portackpt_torch.dcp_document import VERSION, Document, Row
from portackpt_torch.dcp_emission import emit
from portackpt_torch.dcp_metadata import (
    BytesItem,
    Chunk,
    Extent,
    Item,
    Metadata,
    TensorItem,
)
from portackpt_torch.dcp_projection import project
from portackpt_torch.object_writers import WRITERS
from portackpt_torch.pickle_writer import Pickler
from portackpt_torch.tensor_writer import write_tensor
from portackpt_torch.vocabulary import VOCABULARY
from portackpt_torch.writing import PREFIX, begin, finish

if TYPE_CHECKING:
    import numpy as np

DATA = "__0_0.distcp"
METADATA = ".metadata"
_LAZY = ("conj", "neg")


@dataclass(frozen=True, slots=True, eq=False)
class _Archive:
    """What torch.save would write: a pickle, and the bytes of its storages."""

    pickle: bytes
    storages: tuple[Tensor, ...]


def write_directory(directory: Path, tree: Node, progress: Progress) -> None:
    """Write `tree` into the empty `directory`."""
    projection = project(tree)
    archives = _Archives()
    numbers = [archives.add(flat.node) for flat in projection.items]
    found = None if projection.is_whole else index(named_tensors(("", tree)))
    owners = [] if found is None else [
        archives.add_tensor(_held(entry.tensor))
        for entry in found.entries if isinstance(entry, Stored)
    ]  # fmt: skip
    with Writer(directory / DATA) as file:
        extents = list(_write(file, archives.listed, progress))
    items: dict[str, Item] = {}
    for flat, number in zip(projection.items, numbers, strict=True):
        items[flat.name] = _item(flat.node, extents[number])
    places = {flat.name: flat.place for flat in projection.items}
    document = None if found is None else _document(tree, found, owners, extents)
    write_file(directory / METADATA, emit(Metadata(items, places, document=document)))


def _item(node: Node, extent: Extent) -> Item:
    if not isinstance(node, Tensor):
        return BytesItem(extent)
    box = Box((0,) * len(node.shape), node.shape)
    trained = bool(node.attributes.get("requires_grad"))
    return TensorItem(node.dtype, node.shape, (Chunk(box, extent),), trained)


class _Archives:
    """The archives to be written; what stands in several places is written once."""

    def __init__(self) -> None:
        self.listed: list[_Archive] = []
        self._tensors: dict[Any, int] = {}
        self._pickles: dict[Any, bytes] = {}

    def add(self, node: Node) -> int:
        """The number of the archive of `node`."""
        if isinstance(node, Tensor):
            return self.add_tensor(node)
        pickler = Pickler(write_tensor, WRITERS, "numpy._core")
        pickler.node(node)
        self.listed.append(_Archive(pickler.finish(), tuple(pickler.shelf.tensors)))
        return len(self.listed) - 1

    def add_tensor(self, tensor: Tensor) -> int:
        key = _identity(tensor)
        number = self._tensors.get(key)
        if number is None:
            number = self._tensors[key] = len(self.listed)
            lazy = tuple(name for name in _LAZY if tensor.attributes.get(name))
            self.listed.append(_Archive(self._pickle(tensor, lazy), (_elements(tensor),)))
        return number

    def _pickle(self, tensor: Tensor, lazy: tuple[str, ...]) -> bytes:
        """The pickle of a tensor in C order, which depends on its dtype and shape only."""
        key = (tensor.dtype, tensor.shape, lazy)
        data = self._pickles.get(key)
        if data is None:
            pickler = Pickler(write_tensor, WRITERS, "numpy._core")
            alone = Tensor(tensor.dtype, tensor.shape, _Apart(tensor), dict.fromkeys(lazy, True))
            pickler.node(alone)
            data = self._pickles[key] = pickler.finish()
        return data


def _identity(tensor: Tensor) -> Any:
    """Equal for tensors of the same elements of the same bytes."""
    layout = tensor.layout
    if not isinstance(layout, Strided):
        return (id(layout), tensor.dtype, tensor.shape)
    strides = layout.strides or c_strides(tensor.shape, tensor.dtype.itemsize)
    lazy = tuple(name for name in _LAZY if tensor.attributes.get(name))
    return (id(layout.source), layout.offset, strides, tensor.dtype, tensor.shape, lazy)


@dataclass(frozen=True, slots=True, eq=False)
class _Apart:
    """The elements of a tensor, without its storage."""

    tensor: Tensor

    def read(self, dtype: DType, box: Box, out: np.ndarray[Any, Any]) -> None:
        self.tensor.layout.read(dtype, box, out)


def _elements(tensor: Tensor) -> Tensor:
    """A tensor whose bytes are those of `tensor` in C order."""
    layout = tensor.layout
    if isinstance(layout, Strided) and layout.is_contiguous(tensor.dtype, tensor.shape):
        return tensor
    return Tensor(tensor.dtype, tensor.shape, _Apart(tensor))


def _write(file: Writer, archives: list[_Archive], progress: Progress) -> Iterator[Extent]:
    """Write the archives after each other; reading runs ahead over all of them."""
    pieces = read_ahead(storage for archive in archives for storage in archive.storages)
    for archive in archives:
        start = file.position
        writer = ArchiveWriter(file)
        begin(writer, archive.pickle)
        for number, storage in enumerate(archive.storages):
            writer.begin(f"{PREFIX}/data/{number}", storage.nbytes)
            _write_storage(writer, storage.nbytes, pieces, progress)
            writer.end()
        finish(writer)
        yield Extent(DATA, start, file.position - start)


def _write_storage(
    writer: ArchiveWriter, nbytes: int, pieces: Iterator[Piece], progress: Progress
) -> None:
    left = nbytes
    while True:
        _, piece = next(pieces)
        writer.write(piece)
        progress(piece.nbytes)
        left -= piece.nbytes
        if not left:
            return


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
