"""Storages: what the persistent ids of a torch pickle name, and where their bytes are.

    ('storage', torch.FloatStorage, key, location, numel)            an archive
    ('storage', torch.FloatStorage, key, location, numel, view)      a legacy stream; view is None
                                                                     or (key, offset, numel)
    ('module', class, source file, source)                           a legacy stream; the class

`numel` counts elements of the storage's type, bytes for an untyped one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from portackpt.bytesource import ByteSource, Swapped
from portackpt.dtypes import BY_NAME, UINT8, DType
from portackpt.errors import DamagedError, RefusedError
from portackpt_torch.archive import Archive
from portackpt_torch.pickled import Global, Raw

CLASSES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
}
"""The dtypes of typed storages, by the name of their class (in `torch` or `torch.cuda`)."""
_MODULES = ("torch", "torch.cuda")
_UNTYPED = ("UntypedStorage", "_UntypedStorage")
_KEY = re.compile(r"[0-9A-Za-z_]{1,200}")
MAX_NUMEL = 1 << 62


@dataclass(slots=True, eq=False)
class Storage:
    """A storage by its id; `dtype` is None for an untyped one.

    `home` is where its bytes are, if not where those of the whole pickle are.
    """

    dtype: DType | None
    key: str
    location: str
    numel: int
    view: tuple[str, int, int] | None = None
    home: Storages | None = None

    @property
    def itemsize(self) -> int:
        return 1 if self.dtype is None else self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the root storage."""
        return self.numel * self.itemsize

    @property
    def extent(self) -> int:
        """Bytes that a tensor may reach: of the view, where it is one."""
        return (self.numel if self.view is None else self.view[2]) * self.itemsize


class Storages(Protocol):
    """Where the bytes of storages are."""

    def find(self, storage: Storage, dtype: DType) -> tuple[ByteSource, int]:
        """The source of the (root) storage and where in it `storage` starts, for `dtype` elements.

        The same storage is the same source; its extent was checked.
        """


def persistent(pid: Raw) -> Raw:
    """What a persistent id names: a `Storage`, or the `Global` of a class."""
    if type(pid) is not tuple or not pid:
        raise ValueError("a persistent id is no tuple")
    if pid[0] == "module" and len(pid) == 4 and type(pid[1]) is Global:
        return pid[1]
    if pid[0] != "storage" or len(pid) not in (5, 6):
        raise ValueError(f"a persistent id of {len(pid)} parts that names no storage")
    kind, key, location, numel = pid[1:5]
    if type(kind) is not Global:
        raise ValueError("the type of a storage is no name")
    if type(key) is not str or not ((key.isdecimal() and len(key) < 20) or _KEY.fullmatch(key)):
        raise RefusedError(f"no key of a storage: {str(key)[:80]!r}")
    if type(location) is not str or type(numel) is not int or not 0 <= numel <= MAX_NUMEL:
        raise ValueError(f"storage {key!r} has no usable location and size")
    return Storage(_dtype(kind), key, location, numel, _view(pid))


_TYPES: dict[Global, DType] = {
    Global(module, name): BY_NAME[dtype] for module in _MODULES for name, dtype in CLASSES.items()
}


def _dtype(kind: Global) -> DType | None:
    found = _TYPES.get(kind)
    if found is None and not (kind.module.startswith("torch") and kind.name in _UNTYPED):
        raise ValueError(f"{kind.dotted} is no type of a storage")
    return found


def _view(pid: tuple[Raw, ...]) -> tuple[str, int, int] | None:
    view = pid[5] if len(pid) == 6 else None
    if view is None:
        return None
    if (
        type(view) is not tuple
        or [type(part) for part in view] != [str, int, int]
        or not all(0 <= part <= MAX_NUMEL for part in view[1:])
    ):
        raise ValueError("the view of a storage is not (key, offset, size)")
    return view


@dataclass(slots=True, eq=False)
class ArchiveStorages:
    """The storages of an archive: records `prefix/data/KEY`."""

    archive: Archive
    prefix: str
    swapped: bool
    found: dict[tuple[str, int], ByteSource]

    def find(self, storage: Storage, dtype: DType) -> tuple[ByteSource, int]:
        width = swap_width(dtype) if self.swapped else 1
        source = self.found.get((storage.key, width))
        if source is None:
            name = f"{self.prefix}/data/{storage.key}"
            if name not in self.archive.records:
                raise DamagedError(f"storage {storage.key!r} has no record {name!r}")
            source = self.archive.open(name)
            if width > 1:
                source = Swapped(source, width)
            self.found[(storage.key, width)] = source
        if source.nbytes != storage.nbytes:
            raise DamagedError(
                f"storage {storage.key!r} of {storage.numel} {storage.dtype or UINT8} needs "
                f"{storage.nbytes} bytes, found a record of {source.nbytes}"
            )
        return source, 0


def swap_width(dtype: DType) -> int:
    """Bytes that change places between byte orders: a complex number is two numbers."""
    return dtype.itemsize // 2 if dtype.name.startswith("complex") else dtype.itemsize
