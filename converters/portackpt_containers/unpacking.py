"""Archives of checkpoints, unpacked into a private folder that lives as long as what was read.

The formats of the parts read files, so that each member becomes one: of a bounded size, under a
name that stays in the folder, never a link.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from portackpt.box import Box
from portackpt.bytesource import ByteSource
from portackpt.dtypes import DType
from portackpt.errors import DamagedError, InputError, RefusedError, located
from portackpt.tensor import Layout, Strided, Tensor
from portackpt.tree import Node, rebuild
from portackpt.ziparchive import open_archive
from portackpt_containers.places import MOST, is_safe
from portackpt_containers.tar import BLOCK, Read, is_tar, members

PIECE = 1 << 20
GZIP = b"\x1f\x8b\x08"
EXPANSION = 100
"""What is packed more tightly than this, and large, is taken for a bomb."""
SMALL = 256 << 20
LARGEST_PADDING = 64 << 20
_PEEK = 64


class Private:
    """A folder that is removed when nothing refers to this any more."""

    __slots__ = ("__weakref__", "path")

    def __init__(self, beside: Path | None = None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=".portackpt-", dir=beside))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The members of an archive as files; `kind` is `zip`, `tar` or `tar.gz`."""

    folder: Private
    kind: str


def unpack(path: Path) -> Unpacked:
    """The archive at `path` as files. Raises `InputError`."""
    folder = Private()
    with located(str(path)), path.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        if head.startswith(b"PK"):
            _unpack_zip(path, folder.path)
            return Unpacked(folder, "zip")
        packed = head.startswith(GZIP)
        budget = _Budget(path.stat().st_size)
        _unpack_tar(_inflated(file) if packed else file.read, folder.path, budget)
    return Unpacked(folder, "tar.gz" if packed else "tar")


class _Budget:
    """What an archive of `packed` bytes may expand to."""

    def __init__(self, packed: int) -> None:
        self._limit = max(SMALL, EXPANSION * packed)
        self._used = self._count = 0

    def take(self, name: str, size: int) -> None:
        self._used += size
        self._count += 1
        if self._used > self._limit:
            raise RefusedError(f"member {name!r} of {size} bytes: the archive would expand to more "
                               f"than {self._limit} bytes")  # fmt: skip
        if self._count > MOST:
            raise RefusedError(f"more than {MOST} files")


def _unpack_zip(path: Path, folder: Path) -> None:
    archive = open_archive(path)
    budget = _Budget(archive.file.size)
    for name, member in archive.members.items():
        budget.take(name, member.size)
        source = archive.source(name)
        buffer = memoryview(bytearray(min(PIECE, member.size)))
        with _new_file(folder, name) as file:
            for start in range(0, member.size, PIECE):
                piece = buffer[: member.size - start]
                source.readinto(start, piece)
                file.write(piece)
    archive.file.close()


def _unpack_tar(read: Read, folder: Path, budget: _Budget) -> None:
    for member in members(read):
        budget.take(member.name, member.size)
        with _new_file(folder, member.name.removeprefix("./")) as file:
            left = member.size
            while left:
                part = read(min(left, PIECE))
                if not part:
                    raise DamagedError(f"member {member.name!r} ends {left} bytes early")
                file.write(part)
                left -= len(part)
    left = LARGEST_PADDING
    while left > 0 and (part := read(PIECE)):  # to the end, where a checksum is
        left -= len(part)
    if left <= 0:
        raise RefusedError(f"more than {LARGEST_PADDING} bytes follow the last member")


def _new_file(folder: Path, name: str) -> BinaryIO:
    if not is_safe(name):
        raise RefusedError(f"the name {name!r} of a member leads out of the archive, or is no name "
                           "of a file everywhere")  # fmt: skip
    path = folder / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")
    except (FileExistsError, NotADirectoryError):
        raise RefusedError(f"two members are called {name!r}") from None


def _inflated(file: BinaryIO) -> Read:
    """A function that gives the next bytes of a gzip file; its checksum is verified at the end."""
    parts = _inflate(file)
    rest = b""

    def read(count: int) -> bytes:
        nonlocal rest
        found = bytearray()
        while len(found) < count and (rest or (rest := next(parts, b""))):
            taken = rest[: count - len(found)]
            rest = rest[len(taken) :]
            found += taken
        return bytes(found)

    return read


def _inflate(file: BinaryIO) -> Iterator[bytes]:
    stream = zlib.decompressobj(31)
    packed = b""
    while True:
        packed = packed or file.read(1 << 16)
        if not packed:
            if not stream.eof:
                raise DamagedError("the gzip stream was cut short")
            return
        if stream.eof:
            stream = zlib.decompressobj(31)
        try:
            part = stream.decompress(packed, PIECE)
        except zlib.error as error:
            raise DamagedError(f"cannot inflate: {error}") from None
        packed = stream.unused_data if stream.eof else stream.unconsumed_tail
        if part:
            yield part


def first_names(path: Path, head: bytes) -> tuple[str, ...]:
    """Names from the beginning of a tar archive, packed or not; empty for anything else."""
    names: list[str] = []
    with path.open("rb") as file, suppress(InputError):
        stream: BinaryIO = file
        if head.startswith(GZIP):
            stream = io.BytesIO(next(_inflate(file), b""))
            head = stream.getbuffer()[:BLOCK].tobytes()
        if is_tar(head):
            for member in islice(members(stream.read), _PEEK):
                names.append(member.name.removeprefix("./"))
                stream.seek(member.size, io.SEEK_CUR)
    return tuple(names)


class _Held:
    """A byte source that keeps the folder of its file."""

    __slots__ = ("_folder", "_source")

    def __init__(self, source: ByteSource, folder: Private) -> None:
        self._source = source
        self._folder = folder

    @property
    def nbytes(self) -> int:
        return self._source.nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        self._source.readinto(offset, out)

    def verify(self) -> None:
        self._source.verify()


@dataclass(frozen=True, slots=True, eq=False)
class _HeldLayout:
    """Elements that are found as `layout` says, in a folder that this keeps."""

    layout: Layout
    folder: Private

    def read(self, dtype: DType, box: Box, out: Any) -> None:
        self.layout.read(dtype, box, out)


def hold(tree: Node, folder: Private) -> Node:
    """`tree`, whose tensors keep `folder`; what was one tensor or storage still is one."""
    return rebuild(tree, _Holder(folder).leaf)


class _Holder:
    def __init__(self, folder: Private) -> None:
        self._folder = folder
        # the first of each pair keeps its id from being used again
        self._tensors: dict[int, tuple[Tensor, Tensor]] = {}
        self._sources: dict[int, _Held] = {}

    def leaf(self, path: str, leaf: Node) -> Node:
        if not isinstance(leaf, Tensor):
            return leaf
        known = self._tensors.get(id(leaf))
        if known is None:
            told = {key: rebuild(value, self.leaf) for key, value in leaf.attributes.items()}
            held = replace(leaf, layout=self._layout(leaf.layout), attributes=told)
            known = self._tensors[id(leaf)] = (leaf, held)
        return known[1]

    def _layout(self, layout: Layout) -> Layout:
        if not isinstance(layout, Strided):
            return _HeldLayout(layout, self._folder)
        source = layout.source
        held = self._sources.setdefault(id(source), _Held(source, self._folder))
        return replace(layout, source=held)
