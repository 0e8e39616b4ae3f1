"""What `portackpt validate` does: every fault of a neutral checkpoint, or of a root of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from portackpt.dtypes import BY_NAME, STRING
from portackpt.errors import InputError
from portackpt.store import checks, header, roots
from portackpt.store import manifest as m
from portackpt.store.fault import Fault, FaultError
from portackpt.store.reader import Store, read_manifest, read_state, size_faults
from portackpt.store.shard import PAGE, spelled
from portackpt.store.source import Chunks, ShardFile

__all__ = ["Fault", "validate"]


def validate(path: str | os.PathLike[str], *, quick: bool = False) -> tuple[Fault, ...]:
    """Every fault of the checkpoint at `path`, or of all steps of a root; none when it is valid.

    `quick` looks at the structure, the sizes and the digests of the manifest, the tree and the
    headers; without it every byte is read. Raises `InputError` where `path` is no directory.
    """
    place = Path(path)
    if not place.is_dir():
        raise InputError("expected a directory", str(path))
    steps = {} if (place / m.NAME).exists() else roots.directories(place)
    if not steps:
        return tuple(_checkpoint_faults(place, quick))
    found: list[Fault] = []
    for step in sorted(steps):
        if len(steps[step]) > 1:
            names = " and ".join(directory.name for directory in steps[step])
            found.append(Fault("D-9", f"this step is there twice, as {names}", f"step-{step}"))
        for directory in steps[step]:
            found += [
                replace(fault, file=f"{directory.name}/{fault.file}")
                for fault in _checkpoint_faults(directory, quick)
            ]
    return tuple(found)


def _checkpoint_faults(root: Path, quick: bool) -> Iterator[Fault]:
    """Faults of one checkpoint; nothing is compared with a manifest that is itself at fault."""
    try:
        manifest, _ = read_manifest(root)
        found = list(checks.faults(manifest))
    except FaultError as error:
        yield replace(error.fault, file=m.NAME)
        return
    yield from found
    if any(fault.code == "D-3" for fault in found):
        return  # names that must not become paths
    sizes = list(size_faults(root, manifest))
    yield from sizes
    if found:
        return
    absent = {fault.file for fault in sizes}
    store = Store(root, manifest)
    if manifest.state.file not in absent:
        try:
            read_state(store)
        except FaultError as error:
            yield error.fault
    boxes = _boxes(manifest)
    for number, shard in enumerate(store.shards):
        if shard.name in absent:
            continue
        yield from _shard_faults(manifest, number, shard, boxes[number])
        if not quick:
            for tensor, box, nbytes in boxes[number]:
                source = Chunks(shard, tensor.name, box, nbytes)
                yield from _byte_faults(source, manifest, tensor, box)


_Box = tuple[m.Tensor, m.Box, int]
"""A box of a tensor and its bytes."""


def _boxes(manifest: m.Manifest) -> list[list[_Box]]:
    """The boxes in each shard, in the order of their bytes."""
    found: list[list[_Box]] = [[] for _ in manifest.shards]
    for tensor in manifest.tensors:
        for box in tensor.boxes or ():
            found[box.shard].append((tensor, box, checks.box_nbytes(tensor, box)))
    for boxes in found:
        boxes.sort(key=lambda item: item[1].offset)
    return found


def _shard_faults(
    manifest: m.Manifest, number: int, shard: ShardFile, boxes: list[_Box]
) -> Iterator[Fault]:
    """What a shard's header says, against what the manifest says of it."""
    entry = manifest.shards[number]
    try:
        entries = header.parse(shard.header(), entry.file)
    except FaultError as error:
        yield error.fault
        shard.header_compared = True  # said once; the data has digests of its own
        return
    if entry.header_size % PAGE:
        told = f"data begins at {entry.header_size}, expected a multiple of {PAGE}"
        yield Fault("S-5", told, entry.file)
    yield from _tiling_faults(entry, entries)
    keys: set[str] = set()
    for tensor, box, nbytes in boxes:
        key = tensor.name if box.key is None else box.key
        if key in keys:
            yield Fault("S-3", f"two boxes have the key {key!r}", entry.file, None, tensor.name)
        keys.add(key)
        dtype = BY_NAME[tensor.dtype]
        code, shape = spelled(dtype, tensor.shape if box.shape is None else box.shape, nbytes)
        begin = box.offset - entry.header_size
        expected = header.Entry(code, shape, begin, begin + nbytes)
        if key not in entries:
            yield Fault("S-3", f"the header has no {key!r}", entry.file, None, tensor.name)
        elif entries[key] != expected:
            told = f"the header says {_told(entries[key])}, expected {_told(expected)}"
            yield Fault("S-3", told, entry.file, None, tensor.name)
        if dtype.itemsize and box.offset % dtype.itemsize:
            told = f"not aligned to its elements of {dtype.itemsize} bytes"
            yield Fault("S-6", told, entry.file, box.offset, tensor.name)
    for key in entries:
        if key not in keys:
            yield Fault("S-4", f"{key!r} belongs to no tensor of the manifest", entry.file)


def _tiling_faults(shard: m.Shard, entries: dict[str, header.Entry]) -> Iterator[Fault]:
    """Entries follow each other and fill the data."""
    end = 0
    for key, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != end or entry.end < entry.begin:
            told = f"{key!r} lies at {entry.begin} to {entry.end} of the data, expected from {end}"
            yield Fault("S-4", told, shard.file)
        end = max(end, entry.end)
    held = shard.size - shard.header_size
    if end != held:
        yield Fault("S-4", f"tensors end at byte {end} of {held} of the data", shard.file)


def _told(entry: header.Entry) -> str:
    return f"{entry.dtype} {list(entry.shape)} at {entry.begin} to {entry.end}"


def _byte_faults(
    source: Chunks, manifest: m.Manifest, tensor: m.Tensor, box: m.Box
) -> Iterator[Fault]:
    """Chunks whose digest differs (one fault for all of a box), then what strings must obey."""
    size = manifest.chunk_size
    buffer = memoryview(bytearray(min(size, source.nbytes)))
    first: Fault | None = None
    wrong = 0
    for start in range(0, source.nbytes, size):
        try:
            source.readinto(start, buffer[: min(size, source.nbytes - start)])
        except FaultError as error:
            first = first or error.fault
            wrong += 1
    if first is not None:
        chunks = -(-source.nbytes // size)
        more = f" ({wrong} of {chunks} chunks)" if chunks > 1 else ""
        yield replace(first, message=first.message + more)
    elif BY_NAME[tensor.dtype] is STRING and not _are_strings(source, tensor):
        file = manifest.shards[box.shard].file
        told = "the offsets of its strings do not fit its bytes"
        yield Fault("T-10", told, file, box.offset, tensor.name)


def _are_strings(source: Chunks, tensor: m.Tensor) -> bool:
    """True when the offsets begin at 0, never fall, and end where the bytes end."""
    import numpy as np

    from portackpt.box import whole

    head = 8 * (whole(tensor.shape).size + 1)
    if head > source.nbytes:
        return False
    last = 0
    for start in range(0, head, 1 << 20):
        piece = bytearray(min(1 << 20, head - start))
        source.readinto(start, memoryview(piece))
        ends = np.frombuffer(piece, "<u8")
        if (start == 0 and ends[0]) or int(ends[0]) < last or np.any(ends[1:] < ends[:-1]):
            return False
        last = int(ends[-1])
    return head + last == source.nbytes
