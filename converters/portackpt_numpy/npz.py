"""npz: named arrays in a zip archive, and npy: one array.

    NAME.npy     a header (see `npy`) and the elements, stored or deflated
    …            one member an array, in the order in which they were saved
    directory    of the archive, with the CRC-32 of every member

Source: numpy/lib/_npyio_impl.py. Names are the members' without `.npy`, as `numpy.load` shows them;
a member that is no array is its bytes. Nested names are joined with slashes when written. Arrays of
Python objects are pickles and refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from portackpt.bytesource import File, FileRange, InMemory
from portackpt.checkpoint import Checkpoint
from portackpt.collector import paused_collector
from portackpt.dtypes import named
from portackpt.errors import RefusedError, UsageError, WriteError, located
from portackpt.plugins import Probe, Progress
from portackpt.storage.local import Writer, staged_file
from portackpt.streaming import read_ahead
from portackpt.tensor import Tensor
from portackpt.tree import Node, plain_name, tensors
from portackpt.vocabulary import Vocabulary
from portackpt.ziparchive import Archive, Written, central_directory, local_header, open_archive
from portackpt_numpy.arrays import open_array, spell_array
from portackpt_numpy.npy import MAGIC, SPELLINGS
from portackpt_numpy.strings import DESCR

_MAX_RAW = 64 << 20
_ALONE = "value"
"""The name of a tensor that is the whole tree."""
_NOTE = "npy has no checksums: a flipped bit is not found"


def _is_descr(name: str) -> bool:
    return name == DESCR


_VOCABULARY = Vocabulary(
    dtypes=frozenset((*SPELLINGS, "string")),
    scalars=frozenset(),
    containers=frozenset((dict,)),
    attributes=_is_descr,
    empty=False,
    remarks={
        name: f"numpy.load gives raw bytes: view them as ml_dtypes.{name}"
        for name in SPELLINGS
        if named(name).numpy.startswith("ml_dtypes.")
    },
)


@dataclass(frozen=True)
class Npz:
    """The format `npz`; a file that is one array alone, too."""

    name: str = "npz"
    framework: str | None = None
    summary: str = "NumPy: .npz archives of named arrays, .npy arrays"
    suffixes: tuple[str, ...] = (".npz", ".npy")
    vocabulary: Vocabulary | None = _VOCABULARY
    holds_steps: bool = False

    def recognize(self, probe: Probe) -> bool:
        head = probe.head
        if head.startswith(MAGIC):
            return True
        if head.startswith(b"PK\x05\x06"):
            return probe.path.suffix == ".npz"
        if probe.members:
            return _looks_like_arrays(probe.members)
        # an archive whose end is missing shows its first member
        return head.startswith(b"PK\x03\x04") and _first_name(head).endswith(b".npy")

    def steps(self, path: Path) -> tuple[int, ...]:
        return ()

    def open(self, path: Path, *, step: int | None = None) -> Checkpoint:
        if step is not None:
            raise UsageError("npz keeps no steps", str(path))
        file = File(path)
        if file.size >= len(MAGIC) and file.read(0, len(MAGIC)) == MAGIC:
            with located(str(path)):
                array = open_array(FileRange(file, 0, file.size))
            return Checkpoint(array, self.name, notes=(_NOTE,))
        file.close()
        with paused_collector():
            return Checkpoint(_arrays(open_archive(path)), self.name)

    def write(
        self,
        checkpoint: Checkpoint,
        path: Path,
        *,
        overwrite: bool,
        step: int | None,
        progress: Progress,
    ) -> None:
        if step is not None:
            raise UsageError("npz keeps no steps", str(path))
        tree = checkpoint.tree
        with staged_file(path, overwrite=overwrite) as temporary, Writer(temporary) as file:
            if path.suffix != ".npy":
                _write_archive(file, _named(tree), progress)
            elif isinstance(tree, Tensor):
                _write_array(file, tree, progress)
            else:
                raise UsageError("a .npy file holds one array, this tree is more: write .npz",
                                 str(path))  # fmt: skip

    def resume(self, path: Path, step: int | None) -> str:
        return f"import numpy as np\n\narrays = np.load({str(path)!r})\n"


def _looks_like_arrays(members: tuple[str, ...]) -> bool:
    """True where members are arrays and none is of an archive that merely has arrays in it."""
    foreign = re.compile(r"(^|/)data\.pkl$|\.(pth|pt|pkl|h5|keras|json)$")
    return any(name.endswith(".npy") for name in members) and not any(map(foreign.search, members))


def _first_name(head: bytes) -> bytes:
    return head[30 : 30 + int.from_bytes(head[26:28], "little")]


def _arrays(archive: Archive) -> dict[str, Tensor | bytes]:
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


def _named(tree: Node) -> list[tuple[str, Tensor]]:
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


def _write_archive(file: Writer, named: list[tuple[str, Tensor]], progress: Progress) -> None:
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


def _write_array(file: Writer, tensor: Tensor, progress: Progress) -> None:
    header, elements = spell_array(tensor)
    file.write(header)
    for _, piece in read_ahead([elements]):
        file.write(piece)
        progress(piece.nbytes)


FORMAT = Npz()
