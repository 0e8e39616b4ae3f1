"""The `.keras` archive of Keras 3.

    metadata.json        {"keras_version", "date_saved"}
    config.json          the model as Keras serializes it: classes, layers, compile arguments
    model.weights.h5     an HDF5 file: variables of layers, optimizer, metrics
    assets/…             files of layers (vocabularies)

The source is `keras/src/saving/saving_lib.py` of Keras 3.15. The weights are the root of the tree;
every other member stands beside them under its own name, text as `str`, so that the archive can be
written back complete. Nothing in config.json is interpreted: no class in it is ever looked up.
"""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree

from portackpt.bytesource import ByteSource, File, FileRange
from portackpt.dtypes import STRING, UINT8
from portackpt.errors import DamagedError, InputError, UsageError
from portackpt.plugins import Progress
from portackpt.storage.local import staged_file
from portackpt.tensor import Tensor, contiguous
from portackpt.tree import Node
from portackpt.ziparchive import (
    STORED,
    Archive,
    Written,
    central_directory,
    local_header,
    open_archive,
)
from portackpt_keras.hdf5 import Hdf5
from portackpt_keras.hdf5_tree import Reading, read_tree
from portackpt_keras.hdf5_writer import lay_out, pour
from portackpt_keras.window import Window

WEIGHTS = "model.weights.h5"
CONFIG = "config.json"
METADATA = "metadata.json"
TEXTS = (METADATA, CONFIG)
_LARGEST_TEXT = 64 << 20
_CHECKED_AT_ONCE = 16 << 20
"""A larger archive's checksum is verified when the first value is read, not when it is opened."""


class Part:
    """`nbytes` bytes at `start` of a member, which is checked as a whole before it gives any."""

    __slots__ = ("_member", "_nbytes", "_start")

    def __init__(self, member: ByteSource, start: int, nbytes: int) -> None:
        self._member = member
        self._start = start
        self._nbytes = nbytes

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        self._member.verify()
        self._member.readinto(self._start + offset, out)

    def verify(self) -> None:
        self._member.verify()


@dataclass(frozen=True, slots=True)
class Opened:
    """What a `.keras` archive holds."""

    tree: dict[str, Node]
    reading: Reading
    keras_version: str | None


def open_keras(path: Path) -> Opened:
    """The tree of the archive at `path`. Raises `InputError`."""
    archive = open_archive(path)
    if WEIGHTS not in archive.members:
        raise DamagedError(f"expected a member {WEIGHTS!r}, found {sorted(archive.members)[:9]}",
                           str(path))  # fmt: skip
    tree: dict[str, Node] = {}
    for name in archive.members:
        if name != WEIGHTS:
            tree[_key(name)] = _member(archive, name)
    reading = _weights(archive, path)
    for key, node in reading.tree.items():
        if key in tree:
            raise DamagedError(f"{key!r} is a member and a group of {WEIGHTS!r}", str(path))
        tree[key] = node
    return Opened(tree, reading, _version(tree.get(METADATA)))


def _weights(archive: Archive, path: Path) -> Reading:
    member = archive.members[WEIGHTS]
    where = f"{WEIGHTS} of {path}"
    source = archive.source(WEIGHTS)
    file, start = archive.file, member.start
    if member.method != STORED:
        file, start = _extracted(source), 0
    elif member.size <= _CHECKED_AT_ONCE:
        source.verify()
    hdf5 = Hdf5(file.path, start, member.size, where)
    if member.method != STORED:
        return read_tree(hdf5, lambda offset, n: FileRange(file, offset, n), _checked)
    try:
        return read_tree(hdf5, lambda offset, n: Part(source, offset, n), source.verify)
    except InputError:
        source.verify()  # a flipped bit explains more than what it led HDF5 to
        raise


def _checked() -> None:
    """Nothing is left to check: the bytes were when they were inflated."""


class _Temporary(File):
    """A file that is removed with the last that refers to it."""

    __slots__ = ("_folder",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / WEIGHTS)
        self._folder = folder
        weakref.finalize(self, rmtree, folder, ignore_errors=True)


def _extracted(source: ByteSource) -> File:
    """A private file of a deflated member's bytes, since HDF5 needs to go back and forth."""
    folder = Path(tempfile.mkdtemp(prefix="portackpt-"))
    try:
        with (folder / WEIGHTS).open("xb") as file:
            buffer = memoryview(bytearray(1 << 20))
            for start in range(0, source.nbytes, len(buffer)):
                piece = buffer[: source.nbytes - start]
                source.readinto(start, piece)
                file.write(piece)
        return _Temporary(folder)
    except BaseException:
        rmtree(folder, ignore_errors=True)
        raise


