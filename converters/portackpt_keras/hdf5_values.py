"""The bytes of one HDF5 dataset, decoded piece by piece. Runs in the child."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from h5py import h5d, h5p, h5s, h5t

from portackpt.box import bands
from portackpt_keras.hdf5_types import STRING, TEXT, Held, UnreadableError, held

PIECE = 4 << 20
CACHE = 64 << 20
"""Chunks that HDF5 keeps decoded, since a piece may take a part of each."""
_BLOCK = 4096
LARGEST_STRINGS = 1 << 30


def open_dataset(file: Any, path: bytes) -> Any:
    """The dataset at an absolute path, with room for decoded chunks."""
    access = h5p.create(h5p.DATASET_ACCESS)
    access.set_chunk_cache(10007, CACHE, 1.0)
    return h5d.open(file, path, access)


class Stream:
    """The bytes of a dataset from start to end; going back starts again."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._parts = _parts(dataset)
        self._rest = memoryview(b"")
        self._position = 0

    def read(self, start: int, count: int) -> bytes:
        """`count` bytes at `start`."""
        if start < self._position:
            self._parts = _parts(self._dataset)
            self._rest = memoryview(b"")
            self._position = 0
        self._take(start - self._position)
        return self._take(count)

    def _take(self, count: int) -> bytes:
        out = bytearray()
        self._position += count
        while count:
            if not self._rest:
                self._rest = memoryview(next(self._parts)).cast("B")
            part = self._rest[:count]
            self._rest = self._rest[count:]
            count -= len(part)
            out += part
            if len(out) > PIECE and count > PIECE:
                out.clear()  # skipping: nobody wants these
        return bytes(out)


def _parts(dataset: Any) -> Iterator[Any]:
    kind = held(dataset.get_type())
    shape = tuple(dataset.get_space().shape)
    if kind.name in (TEXT, STRING):
        yield from _stored_strings(dataset, kind, shape)
        return
    # the memory's type is the file's: HDF5 undoes filters and converts nothing
    for region in bands(shape, PIECE // kind.size):
        array = np.empty(region.shape, f"V{kind.size}")
        _select(dataset, region.start, region.shape, array, dataset.get_type())
        yield array.tobytes()


def _select(dataset: Any, start: Any, shape: Any, out: Any, memory_type: Any) -> None:
    space = dataset.get_space()
    if not shape:
        dataset.read(h5s.ALL, h5s.ALL, out, memory_type)
        return
    space.select_hyperslab(start, shape)
    dataset.read(h5s.create_simple(shape), space, out, memory_type)


def string_bytes(dataset: Any, kind: Held, shape: tuple[int, ...]) -> int:
    """The length of a string tensor's stored form: n + 1 offsets, then the strings."""
    total = 8 * (prod(shape) + 1)
    for values in _strings(dataset, kind, shape):
        total += sum(map(len, values))
        if total > LARGEST_STRINGS:
            raise UnreadableError("refused", f"strings of more than {LARGEST_STRINGS} bytes")
    return total


def _stored_strings(dataset: Any, kind: Held, shape: tuple[int, ...]) -> Iterator[bytes]:
    ends = np.zeros(prod(shape) + 1, "<u8")
    at = 1
    for values in _strings(dataset, kind, shape):
        ends[at : at + len(values)] = [len(value) for value in values]
        at += len(values)
    yield np.cumsum(ends, dtype="<u8").tobytes()
    for values in _strings(dataset, kind, shape):
        yield b"".join(values)


def _strings(dataset: Any, kind: Held, shape: tuple[int, ...]) -> Iterator[list[bytes]]:
    """The elements of a dataset of strings, some thousands at a time."""
    for region in bands(shape, max(1, min(_BLOCK, PIECE // (kind.size or 1)))):
        yield read_strings(dataset, kind, region.shape, region.start)


def read_strings(
    source: Any, kind: Held, shape: tuple[int, ...], start: tuple[int, ...] | None = None
) -> list[bytes]:
    """The strings of an attribute, or of a dataset from `start` on."""
    file_type = source.get_type()
    array = np.empty(shape, f"V{kind.size}") if kind.size else np.empty(shape, file_type.dtype)
    memory_type = file_type if kind.size else None
    if start is None:
        source.read(array, memory_type)
    else:
        _select(source, start, shape, array, memory_type)
    if not kind.size:
        return [_as_bytes(value) for value in array.reshape(-1)]
    data = array.tobytes()
    cut = range(0, len(data), kind.size)
    return [_unpadded(data[at : at + kind.size], file_type.get_strpad()) for at in cut]


def _as_bytes(value: Any) -> bytes:
    if value is None or isinstance(value, int):
        return b""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return bytes(value) if isinstance(value, bytes) else bytes(value.tobytes())


def _unpadded(value: bytes, padding: int) -> bytes:
    if padding == h5t.STR_NULLTERM:
        return value.partition(b"\0")[0]
    return value.rstrip(b" " if padding == h5t.STR_SPACEPAD else b"\0")
