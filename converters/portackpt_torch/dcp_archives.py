"""The archives of a DCP file: what torch.save would write for each item, one after the other.

The archive of a tensor is the same but for its bytes and their CRC-32 for all tensors of one dtype
and shape, so that what stands around the bytes is made once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portackpt.box import Box
from portackpt.dtypes import DType
from portackpt.plugins import Progress
from portackpt.storage.local import Writer
from portackpt.streaming import Piece, read_ahead
from portackpt.tensor import Strided, Tensor
from portackpt.tree import Node
from portackpt_torch.archive import crc32
from portackpt_torch.archive_directory import ENTRY
from portackpt_torch.archive_writer import ArchiveWriter
from portackpt_torch.object_writers import WRITERS
from portackpt_torch.pickle_writer import Pickler
from portackpt_torch.tensor_writer import write_tensor
from portackpt_torch.writing import PREFIX, begin, finish

if TYPE_CHECKING:
    import numpy as np

_LAZY = ("conj", "neg")
_DATA = f"{PREFIX}/data/0"


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands before and behind the bytes of a tensor; the CRC-32 goes to `checks` behind."""

    head: bytes
    tail: bytes
    checks: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """One item: the bytes of its storages within a frame, or behind a pickle."""

    frame: Frame | bytes
    storages: tuple[Tensor, ...]


class Archives:
    """The archives to be written; a tensor that stands in several places is written once."""

    def __init__(self) -> None:
        self.listed: list[Archive] = []
        self._tensors: dict[Any, int] = {}
        self._frames: dict[Any, Frame] = {}

    def add(self, node: Node) -> int:
        """The number of the archive of `node`."""
        if isinstance(node, Tensor):
            return self.add_tensor(node)
        pickler = Pickler(write_tensor, WRITERS, "numpy._core")
        pickler.node(node)
        self.listed.append(Archive(pickler.finish(), tuple(pickler.shelf.tensors)))
        return len(self.listed) - 1

    def add_tensor(self, tensor: Tensor) -> int:
        """The number of the archive of the elements of `tensor`, in C order."""
        lazy = tuple([name for name in _LAZY if tensor.attributes.get(name)])
        key = (*_identity(tensor), tensor.dtype, tensor.shape, lazy)
        number = self._tensors.get(key)
        if number is None:
            number = self._tensors[key] = len(self.listed)
            self.listed.append(Archive(self._frame(tensor, lazy), (_apart(tensor),)))
        return number

    def _frame(self, tensor: Tensor, lazy: tuple[str, ...]) -> Frame:
        key = (tensor.dtype, tensor.shape, lazy)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = _frame(tensor, lazy)
        return frame


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    """Equal for tensors of the same bytes."""
    layout = tensor.layout
    if isinstance(layout, Strided):
        return (id(layout.source), layout.offset, layout.strides)
    return (id(layout),)


def _apart(tensor: Tensor) -> Tensor:
    """The elements of `tensor` in C order, without its storage."""
    layout = tensor.layout
    if isinstance(layout, Strided) and layout.is_contiguous(tensor.dtype, tensor.shape):
        return tensor
    return Tensor(tensor.dtype, tensor.shape, _Elements(tensor))


@dataclass(frozen=True, slots=True, eq=False)
class _Elements:
    tensor: Tensor

    def read(self, dtype: DType, box: Box, out: np.ndarray[Any, Any]) -> None:
        self.tensor.layout.read(dtype, box, out)


class _Sheet:
    """Takes down what an archive is made of; bytes of tensors are left out."""

    def __init__(self) -> None:
        self.position = 0
        self._written = bytearray()

    def write(self, data: bytes | memoryview) -> int:
        self._written += data
        self.position += len(data)
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


def _frame(tensor: Tensor, lazy: tuple[str, ...]) -> Frame:
    pickler = Pickler(write_tensor, WRITERS, "numpy._core")
    attributes = dict.fromkeys(lazy, True)
    pickler.node(Tensor(tensor.dtype, tensor.shape, _Elements(tensor), attributes))
    sheet = _Sheet()
    archive = ArchiveWriter(sheet)
    begin(archive, pickler.finish())
    archive.begin(_DATA, tensor.nbytes)
    head = sheet.take()
    sheet.position += tensor.nbytes
    archive.end()
    finish(archive)
    tail = sheet.take()
    if not tensor.nbytes:
        return Frame(head, tail, ())
    entry = tail.rindex(_DATA.encode()) - ENTRY.size
    return Frame(head, tail, (4, entry + 16))  # of the descriptor and of the directory's entry


def write(file: Writer, archives: list[Archive], progress: Progress) -> Iterator[tuple[int, int]]:
    """Write the archives after each other, and give (offset, length) of each.

    Reading runs ahead over all of them.
    """
    pieces = read_ahead(storage for archive in archives for storage in archive.storages)
    for archive in archives:
        start = file.position
        if isinstance(archive.frame, Frame):
            _write_tensor(file, archive.frame, archive.storages[0].nbytes, pieces, progress)
        else:
            _write_object(file, archive.frame, archive.storages, pieces, progress)
        yield start, file.position - start


def _write_tensor(
    file: Writer, frame: Frame, nbytes: int, pieces: Iterator[Piece], progress: Progress
) -> None:
    update = crc32()
    check = 0
    file.write(frame.head)
    for piece in _next(pieces, nbytes):
        check = update(piece, check)
        file.write(piece)
        progress(piece.nbytes)
    tail = bytearray(frame.tail)
    for at in frame.checks:
        tail[at : at + 4] = check.to_bytes(4, "little")
    file.write(tail)


def _write_object(
    file: Writer,
    pickle: bytes,
    storages: tuple[Tensor, ...],
    pieces: Iterator[Piece],
    progress: Progress,
) -> None:
    archive = ArchiveWriter(file)
    begin(archive, pickle)
    for number, storage in enumerate(storages):
        archive.begin(f"{PREFIX}/data/{number}", storage.nbytes)
        for piece in _next(pieces, storage.nbytes):
            archive.write(piece)
            progress(piece.nbytes)
        archive.end()
    finish(archive)


def _next(pieces: Iterator[Piece], nbytes: int) -> Iterator[memoryview]:
    """The pieces of the next storage; one without bytes is one empty piece."""
    while True:
        _, piece = next(pieces)
        yield piece
        nbytes -= piece.nbytes
        if nbytes <= 0:
            return
