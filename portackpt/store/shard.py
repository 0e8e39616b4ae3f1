"""Shards: safetensors files that any reader of them opens.

    N (uint64) | header: N bytes of JSON, padded with spaces | data

Data begins at a multiple of 4096. Tensors whose size is a multiple of 64 come first, so that they
are all aligned to 64 bytes; the others follow by descending size of their elements, so that each
is aligned to its elements. Nothing lies between them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from portackpt.box import Box, bands
from portackpt.dtypes import STRING, DType
from portackpt.store.index import Stored

PAGE: Final = 4096
SIZE: Final = 16 << 30
"""Bytes of data in one shard, at most (a tensor is cut where it alone has more)."""
_ALIGNMENT: Final = 64
_MAX_HEADER: Final = 90_000_000
"""Bytes; safetensors refuses headers beyond 100,000,000."""
_UNSIGNED = {1: "U8", 2: "U16", 4: "U32", 8: "U64"}


def spelled(dtype: DType, shape: tuple[int, ...], nbytes: int) -> tuple[str, tuple[int, ...]]:
    """The dtype and shape that stand in a shard's header for a box of a tensor.

    A dtype that safetensors does not have is spelled as the unsigned integers of its size.
    """
    if dtype.safetensors is not None:
        return dtype.safetensors, shape
    if dtype is STRING:
        return "U8", (nbytes,)
    if dtype.name == "complex128":
        return "F64", (*shape, 2)
    return _UNSIGNED[dtype.itemsize], shape


@dataclass(slots=True)
class Part:
    """One box of a stored tensor on its way into a shard; `box` is None for the whole tensor."""

    number: int
    key: str
    dtype: DType
    shape: tuple[int, ...]
    nbytes: int
    box: Box | None = None
    offset: int = 0
    """Bytes from the start of the shard's data."""


def distribute(stored: Iterable[tuple[int, Stored]], limit: int) -> list[list[Part]]:
    """The parts of all stored tensors (given with their numbers), shard by shard, in file order.

    Whole tensors come first, in the order given as far as alignment allows; then those that are
    larger than a shard, each part alone in its own.
    """
    shards: list[list[Part]] = []
    cut: list[list[Part]] = []
    room = names = 0
    for number, entry in stored:
        tensor = entry.tensor
        nbytes = tensor.nbytes
        if nbytes > limit and tensor.dtype is not STRING:
            cut += [[part] for part in _cut(number, entry, limit)]
            continue
        names += 4 * len(entry.name) + 120
        if not shards or room < nbytes or names > _MAX_HEADER:
            shards.append([])
            room, names = limit, 4 * len(entry.name) + 120
        room -= nbytes
        shards[-1].append(Part(number, entry.name, tensor.dtype, tensor.shape, nbytes))
    for parts in shards:
        parts.sort(key=_alignment)
        offset = 0
        for part in parts:
            part.offset = offset
            offset += part.nbytes
    return shards + cut


def _alignment(part: Part) -> int:
    """Where a part stands: multiples of 64 first, then by descending size of the elements."""
    return -_ALIGNMENT if part.nbytes % _ALIGNMENT == 0 else -part.dtype.itemsize


def _cut(number: int, entry: Stored, limit: int) -> list[Part]:
    tensor = entry.tensor
    size = tensor.dtype.itemsize
    return [
        Part(number, f"{entry.name}~[{place}]", tensor.dtype, box.shape, box.size * size, box)
        for place, box in enumerate(bands(tensor.shape, limit // size))
    ]


def header(parts: Iterable[Part], save_id: str) -> bytes:
    """The bytes of a shard before its data."""
    members: dict[str, object] = {"__metadata__": {"portackpt": save_id}}
    for part in parts:
        code, shape = spelled(part.dtype, part.shape, part.nbytes)
        members[part.key] = {
            "dtype": code,
            "shape": shape,
            "data_offsets": (part.offset, part.offset + part.nbytes),
        }
    text = msgspec.json.encode(members)
    size = -(-(8 + len(text)) // PAGE) * PAGE
    return (size - 8).to_bytes(8, "little") + text.ljust(size - 8)
