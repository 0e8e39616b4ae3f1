"""Writing an archive of torch: the pickle, then every storage once, checksummed on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portackpt.collector import paused_collector
from portackpt.errors import WriteError
from portackpt.plugins import Progress
from portackpt.storage.local import Writer
from portackpt.streaming import read_ahead
from portackpt.tree import Node
from portackpt_torch.archive_writer import ALIGNMENT, ArchiveWriter
from portackpt_torch.object_writers import WRITERS
from portackpt_torch.pickle_reader import MAX_BYTES
from portackpt_torch.pickle_writer import Pickler
from portackpt_torch.tensor_writer import write_tensor

PREFIX = "archive"
_BATCH = 1 << 18


def write_archive(file: Writer, tree: Node, details: Mapping[str, Any], progress: Progress) -> None:
    """Append the archive of `tree` to `file`; offsets in it count from where the file stands."""
    pickler = Pickler(write_tensor, WRITERS, str(details.get("numpy", "numpy._core")))
    with paused_collector():
        pickler.node(tree)
    data = pickler.finish()
    if len(data) > MAX_BYTES:
        raise WriteError(
            f"names and plain data take {len(data)} bytes, a torch archive should have "
            f"{MAX_BYTES} at most; keep large values in tensors"
        )
    gathered = Gathered(file)
    archive = ArchiveWriter(gathered)
    begin(archive, data)
    progress(len(data))
    current = -1
    for index, piece in read_ahead(pickler.shelf.tensors):
        if index != current:
            if current >= 0:
                archive.end()
            archive.begin(f"{PREFIX}/data/{index}", pickler.shelf.tensors[index].nbytes)
            current = index
        archive.write(piece)
        progress(piece.nbytes)
    if current >= 0:
        archive.end()
    finish(archive)
    gathered.flush()


class Gathered:
    """A file to which what is small is written in larger pieces."""

    __slots__ = ("_batch", "_file", "position")

    def __init__(self, file: Writer) -> None:
        self._file = file
        self._batch = bytearray()
        self.position = file.position

    def write(self, data: bytes | memoryview) -> int:
        count = len(data)
        self.position += count
        if count < _BATCH:
            self._batch += data
            if len(self._batch) >= _BATCH:
                self.flush()
        else:
            self.flush()
            self._file.write(data)
        return count

    def flush(self) -> None:
        self._file.write(self._batch)
        self._batch = bytearray()


def begin(archive: ArchiveWriter, data: bytes) -> None:
    """The records before the storages; `data` is the pickle."""
    archive.add(f"{PREFIX}/data.pkl", data)
    archive.add(f"{PREFIX}/.format_version", b"1")
    archive.add(f"{PREFIX}/.storage_alignment", str(ALIGNMENT).encode())
    archive.add(f"{PREFIX}/byteorder", b"little")


def finish(archive: ArchiveWriter) -> None:
    """The records after the storages, and the directory."""
    archive.add(f"{PREFIX}/version", b"3\n")
    archive.add(f"{PREFIX}/.data/serialization_id", archive.fingerprint())
    archive.finish()
