"""Opening safetensors files: the tensors of one file, or of a sharded directory, on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from portackpt.bytesource import File, FileRange
from portackpt.collector import paused_collector
from portackpt.dtypes import DType
from portackpt.errors import DamagedError, RefusedError
from portackpt.tensor import Strided, Tensor, c_strides
from portackpt_safetensors.header import Entry, read, stored_shape
from portackpt_safetensors.shards import Index, read_index, shard_path
from portackpt_safetensors.spellings import DTYPES

_Kind: TypeAlias = tuple[DType, tuple[int, ...], tuple[int, ...]]
"""Dtype, shape and strides: large files have few of them."""
_NO_ATTRIBUTES: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Contents:
    """Named tensors with what stands beside them, and how they were spread over files."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] | None
    index: Index | None = None
    shard_metadata: Mapping[str, Mapping[str, str] | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_file(path: Path) -> Contents:
    """The tensors of one file, in the order of its header."""
    with paused_collector():
        return _read_file(path)


def _read_file(path: Path) -> Contents:
    file = File(path)
    header = read(file)
    start = header.start
    kinds: dict[tuple[str, tuple[int, ...]], _Kind] = {}
    tensors = {}
    for name, entry in header.entries.items():
        kind = kinds.get((entry.dtype, entry.shape))
        if kind is None:
            kind = kinds[entry.dtype, entry.shape] = _kind(entry)
        begin, end = entry.data_offsets
        layout = Strided(FileRange(file, start + begin, end - begin), 0, kind[2])
        tensors[name] = Tensor(kind[0], kind[1], layout, _NO_ATTRIBUTES)
    return Contents(tensors, header.metadata)


def _kind(entry: Entry) -> _Kind:
    dtype, shape = DTYPES[entry.dtype], stored_shape(entry)
    return dtype, shape, c_strides(shape, dtype.itemsize)


def read_directory(path: Path) -> Contents:
    """The tensors of the shards that the index at `path` names, in the order of the index."""
    index = read_index(path)
    directory = path.parent
    found: dict[str, Tensor] = {}
    shard_metadata: dict[str, Mapping[str, str] | None] = {}
    unlisted: list[str] = []
    for shard in index.files:
        contents = read_file(shard_path(directory, shard))
        shard_metadata[shard] = contents.metadata
        for name, tensor in contents.tensors.items():
            if name in found:
                raise RefusedError(
                    f"the tensor {name!r} stands in two shards; readers disagree which is meant",
                    str(directory / shard),
                )
            found[name] = tensor
            if index.weight_map.get(name) != shard:
                unlisted.append(name)
    for name, shard in index.weight_map.items():
        if name not in found:
            raise DamagedError(
                f"the index says that {shard!r} holds the tensor {name!r}, which it does not",
                str(path),
            )
    ordered = {name: found[name] for name in index.weight_map}
    ordered.update(found)
    first = next(iter(shard_metadata.values()), None)
    return Contents(ordered, first, index, shard_metadata, _notes(index.metadata, found, unlisted))


def _notes(
    metadata: Mapping[str, Any], found: Mapping[str, Tensor], unlisted: list[str]
) -> tuple[str, ...]:
    notes = []
    if unlisted:
        notes.append(
            f"tensors that lie in another shard than the index says: {len(unlisted)}, "
            f"the first is {unlisted[0]!r}"
        )
    total = metadata.get("total_size")
    actual = sum(tensor.nbytes for tensor in found.values())
    if total is not None and total != actual:
        notes.append(f"the index claims {total} bytes of tensors, the shards hold {actual}")
    return tuple(notes)