def _key(name: str) -> str:
    """The key of a member: unlike any of the weights', which have no slash."""
    return name if "/" in name or name in TEXTS else f"./{name}"


def _member(archive: Archive, name: str) -> Node:
    """A member that is not the weights: JSON as its text, others as their bytes."""
    if name.endswith(".json") and archive.members[name].size <= _LARGEST_TEXT:
        with suppress(UnicodeDecodeError):
            return archive.read(name, _LARGEST_TEXT).decode()
    source = archive.source(name)
    return contiguous(UINT8, (source.nbytes,), source)


def _version(metadata: Node) -> str | None:
    """The version of Keras that wrote the archive."""
    try:
        found = json.loads(metadata).get("keras_version") if isinstance(metadata, str) else None
    except (ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def write_keras(
    tree: Mapping[str, Node], path: Path, *, overwrite: bool, progress: Progress
) -> None:
    """Write `tree` as a `.keras` archive. Raises `UsageError` where it holds no config.json."""
    for name in TEXTS:
        if name not in tree:
            raise UsageError(
                f"a .keras archive needs {name}, which says how Keras builds the model; this "
                "checkpoint has none. Write a .weights.h5 instead: model.load_weights reads it "
                "into a model that your program builds",
                str(path),
            )
    names = {key: _member_name(key, node) for key, node in tree.items()}
    members = {key: name for key, name in names.items() if name is not None}
    weights = {key: node for key, node in tree.items() if key not in members}
    first = sorted(members, key=lambda key: TEXTS.index(key) if key in TEXTS else len(TEXTS))
    contents = {members[key]: tree[key] for key in first}
    with staged_file(path, overwrite=overwrite) as temporary:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            _write(descriptor, contents, weights, progress)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _member_name(key: str, node: Node) -> str | None:
    """The name of the member that is under `key`; None where it belongs to the weights."""
    if key not in TEXTS and "/" not in key:
        return None
    fits = isinstance(node, (str, bytes)) or (
        isinstance(node, Tensor) and (node.dtype, len(node.shape)) in ((UINT8, 1), (STRING, 0))
    )
    name = key.removeprefix("./")
    safe = all(part not in ("", ".", "..") for part in name.split("/"))
    return name if fits and safe and name != WEIGHTS and "\0" not in name else None


def _write(
    descriptor: int, contents: Mapping[str, Node], weights: Mapping[str, Node], progress: Progress
) -> None:
    from isal.isal_zlib import crc32

    window = Window(descriptor, 0)
    written = [_write_member(window, name, node, progress) for name, node in contents.items()]
    offset = window.tell()
    # the header's length is the same for every size below 4 GiB, and for every size above
    wide = _total(weights) > 3 << 30
    start = offset + len(local_header(Written(WEIGHTS, 0, offset, wide=wide)))
    placed = lay_out(weights, Window(descriptor, start))
    crc = pour(placed, descriptor, start, progress, crc32)
    stop = os.fstat(descriptor).st_size
    entry = Written(WEIGHTS, stop - start, offset, crc, wide)
    window.seek(offset)
    window.write(local_header(entry))
    window.seek(stop)
    window.write(central_directory([*written, entry], stop))


def _write_member(window: Window, name: str, node: Node, progress: Progress) -> Written:
    from isal.isal_zlib import crc32

    entry = Written(name, 0, window.tell())
    window.seek(len(local_header(entry)), os.SEEK_CUR)
    size = crc = 0
    for piece in _pieces(node):
        size += window.write(piece)
        crc = crc32(piece, crc)
        progress(piece.nbytes)
    stop = window.tell()
    entry = replace(entry, size=size, crc=crc)
    window.seek(entry.offset)
    window.write(local_header(entry))
    window.seek(stop)
    return entry


def _pieces(node: Node) -> Iterator[memoryview]:
    """The bytes of a member."""
    if isinstance(node, Tensor) and node.dtype is STRING:
        node = bytes(node.read().item())
    if isinstance(node, Tensor):
        yield from node.pieces()
    else:
        yield memoryview(node.encode() if isinstance(node, str) else node)


def _total(node: Node) -> int:
    if isinstance(node, dict):
        return sum(map(_total, node.values()))
    return node.nbytes if isinstance(node, Tensor) else 0
