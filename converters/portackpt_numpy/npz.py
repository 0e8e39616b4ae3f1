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
from dataclasses import dataclass
from pathlib import Path

from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import BY_NAME
from portackpt.errors import UsageError, located
from portackpt.plugins import Probe, Progress
from portackpt.tensor import Tensor
from portackpt.vocabulary import Vocabulary
from portackpt_numpy.npy import MAGIC, SPELLINGS

_NOTE = "npy has no checksums: a flipped bit is not found"


def _is_descr(name: str) -> bool:
    from portackpt_numpy.strings import DESCR

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
        if BY_NAME[name].numpy.startswith("ml_dtypes.")
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
        from portackpt.bytesource import File, FileRange
        from portackpt.collector import paused_collector
        from portackpt.ziparchive import open_archive
        from portackpt_numpy.arrays import open_array
        from portackpt_numpy.members import arrays

        if step is not None:
            raise UsageError("npz keeps no steps", str(path))
        file = File(path)
        if file.size >= len(MAGIC) and file.read(0, len(MAGIC)) == MAGIC:
            with located(str(path)):
                array = open_array(FileRange(file, 0, file.size))
            return Checkpoint(array, self.name, notes=(_NOTE,))
        file.close()
        with paused_collector():
            return Checkpoint(arrays(open_archive(path)), self.name)

    def write(
        self,
        checkpoint: Checkpoint,
        path: Path,
        *,
        overwrite: bool,
        step: int | None,
        progress: Progress,
    ) -> None:
        from portackpt.storage.local import Writer, staged_file
        from portackpt_numpy.members import named, write_archive, write_array

        if step is not None:
            raise UsageError("npz keeps no steps", str(path))
        tree = checkpoint.tree
        with staged_file(path, overwrite=overwrite) as temporary, Writer(temporary) as file:
            if path.suffix != ".npy":
                write_archive(file, named(tree), progress)
            elif isinstance(tree, Tensor):
                write_array(file, tree, progress)
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


FORMAT = Npz()
