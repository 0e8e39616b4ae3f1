"""Writing the parts of a container into a folder, and a folder into an archive."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from portackpt.checkpoint import Checkpoint
from portackpt.errors import WriteError
from portackpt.plugins import Progress
from portackpt.renaming import Renames
from portackpt.storage.local import Writer
from portackpt.tree import Node, escape
from portackpt.ziparchive import Written, central_directory, local_header
from portackpt_containers.parts import NAME, ROOT, guessed, write_part
from portackpt_containers.places import is_safe

PIECE = 1 << 20
_SUFFIXES = {".zip": "zip", ".tar": "tar", ".tar.gz": "tar.gz", ".tgz": "tar.gz"}


def archive_of(name: str) -> str | None:
    """The kind of archive that a target's name asks for; None for a folder."""
    return next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), None)


def write_folder(checkpoint: Checkpoint, folder: Path, progress: Progress) -> None:
    """Write every part into `folder`, by its own format."""
    known = checkpoint.details_for(NAME).get("parts")
    about = known if isinstance(known, Mapping) else {}
    for name, tree in checkpoint.tree.items():
        told: Any = about.get(name)
        if not isinstance(told, Mapping):
            told = {"format": guessed(name, tree)}
        if name == ROOT:
            _write_root(tree, folder, told, checkpoint, progress)
        elif is_safe(name):
            write_part(tree, folder / name, told, checkpoint, progress)
        else:
            raise WriteError(f"{name!r} is not the name of a file")


def _write_root(
    tree: Node, folder: Path, about: Mapping[str, Any], whole: Checkpoint, progress: Progress
) -> None:
    """Write the part whose files lie among the others."""
    aside = folder / ".root"
    write_part(tree, aside, about, whole, progress)
    for path in list(aside.iterdir()):
        path.rename(folder / path.name)
    aside.rmdir()


def renames(tree: Node) -> Renames:
    """Other names for parts that cannot be files beside the others."""
    found: dict[str, tuple[str, str]] = {}
    folders = {parent for name in tree for parent in _parents(name)}
    taken = set(tree)
    for name in tree:
        if name == ROOT or (is_safe(name) and name not in folders):
            continue
        why = "other parts lie in a folder of the name" if is_safe(name) else "no name of a file"
        other = _plain(name, taken)
        taken.add(other)
        found[escape(name)] = (other, why)
    return found


def _parents(name: str) -> list[str]:
    return [name[:at] for at, letter in enumerate(name) if letter == "/"]


def _plain(name: str, taken: set[str]) -> str:
    """A name of a file like `name`, unlike those taken."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:150].strip(".") or "part"
    while plain in taken:
        plain += "_"
    return plain


def pack(folder: Path, target: Path, kind: str) -> None:
    """Write the files of `folder` into an archive; equal files give equal archives."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    with Writer(target) as file:
        sink = cast("BinaryIO", _Sink(file))
        if kind == "zip":
            _pack_zip(names, file)
        elif kind == "tar":
            _pack_tar(names, sink)
        else:
            with gzip.GzipFile("", "wb", 6, sink, mtime=0) as packed:
                _pack_tar(names, cast("BinaryIO", packed))


class _Sink(io.RawIOBase):
    """A writer as the standard library's archives take it."""

    def __init__(self, file: Writer) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)


def _pack_zip(names: Mapping[str, Path], file: Writer) -> None:
    from isal.isal_zlib import crc32

    written: list[Written] = []
    for name, path in names.items():
        crc = 0
        with path.open("rb") as source:
            while part := source.read(PIECE):
                crc = crc32(part, crc)
        member = Written(name, path.stat().st_size, file.position, crc)
        file.write(local_header(member))
        with path.open("rb") as source:
            while part := source.read(PIECE):
                file.write(part)
        written.append(member)
    file.write(central_directory(written, file.position))


def _pack_tar(names: Mapping[str, Path], file: BinaryIO) -> None:
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT) as archive:
        for name, path in names.items():
            member = tarfile.TarInfo(name)
            member.size = path.stat().st_size
            member.mode = 0o644
            with path.open("rb") as source:
                archive.addfile(member, source)
