"""Reading what torch.save wrote: an archive, a legacy stream, or a bare pickle.

    PREFIX/data.pkl         the object, as a pickle
    PREFIX/data/KEY         the bytes of a storage
    PREFIX/version          of the archive, 1 to 10
    PREFIX/byteorder        little or big (from torch 2.1)
    PREFIX/.format_version, .storage_alignment, .data/serialization_id (later versions)

`read` takes any of the three, from any source of bytes: a file, or a part of one.
"""

from __future__ import annotations

from typing import Any

from portackpt.bytesource import ByteSource
from portackpt.checkpoint import Checkpoint
from portackpt.collector import paused_collector
from portackpt.errors import (
    DamagedError,
    InputError,
    RefusedError,
    UnknownFormatError,
    UnsupportedError,
)
from portackpt.tree import Node
from portackpt_torch import arrays, compound_tensors, tensors, values
from portackpt_torch.archive import Archive, open_archive
from portackpt_torch.archive_directory import read_at
from portackpt_torch.legacy import LegacyStorages, read_stream
from portackpt_torch.pickle_reader import MAX_BYTES, read_pickle
from portackpt_torch.pickled import Raw
from portackpt_torch.recognition import is_pickle, is_stream, is_tar
from portackpt_torch.storages import ArchiveStorages, Storages, persistent
from portackpt_torch.values import Builder

KNOWN = values.KNOWN | tensors.KNOWN | compound_tensors.KNOWN | arrays.KNOWN
VERSIONS = range(1, 11)
NO_CHECKSUMS = "no checksums: a flipped bit in a tensor is not found"
_SMALL = 4096


def read(source: ByteSource, where: str) -> Checkpoint:
    """The checkpoint in `source`; `where` names it in errors."""
    head = read_at(source, 0, min(source.nbytes, 512))
    with paused_collector():
        if head.startswith(b"PK"):
            return read_archive(source, where)
        try:
            if is_stream(head):
                return _legacy(source)
            if is_tar(head):
                raise UnsupportedError(
                    "a tar file of torch 0.1: load it with a torch before 2.6 "
                    "(weights_only=False, if you trust it) and save it again"
                )
            if not is_pickle(head):
                raise UnknownFormatError("neither an archive nor a stream of torch.save")
            return _bare(source)
        except InputError as error:
            error.places = (*error.places, where)
            raise


def _build(raw: Raw, storages: Storages, nbytes: int) -> tuple[Node, dict[str, Any]]:
    builder = Builder(KNOWN, storages, nbytes)
    return builder.tree(raw), dict(builder.facts)


def read_archive(source: ByteSource, where: str) -> Checkpoint:
    """The checkpoint in a torch archive."""
    archive = open_archive(source, where)
    prefix = _prefix(archive)
    try:
        _check_kind(archive, prefix)
        order = _byte_order(archive, prefix)
        data = archive.read(f"{prefix}/data.pkl", MAX_BYTES)
        storages = ArchiveStorages(archive, prefix, order == "big", {})
        tree, details = _build(read_pickle(data, persistent), storages, len(data))
    except InputError as error:
        if where not in error.places:
            error.places = (*error.places, where)
        raise
    return Checkpoint(
        tree, "pytorch", "pytorch", _written_by(archive, prefix), details=details,
        notes=_notes(archive, prefix, storages, order),
    )  # fmt: skip


def _prefix(archive: Archive) -> str:
    """The folder that all records are in: one plain name."""
    prefixes = {name.partition("/")[0] if "/" in name else "" for name in archive.records}
    prefix = next(iter(prefixes), "")
    if len(prefixes) != 1 or prefix in ("", ".", "..") or "\\" in prefix:
        found = ", ".join(sorted(map(repr, prefixes))[:4]) or "no records"
        raise RefusedError(
            f"the records of a torch archive stand in one folder, found {found}", archive.where
        )
    return prefix


