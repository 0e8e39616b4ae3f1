"""The parts of a container: each file read and written by its own format.

What no format knows is kept as it is: text as `str`, the rest as its bytes. So is a file whose
format says that it is no checkpoint (a program, say).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from portackpt import plugins
from portackpt.bytesource import File, FileRange
from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import STRING, UINT8
from portackpt.errors import UnsupportedError, WriteError, located
from portackpt.plugins import Format, Probe, Progress
from portackpt.spelling import spell
from portackpt.storage.local import Writer
from portackpt.tensor import Tensor, contiguous
from portackpt.tree import Node

NAME = "directory"
ROOT = "."
"""The name of the part that is the folder itself, for DCP, whose files lie among the others."""
TEXT = "text"
BYTES = "bytes"
LARGEST_TEXT = 1 << 20
_SUFFIXES = {
    ".safetensors": "safetensors",
    ".h5": "keras",
    ".npz": "npz",
    ".msgpack": "flax-msgpack",
}
FOLDERS = frozenset(("dcp", "orbax", "safetensors", "portackpt"))
"""Formats whose target is a folder, so that a folder of theirs can be a part."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One part, opened: its tree, and how to write it again."""

    tree: Node
    format: str
    details: Mapping[str, Any]
    checkpoint: Checkpoint | None = None
    notes: tuple[str, ...] = ()


def format_of(path: Path) -> Format | None:
    """The format of a file, or of a folder as a whole; None where none or several fit."""
    probe = Probe(path)
    found = [one for one in plugins.known() if one.name != NAME and one.recognize(probe)]
    return found[0] if len(found) == 1 else None


def is_folder_part(path: Path) -> bool:
    """Whether a folder is one part as a whole."""
    found = format_of(path)
    return found is not None and found.name in FOLDERS


def open_part(path: Path, room: int) -> Part:
    """The part at `path`, as text where that fits in `room` bytes. Raises `InputError`."""
    text = None if path.is_dir() else read_text(path, room)
    if text is not None:
        return Part(text, TEXT, {})
    known = format_of(path)
    if known is None:
        return Part(_bytes(path), BYTES, {})
    try:
        checkpoint = known.open(path)
    except UnsupportedError as error:
        if path.is_dir():
            raise
        return Part(_bytes(path), BYTES, {}, None, (f"kept as bytes: {error.message}",))
    return _opened(known, checkpoint)


def open_with(known: Format, path: Path) -> Part:
    """The part at `path`, which is of a known format."""
    return _opened(known, known.open(path))


def _opened(known: Format, checkpoint: Checkpoint) -> Part:
    return Part(checkpoint.tree, known.name, checkpoint.details, checkpoint, checkpoint.notes)


def read_text(path: Path, room: int) -> str | None:
    """The text of a file of at most `room` bytes; None where it is anything else."""
    if path.stat().st_size > min(room, LARGEST_TEXT):
        return None
    data = path.read_bytes()
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def _bytes(path: Path) -> Tensor:
    file = File(path)
    return contiguous(UINT8, (file.size,), FileRange(file, 0, file.size))


def write_part(
    tree: Node, path: Path, about: Mapping[str, Any], whole: Checkpoint, progress: Progress
) -> None:
    """Write one part, as `about` says it was: its format, and what that format remembers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = str(about.get("format"))
    with located(path.name):
        if name in (TEXT, BYTES):
            _write_bytes(tree, path, progress)
            return
        target = plugins.get(name)
        if target.vocabulary is None:
            raise WriteError(f"the format {name!r} can be read, but not written")
        details = about.get("details")
        part = replace(
            whole,
            tree=spell(tree, target.vocabulary).tree,
            format=name,
            details=details if isinstance(details, Mapping) else {},
            step=None,
        )
        target.write(part, path, overwrite=False, step=None, progress=progress)


def _write_bytes(tree: Node, path: Path, progress: Progress) -> None:
    with Writer(path) as file:
        if isinstance(tree, Tensor) and tree.dtype is STRING:
            tree = bytes(tree.read().item())
        if isinstance(tree, Tensor):
            for piece in tree.pieces():
                progress(file.write(piece))
        else:
            progress(file.write(tree.encode() if isinstance(tree, str) else tree))


def guessed(name: str, tree: Node) -> str:
    """The format of a part, from its name and content alone."""
    if isinstance(tree, str):
        # what would not be read as text again is kept as torch keeps text
        return TEXT if _is_text(tree) else "pytorch"
    if isinstance(tree, bytes) or (isinstance(tree, Tensor) and _is_bytes(tree)):
        return BYTES
    return _SUFFIXES.get(Path(name).suffix, "pytorch") if isinstance(tree, dict) else "pytorch"


def _is_bytes(tensor: Tensor) -> bool:
    return tensor.dtype is UINT8 and len(tensor.shape) == 1


def _is_text(value: str) -> bool:
    try:
        return "\0" not in value and len(value.encode()) <= LARGEST_TEXT
    except UnicodeEncodeError:
        return False
