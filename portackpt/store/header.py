"""The header of a shard, read strictly: what safetensors says about the tensors in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from portackpt.store import strictjson
from portackpt.store.fault import Fault, FaultError


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a shard; `begin` and `end` count from the start of the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def parse(data: bytes, file: str) -> dict[str, Entry]:
    """The entries by key. `data` is all that stands before the shard's data."""
    length = int.from_bytes(data[:8], "little")
    if length != len(data) - 8:
        raise _fault(f"expected a header of {len(data) - 8} bytes, found {length}", file)
    if data[8:9] != b"{":
        raise _fault("the header does not begin with {", file)
    try:
        document = strictjson.parse(data[8:], file)
    except FaultError as error:
        raise replace(error.fault, code="S-1").error() from None
    return {
        key: _entry(key, value, file) for key, value in document.items() if key != "__metadata__"
    }


def _entry(key: str, value: Any, file: str) -> Entry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _fault(f"{key!r} is no object of dtype, shape and data_offsets", file)
    shape, offsets = value["shape"], value["data_offsets"]
    naturals = isinstance(value["dtype"], str) and _are_naturals(shape) and _are_naturals(offsets)
    if not naturals or len(offsets) != 2:
        raise _fault(f"{key!r} has members of the wrong type", file)
    return Entry(value["dtype"], tuple(shape), offsets[0], offsets[1])


def _are_naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and n >= 0 for n in values)


def _fault(message: str, file: str) -> FaultError:
    return Fault("S-1", message, file, 0).error()