def _check_kind(archive: Archive, prefix: str) -> None:
    """Raise for archives that torch writes and that are no checkpoints."""
    names = archive.records
    if f"{prefix}/constants.pkl" in names or any(n.startswith(f"{prefix}/code/") for n in names):
        raise UnsupportedError(
            "a TorchScript archive: a program, not a checkpoint; load it with torch.jit.load and "
            "save its state_dict()"
        )
    if f"{prefix}/.data/extern_modules" in names or f"{prefix}/.data/python_version" in names:
        raise UnsupportedError(
            "a torch.package archive: a program, not a checkpoint; load it with "
            "torch.package.PackageImporter, if you trust it, and save the state_dict() of its model"
        )
    if f"{prefix}/archive_format" in names:
        raise UnsupportedError(
            "an archive of torch.export: a program, not a checkpoint; load it with "
            "torch.export.load and save its state_dict"
        )
    for name in ("data.pkl", "version"):
        if f"{prefix}/{name}" not in names:
            raise DamagedError(f"a torch archive without the record {prefix}/{name}")
    version = archive.read(f"{prefix}/version", _SMALL).strip()
    if not version.isdigit() or len(version) > 9 or int(version) not in VERSIONS:
        raise UnsupportedError(
            f"torch archive of version {version[:20]!r}; known are {VERSIONS[0]} to {VERSIONS[-1]}"
        )


def _byte_order(archive: Archive, prefix: str) -> str:
    name = f"{prefix}/byteorder"
    if name not in archive.records:
        return "little"
    order = archive.read(name, _SMALL)
    if order not in (b"little", b"big"):
        raise UnsupportedError(f"byte order {order[:20]!r}; known are little and big")
    return order.decode()


def _written_by(archive: Archive, prefix: str) -> str:
    """The versions of torch whose archives have these records."""
    names = archive.records
    if f"{prefix}/.format_version" in names:
        return "2.7 or later"
    return "2.1 to 2.6" if f"{prefix}/byteorder" in names else "1.6 to 2.0"


_HOUSEKEEPING = frozenset(
    ("data.pkl", "version", "byteorder", ".format_version", ".storage_alignment",
     ".data/serialization_id")
)  # fmt: skip


def _notes(archive: Archive, prefix: str, storages: ArchiveStorages, order: str) -> tuple[str, ...]:
    notes = []
    if order == "big":
        notes.append("written on a big-endian machine; the bytes are swapped as they are read")
    if any(record.crc == 0 and record.size for record in archive.records.values()):
        notes.append(NO_CHECKSUMS)
    used = {f"{prefix}/data/{key}" for key, _ in storages.found}
    start = len(prefix) + 1
    spare = [n for n in archive.records if n not in used and n[start:] not in _HOUSEKEEPING]
    if spare:
        shown = ", ".join(spare[:3]) + (", …" if len(spare) > 3 else "")
        notes.append(f"{len(spare)} records belong to no tensor and are left out: {shown}")
    if archive.trailing:
        notes.append(f"{archive.trailing} bytes follow the end of the archive and are left out")
    return tuple(notes)


def _legacy(source: ByteSource) -> Checkpoint:
    raw, storages, length = read_stream(source)
    tree, details = _build(raw, storages, length)
    return Checkpoint(
        tree, "pytorch", "pytorch", "before 1.6", details=details, notes=(NO_CHECKSUMS,)
    )


def _bare(source: ByteSource) -> Checkpoint:
    """What Python's own pickle wrote; its tensors, if any, stand in it as bytes."""
    if source.nbytes > MAX_BYTES:
        raise RefusedError(f"a pickle of {source.nbytes} bytes; at most {MAX_BYTES} are read")
    data = read_at(source, 0, source.nbytes)
    tree, details = _build(read_pickle(data, persistent), LegacyStorages({}), len(data))
    framework = "pytorch" if b"torch" in data else None
    return Checkpoint(
        tree, "pytorch", framework, details=details,
        notes=("a bare pickle, not written by torch.save", NO_CHECKSUMS),
    )  # fmt: skip
