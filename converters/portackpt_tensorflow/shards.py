"""The data shards of a bundle: the files that hold the bytes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from portackpt.bytesource import File
from portackpt.errors import DamagedError, RefusedError

if TYPE_CHECKING:
    from portackpt_tensorflow.entry import Entry

NAME = re.compile(r"(?s)(.*)\.data-(\d{5,})-of-(\d{5,})")
_LFS = b"version https://git-lfs"


def shard_path(prefix: Path, shard: int, count: int) -> Path:
    return prefix.with_name(f"{prefix.name}.data-{shard:05}-of-{count:05}")


def index_path(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.index")


def open_shards(prefix: Path, count: int, entries: Iterable[Entry]) -> dict[int, File]:
    """The shards that hold something; each entry lies in its file, and no two can share bytes."""
    ends: dict[int, int] = {}
    sums: dict[int, int] = {}
    for entry in entries:
        if entry.slices:
            continue
        shard = entry.shard
        ends[shard] = max(ends.get(shard, 0), entry.offset + entry.size)
        sums[shard] = sums.get(shard, 0) + entry.size
    files = {}
    for shard, end in sorted(ends.items()):
        if shard >= count:
            raise DamagedError(
                f"an entry lies in data shard {shard}, but the bundle has {count}",
                str(index_path(prefix)),
            )
        file = files[shard] = _open(shard_path(prefix, shard, count), end)
        if sums[shard] > file.size:
            raise RefusedError(
                f"tensors of {sums[shard]} bytes in all overlap in a file of {file.size} bytes",
                str(file.path),
            )
    return files


def _open(path: Path, end: int) -> File:
    if not path.is_file():
        raise DamagedError(
            f"this data shard is missing; the index names {end} bytes of it", str(path)
        )
    file = File(path)
    if file.size >= end:
        return file
    if file.size >= len(_LFS) and file.read(0, len(_LFS)) == _LFS:
        raise DamagedError(
            "a Git LFS pointer stands in place of the data; fetch it with `git lfs pull`",
            str(path),
        )
    raise DamagedError(f"the index needs {end} bytes of data, found {file.size}", str(path))
