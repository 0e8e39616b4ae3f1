"""Reading a checkpoint: the manifest and the tree at once, tensors when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from portackpt.bytesource import ByteSource
from portackpt.checkpoint import Checkpoint
from portackpt.collector import paused_collector
from portackpt.dtypes import BY_NAME, STRING, DType
from portackpt.store import checks
from portackpt.store import manifest as m
from portackpt.store.digest import algorithm
from portackpt.store.fault import Fault, FaultError
from portackpt.store.reference import ReferencedFile, open_reference
from portackpt.store.source import Chunks, Joined, ShardFile
from portackpt.store.state import unpack
from portackpt.tensor import Strided, Tensor, Tiled, c_strides
from portackpt.tree import MAX_DEPTH, Node

MAX_STATE = 1 << 32
"""Bytes of a state file; readers refuse larger ones."""


def read_checkpoint(root: Path) -> Checkpoint:
    """The checkpoint in the directory `root`. Raises `InputError`."""
    with paused_collector():
        manifest, extras = read_manifest(root)
        for fault in checks.faults(manifest):
            raise fault.error()
        for fault in size_faults(root, manifest):
            raise fault.error()
        tree, details = read_state(Store(root, manifest))
    source = manifest.source
    own = {
        "source": source.format,
        "kinds": {
            part.item: part.kind for part in manifest.sections or () if part.kind is not None
        },
        "members": dict(extras),
    }
    return Checkpoint(
        tree,
        "portackpt",
        source.framework,
        source.framework_version,
        manifest.step,
        {**details, "portackpt": own},
        manifest.notes or (),
    )


def read_manifest(root: Path) -> tuple[m.Manifest, m.Extras]:
    """The manifest of a directory, and what it holds beyond. Raises a `Fault`'s error."""
    return m.decode(read_manifest_bytes(root))


def read_manifest_bytes(root: Path) -> bytes:
    descriptor = open_reference(root, m.NAME)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if size > m.MAX_SIZE:
            raise Fault("L-1", f"{size} bytes, at most {m.MAX_SIZE}", m.NAME).error()
        return file.read(size)


def read_state(store: Store) -> tuple[Node, dict[str, Any]]:
    """The tree and the details of a checkpoint. Raises a `Fault`'s error."""
    entry = store.manifest.state
    if entry.size > MAX_STATE:
        raise Fault("L-6", f"{entry.size} bytes, at most {MAX_STATE}", entry.file).error()
    data = ReferencedFile(store.root, entry.file, entry.size).read()
    found = store.algorithm.of(data)
    if found != entry.digest:
        raise Fault(
            "N-10",
            f"digest does not match: expected {entry.digest}, found {found}; "
            "the file was changed after it was written",
            entry.file,
        ).error()
    try:
        # the pair is a level of its own
        pair = unpack(data, store.tensor, MAX_DEPTH + 1)
        if type(pair) is not tuple or len(pair) != 2 or type(pair[1]) is not dict:
            raise Fault("N-1", "expected a tuple of the tree and a dict of details").error()
    except FaultError as error:
        raise replace(error.fault, file=entry.file).error() from None
    tree, details = pair
    return tree, details


class Store:
    """An opened checkpoint: it makes the tensors of its index, which then read its shards."""

    def __init__(self, root: Path, manifest: m.Manifest) -> None:
        self.root = root
        self.manifest = manifest
        self.algorithm = algorithm(manifest.digest_algorithm)
        self.shards = [
            ShardFile(root, entry, self.algorithm, manifest.chunk_size) for entry in manifest.shards
        ]
        self._sources: dict[int, ByteSource] = {}

    def tensor(self, number: int, attributes: Mapping[str, Node]) -> Tensor:
        """Tensor `number` of the index."""
        tensors = self.manifest.tensors
        if not 0 <= number < len(tensors):
            raise Fault("N-9", f"tensor {number} of {len(tensors)}").error()
        entry = tensors[number]
        dtype = BY_NAME[entry.dtype]
        shape = entry.shape
        if entry.view is not None:
            strides = None if dtype is STRING else entry.view.strides
            layout = Strided(self._source(entry.view.of), entry.view.offset, strides)
            return Tensor(dtype, shape, layout, attributes)
        boxes = entry.boxes
        assert boxes is not None
        if len(boxes) > 1 and not checks.follow(entry, boxes):
            return Tensor(dtype, shape, self._tiled(entry, dtype), attributes)
        strides = None if dtype is STRING else c_strides(shape, dtype.itemsize)
        return Tensor(dtype, shape, Strided(self._source(number), 0, strides), attributes)

    def _source(self, number: int) -> ByteSource:
        """The bytes of a tensor whose boxes follow each other, as one identity."""
        found = self._sources.get(number)
        if found is None:
            entry = self.manifest.tensors[number]
            assert entry.boxes is not None
            if len(entry.boxes) == 1:
                found = self._chunks(entry, entry.boxes[0])
            else:
                found = Joined([self._chunks(entry, box) for box in entry.boxes])
            self._sources[number] = found
        return found

    def _chunks(self, entry: m.Tensor, box: m.Box) -> ByteSource:
        return Chunks(self.shards[box.shard], entry.name, box, checks.box_nbytes(entry, box))

    def _tiled(self, entry: m.Tensor, dtype: DType) -> Tiled:
        assert entry.boxes is not None
        regions = checks.regions_of(entry, entry.boxes)
        tiles = []
        for region, box in zip(regions, entry.boxes, strict=True):
            strides = c_strides(region.shape, dtype.itemsize)
            layout = Strided(self._chunks(entry, box), 0, strides)
            tiles.append((region, Tensor(dtype, region.shape, layout)))
        return Tiled(tuple(tiles))


def size_faults(root: Path, manifest: m.Manifest) -> Iterator[Fault]:
    """Files that are missing, or not as long as the manifest says."""
    sizes = [(manifest.state.file, manifest.state.size)]
    for name, size in sizes + [(shard.file, shard.size) for shard in manifest.shards]:
        try:
            found = (root / name).stat().st_size
        except OSError:
            yield Fault("D-6", "the file is missing", name)
            continue
        if found != size:
            yield Fault("D-7", f"expected {size} bytes, found {found}", name)
