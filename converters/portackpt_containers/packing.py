"""Writing the parts of a container into a folder, and a folder into an archive."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from portackpt.checkpoint import Checkpoint
from portackpt.errors import WriteError
from portackpt.plugins import Progress
from portackpt.storage.local import Writer
from portackpt.ziparchive import Written, central_directory, local_header
from portackpt_containers.parts import NAME, guessed, write_part
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
        if not is_safe(name):
            raise WriteError(f"{name!r} is not the name of a file")
        told: Any = about.get(name)
        if not isinstance(told, Mapping):
            told = {"format": guessed(name, tree)}
        write_part(tree, folder / name, told, checkpoint, progress)


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
