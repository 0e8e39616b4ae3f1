"""Reading a bundle: from its index to lazy tensors over its data shards."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from portackpt.bytesource import ByteSource, Checked, File, FileRange, Swapped
from portackpt.dtypes import BY_TENSORFLOW, STRING, UINT8, DType
from portackpt.errors import DamagedError, InputError, UnsupportedError, located
from portackpt.tensor import Strided, Tensor, c_strides
from portackpt_tensorflow import variant
from portackpt_tensorflow.checksum import extend, unmask
from portackpt_tensorflow.entry import Entry, Header, parse_entry, parse_header
from portackpt_tensorflow.orderedcode import slice_key
from portackpt_tensorflow.shards import index_path, open_shards
from portackpt_tensorflow.slices import joined, to_box
from portackpt_tensorflow.stringtensor import Strings
from portackpt_tensorflow.table import read_items


def read_bundle(prefix: Path) -> dict[str, Tensor]:
    """The tensors of the bundle at `prefix`, by key, in the order of their bytes."""
    index = File(index_path(prefix))
    with located(str(index.path)):
        header, entries = _parse_index(index)
    index.close()
    files = open_shards(prefix, header.shards, entries.values())
    with located(str(index.path)):
        return _Reader(header, entries, files).tensors()


def _parse_index(index: File) -> tuple[Header, dict[bytes, Entry]]:
    header: Header | None = None
    entries: dict[bytes, Entry] = {}
    for items in read_items(index):
        for key, value in items:
            if header is None:
                if key:
                    raise DamagedError(f"expected a header under the empty key, found {key[:80]!r}")
                header = parse_header(value)
                continue
            try:
                entries[key] = parse_entry(value)
            except InputError as error:
                error.places = (*error.places, f"entry {key[:80]!r}")
                raise
    if header is None:
        raise DamagedError("an index without a header")
    return header, entries


_NOTHING: dict[str, Any] = {}


class _Reader:
    """Makes the tensors of one bundle."""

    def __init__(self, header: Header, entries: dict[bytes, Entry], files: dict[int, File]) -> None:
        self._big_endian = header.big_endian
        self._entries = entries
        self._files = files

    def tensors(self) -> dict[str, Tensor]:
        """All tensors; a partitioned variable before those that lie in one piece."""
        found = {}
        parts = set()
        for key, entry in self._entries.items():
            if entry.slices:
                name = _decode(key)
                keys = [slice_key(name, extents) for extents in entry.slices]
                parts.update(keys)
                found[name] = self._sliced(name, entry, keys)
        for key, entry in sorted(self._entries.items(), key=_position):
            if key not in parts and not entry.slices:
                name = _decode(key)
                found[name] = self._tensor(name, entry)
        return found

    def _tensor(self, name: str, entry: Entry) -> Tensor:
        dtype = BY_TENSORFLOW.get(entry.dtype)
        shape = entry.shape
        file = self._files[entry.shard]
        if dtype is None or dtype is STRING:
            return self._unsized(name, entry, file)
        if prod(shape) * dtype.itemsize != entry.size:
            raise DamagedError(
                f"a {dtype} tensor of shape {shape} takes {prod(shape) * dtype.itemsize} bytes, "
                f"found {entry.size}",
                f"{name}, {file.path} at {entry.offset}",
            )
        source: ByteSource = Stored(file, name, entry)
        if self._big_endian:
            source = _swapped(source, dtype)
        return Tensor(dtype, shape, Strided(source, 0, c_strides(shape, dtype.itemsize)), _NOTHING)

    def _unsized(self, name: str, entry: Entry, file: File) -> Tensor:
        """Elements of any size: strings, and what only TensorFlow can decode."""
        where = f"{name}, {file.path} at {entry.offset}"
        extent = FileRange(file, entry.offset, entry.size)
        count, crc = prod(entry.shape), unmask(entry.crc)
        if entry.dtype == STRING.tensorflow:
            strings = Strings(extent, count, crc, self._big_endian, where)
            return Tensor(STRING, entry.shape, Strided(strings))
        if entry.dtype != variant.DTYPE or self._big_endian:
            raise UnsupportedError(f"a tensor of TensorFlow's dtype number {entry.dtype}", where)
        records = variant.Records(extent, count, crc, where)
        attributes = {variant.TYPE: variant.NAME, variant.SHAPE: list(entry.shape)}
        return Tensor(UINT8, (entry.size,), Strided(records, 0, (1,)), attributes)

    def _sliced(self, name: str, entry: Entry, keys: list[bytes]) -> Tensor:
        """A partitioned variable, of the entries under `keys`."""
        dtype = BY_TENSORFLOW.get(entry.dtype)
        if dtype is None:
            raise UnsupportedError(f"slices of TensorFlow's dtype number {entry.dtype}", name)
        return joined(
            name,
            dtype,
            entry.shape,
            (
                (to_box(extents, entry.shape), self._slice(name, key))
                for extents, key in zip(entry.slices, keys, strict=True)
            ),
        )

    def _slice(self, name: str, key: bytes) -> Tensor:
        part = self._entries.get(key)
        if part is None or part.slices:
            raise DamagedError("a slice of a partitioned variable is missing", name)
        return self._tensor(name, part)


def _position(item: tuple[bytes, Entry]) -> tuple[int, int, int]:
    entry = item[1]
    return entry.shard, entry.offset, entry.size


class Stored:
    """The bytes of one entry; what checks them is made when they are first read."""

    __slots__ = ("_checked", "_entry", "_file", "_name")

    def __init__(self, file: File, name: str, entry: Entry) -> None:
        self._file = file
        self._name = name
        self._entry = entry
        self._checked: Checked | None = None

    @property
    def nbytes(self) -> int:
        return self._entry.size

    def readinto(self, offset: int, out: memoryview) -> None:
        (self._checked or self._open()).readinto(offset, out)

    def verify(self) -> None:
        (self._checked or self._open()).verify()

    def _open(self) -> Checked:
        entry = self._entry
        where = f"{self._name}, {self._file.path} at {entry.offset}"
        extent = FileRange(self._file, entry.offset, entry.size)
        self._checked = Checked(extent, extend, unmask(entry.crc), where)
        return self._checked


def _decode(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise UnsupportedError(f"the name of a tensor is not UTF-8: {key[:80]!r}") from None


def _swapped(source: ByteSource, dtype: DType) -> ByteSource:
    """Little-endian elements of a big-endian source; the parts of a complex number swap apart."""
    size = dtype.itemsize // 2 if dtype.name.startswith("complex") else dtype.itemsize
    return source if size == 1 else Swapped(source, size)
