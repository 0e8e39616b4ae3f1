"""The stream that torch.save wrote up to version 1.5 (and still does on request).

    pickle of 0x1950a86a20f9469cfc6c | pickle of 1001 | pickle of {little_endian, …}
    pickle of the object | pickle of the storages' keys, in order
    for each storage: number of elements, int64 | its bytes, both little-endian

The size of an element stands in the persistent ids of the object's pickle. A storage may be a view
of another (6th part of its id). There are no checksums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from portackpt.bytesource import ByteSource, InMemory
from portackpt.dtypes import DType
from portackpt.errors import DamagedError, InputError, UnsupportedError
from portackpt_torch.archive_directory import read_at
from portackpt_torch.pickle_reader import MAX_BYTES, read_pickle_at
from portackpt_torch.pickled import Raw
from portackpt_torch.storages import Storage, persistent

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_FIRST = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """`nbytes` bytes of another source from `start`."""

    source: ByteSource
    start: int
    nbytes: int

    def readinto(self, offset: int, out: memoryview) -> None:
        self.source.readinto(self.start + offset, out)

    def verify(self) -> None:
        pass


@dataclass(frozen=True, slots=True, eq=False)
class LegacyStorages:
    """The storages behind the pickles of a stream."""

    sources: dict[str, ByteSource]

    def find(self, storage: Storage, dtype: DType) -> tuple[ByteSource, int]:
        if storage.view is None:
            return self._root(storage.key, storage.nbytes), 0
        _, offset, numel = storage.view
        source = self._root(storage.key, storage.nbytes)
        if offset + numel > storage.numel:
            raise DamagedError(
                f"a view of elements {offset} to {offset + numel} of storage {storage.key!r}, "
                f"which has {storage.numel}"
            )
        return source, offset * storage.itemsize

    def _root(self, key: str, nbytes: int) -> ByteSource:
        source = self.sources.get(key)
        if source is None:
            raise DamagedError(f"storage {key!r} is not among those of the stream")
        if source.nbytes != nbytes:
            raise DamagedError(
                f"storage {key!r} should have {nbytes} bytes, the stream has {source.nbytes}"
            )
        return source


def read_stream(source: ByteSource) -> tuple[Raw, LegacyStorages, int]:
    """What the stream describes, where its storages are, and how long its pickles are."""
    storages: dict[str, Storage] = {}

    def remember(pid: Raw) -> Raw:
        named = persistent(pid)
        if isinstance(named, Storage):
            storages.setdefault(named.key, named)
        return named

    (magic, protocol, _, value, keys), end = _pickles(source, 5, remember)
    if magic != MAGIC:
        raise DamagedError("not a stream of torch.save: its magic number is not there")
    if protocol != PROTOCOL:
        raise UnsupportedError(f"torch.save protocol {protocol}; known is {PROTOCOL}")
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise DamagedError("the keys of the storages are no list of text")
    return value, LegacyStorages(_sources(source, keys, storages, end)), end


def storage_in(data: bytes) -> Storage:
    """The storage that is all of a stream: how Python's own pickle holds torch's storages."""
    source = InMemory(data)
    value, home, _ = read_stream(source)
    if not isinstance(value, Storage):
        raise DamagedError("the bytes of a storage hold something else")
    return replace(value, home=home)


def _pickles(source: ByteSource, count: int, named: Callable[[Raw], Raw]) -> tuple[list[Raw], int]:
    """The first pickles of a stream. Their length is unknown: more is read until they end."""
    most = min(source.nbytes, MAX_BYTES)
    size = min(most, _FIRST)
    while True:
        data = read_at(source, 0, size)
        try:
            values, at = [], 0
            for _ in range(count):
                value, at = read_pickle_at(data, at, named)
                values.append(value)
        except InputError:
            if size == most:
                raise
            size = min(most, size * 8)
        else:
            return values, at


def _sources(
    source: ByteSource, keys: list[str], storages: dict[str, Storage], at: int
) -> dict[str, ByteSource]:
    """The bytes of each storage, one behind the other."""
    sources: dict[str, ByteSource] = {}
    for key in keys:
        if key in sources:
            raise DamagedError(f"storage {key!r} stands twice in the stream")
        if key not in storages:
            raise DamagedError(f"storage {key!r} of the stream belongs to no tensor")
        numel = int.from_bytes(read_at(source, at, 8), "little", signed=True)
        nbytes = numel * storages[key].itemsize
        at += 8
        if numel < 0 or at + nbytes > source.nbytes:
            raise DamagedError(
                f"storage {key!r} of {numel} elements needs bytes {at} to {at + nbytes}, "
                f"the stream has {source.nbytes}: it is cut short or damaged"
            )
        sources[key] = Part(source, at, nbytes)
        at += nbytes
    if at != source.nbytes:
        raise DamagedError(f"{source.nbytes - at} bytes follow the end of the stream at {at}")
    return sources
