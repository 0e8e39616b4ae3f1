"""Writing safetensors files: one file, or a directory of shards with an index."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from portackpt.errors import UsageError
from portackpt.plugins import Progress
from portackpt.storage.local import Writer, staged_directory, staged_file, write_file
from portackpt.streaming import read_ahead
from portackpt.tensor import Tensor
from portackpt_safetensors.document import Written
from portackpt_safetensors.header import MAX_HEADER, Entry, emit, placed
from portackpt_safetensors.shards import assign, by_shard, emit_index

Metadata = Mapping[str, str] | None


def write_single(
    path: Path,
    tensors: Mapping[str, Written],
    metadata: Metadata,
    *,
    overwrite: bool,
    progress: Progress,
) -> None:
    """One file, whole and durable, or not at all."""
    with staged_file(path, overwrite=overwrite) as temporary:
        _write_files({temporary: (tensors, metadata)}, progress)


def write_sharded(
    path: Path,
    tensors: Mapping[str, Written],
    metadata: Mapping[str, Metadata],
    index: str,
    index_metadata: Mapping[str, Any],
    weight_map: Mapping[str, str] | None,
    *,
    overwrite: bool,
    progress: Progress,
) -> None:
    """A directory of shards and its index; `metadata` is by shard, under "" that of the others."""
    spread = weight_map or assign([(name, item.tensor.nbytes) for name, item in tensors.items()])
    total = sum(item.tensor.nbytes for item in tensors.values())
    with staged_directory(path, overwrite=overwrite) as temporary:
        files = {
            temporary / shard: (
                {name: tensors[name] for name in names},
                metadata.get(shard, metadata.get("")),
            )
            for shard, names in by_shard(spread)
        }
        _write_files(files, progress)
        described = {**index_metadata, "total_size": total}
        write_file(temporary / index, emit_index(described, spread))


def _write_files(
    files: Mapping[Path, tuple[Mapping[str, Written], Metadata]], progress: Progress
) -> None:
    """Write files after each other; reading runs ahead over all of them."""
    order: list[Tensor] = []
    starts: list[tuple[int, Path, bytes]] = []
    for path, (tensors, metadata) in files.items():
        entries = placed(
            (name, item.dtype, item.shape, item.tensor.nbytes) for name, item in tensors.items()
        )
        starts.append((len(order), path, _header(entries, metadata)))
        order.extend(tensors[name].tensor for name in _by_offset(entries))
    with ExitStack() as stack:
        pending = iter(starts)
        upcoming = next(pending, None)
        writer: Writer | None = None
        for number, piece in read_ahead(order):
            while upcoming is not None and upcoming[0] <= number:
                writer = _next_file(stack, upcoming[1], upcoming[2])
                upcoming = next(pending, None)
            assert writer is not None
            writer.write(piece)
            progress(piece.nbytes)
        while upcoming is not None:  # files without a tensor
            _next_file(stack, upcoming[1], upcoming[2])
            upcoming = next(pending, None)


def _next_file(stack: ExitStack, path: Path, header: bytes) -> Writer:
    stack.close()  # the file before is done
    writer = stack.enter_context(Writer(path))
    writer.write(header)
    return writer


def _header(entries: Mapping[str, Entry], metadata: Metadata) -> bytes:
    header = emit(entries, metadata)
    if len(header) > MAX_HEADER:
        raise UsageError(
            f"{len(entries)} tensors need a header of {len(header)} bytes, readers of safetensors "
            f"take at most {MAX_HEADER}; write a directory of shards, or another format"
        )
    return header


def _by_offset(entries: Mapping[str, Entry]) -> list[str]:
    return sorted(entries, key=lambda name: entries[name].data_offsets)
