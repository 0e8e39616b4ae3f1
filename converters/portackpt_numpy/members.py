"""The members of an npz archive: read as arrays, written one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from portackpt.bytesource import InMemory
from portackpt.errors import RefusedError, WriteError, located
from portackpt.plugins import Progress
from portackpt.storage.local import Writer
from portackpt.streaming import read_ahead
from portackpt.tensor import Tensor
from portackpt.tree import Node, plain_name, tensors
from portackpt.ziparchive import Archive, Written, central_directory, local_header
from portackpt_numpy.arrays import open_array, spell_array
from portackpt_numpy.npy import MAGIC

_MAX_RAW = 64 << 20
_ALONE = "value"
"""The name of a tensor that is the whole tree."""


def arrays(archive: Archive) -> dict[str, Tensor | bytes]:
    arrays: dict[str, Tensor | bytes] = {}
    for member in archive.members:
        name = member.removesuffix(".npy")
        with located(f"member {member!r} of {archive.file.path}"):
            if name in arrays:
                raise RefusedError(f"two members are called {name!r} by numpy")
            if name != member:
                arrays[name] = open_array(archive.source(member))
                continue
            data = archive.read(member, _MAX_RAW)
            arrays[name] = open_array(InMemory(data)) if data.startswith(MAGIC) else data
    return arrays


def named(tree: Node) -> list[tuple[str, Tensor]]:
    """The tensors of a tree by the names of their members, which are distinct."""
    if isinstance(tree, Tensor):
        return [(_ALONE, tree)]
    found = list(tensors(tree))
    plain = {plain_name(path) for path, _ in found}
    names = [plain_name(path) if len(plain) == len(found) else path for path, _ in found]
    for name in names:
        if "\0" in name or not _encodable(name):
            raise WriteError(f"no member of a zip archive can be called {name!r}; rename that leaf")
    return [(name, tensor) for name, (_, tensor) in zip(names, found, strict=True)]


def _encodable(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


@dataclass(slots=True)
class _Member:
    """A member that is being written: `left` of its `size` bytes are to come."""

    name: str
    header: bytes
    size: int
    left: int
    offset: int = 0
    crc: int = 0

    def spelled(self) -> Written:
        return Written(self.name, self.size, self.offset, self.crc)


def write_archive(file: Writer, named: list[tuple[str, Tensor]], progress: Progress) -> None:
    """Members one after the other."""
    members: list[_Member] = []

    def held() -> Iterator[Tensor]:
        for name, tensor in named:
            header, elements = spell_array(tensor)
            size = len(header) + elements.nbytes
            members.append(_Member(name + ".npy", header, size, elements.nbytes))
            yield elements

    met = -1
    for number, piece in read_ahead(held()):
        if number > met:
            met = number
            _begin(file, members[number], piece)
        else:
            _go_on(file, members[number], piece)
        progress(piece.nbytes)
    start = file.position
    file.write(central_directory((member.spelled() for member in members), start))


def _begin(file: Writer, member: _Member, piece: memoryview) -> None:
    from isal.isal_zlib import crc32

    member.offset = file.position
    member.left -= piece.nbytes
    member.crc = crc32(piece, crc32(member.header))
    file.write(local_header(member.spelled()))
    file.write(member.header)
    file.write(piece)


def _go_on(file: Writer, member: _Member, piece: memoryview) -> None:
    """The next piece of a large member. Its CRC-32 stands before it and is known at its end."""
    from isal.isal_zlib import crc32

    member.left -= piece.nbytes
    member.crc = crc32(piece, member.crc)
    file.write(piece)
    if not member.left:
        file.patch(member.offset, local_header(member.spelled()))


def write_array(file: Writer, tensor: Tensor, progress: Progress) -> None:
    header, elements = spell_array(tensor)
    file.write(header)
    for _, piece in read_ahead([elements]):
        file.write(piece)
        progress(piece.nbytes)
