"""What the metadata of an array says, checked before any number in it is used."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from portackpt.dtypes import BY_NAME, TABLE, DType
from portackpt.errors import DamagedError, RefusedError, UnsupportedError
from portackpt_jax.zarr.codecs import Chain, parse_chain, parse_compressor, parse_sharding

LARGEST_METADATA = 1 << 20
LARGEST_ARRAY = 1 << 62
MOST_DIMENSIONS = 64
_BYTE_ORDERED = re.compile(r"([<>|])([biufc])(\d{1,2})")
_KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
_BY_ZARR = {dtype.zarr: dtype for dtype in TABLE if dtype.zarr}
_FLOAT_NAMES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, slots=True)
class Shards:
    """Inner chunks of a chunk: their shape and coding, and what the index of them looks like."""

    chunk: tuple[int, ...]
    chain: Chain
    checksum: bool
    at_end: bool


@dataclass(frozen=True, slots=True)
class Array:
    """One array: its elements, how they are divided into chunks, how chunks are named and coded.

    `fill` are the bytes of the element that stands for all of an absent chunk. `prefix` and
    `separator` make the keys of chunks.
    """

    dtype: DType
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    prefix: str
    separator: str
    chain: Chain
    fill: bytes
    shards: Shards | None = None
    grid: tuple[int, ...] = field(init=False)
    """How many chunks there are along each dimension."""
    chunk_nbytes: int = field(init=False)
    strides: tuple[int, ...] = field(init=False)
    """Strides of a chunk's elements in bytes, where chunks are not divided any further."""
    only_chunk: str | None = field(init=False)
    """The key of the one chunk that is all of the array; None where there are others or shards."""

    def __post_init__(self) -> None:
        pairs = zip(self.shape, self.chunk, strict=True)
        itemsize = self.dtype.itemsize
        set_field = object.__setattr__
        set_field(self, "grid", tuple([-(-n // size) for n, size in pairs]))
        set_field(self, "chunk_nbytes", math.prod(self.chunk) * itemsize)
        set_field(self, "strides", self.coding.strides(self.chunk, itemsize))
        alone = self.shards is None and all(n == 1 for n in self.grid)
        set_field(self, "only_chunk", self.key((0,) * len(self.shape)) if alone else None)

    @property
    def coding(self) -> Chain:
        """How the innermost chunks are coded."""
        return self.chain if self.shards is None else self.shards.chain

    def key(self, index: tuple[int, ...]) -> str:
        """The key of a chunk, below that of the array."""
        parts = [self.prefix] if self.prefix else []
        return self.separator.join([*parts, *map(str, index)]) or "0"


@lru_cache(1024)
def parse(data: bytes, version: int) -> Array:
    """The metadata of version 2 (`.zarray`) or 3 (`zarr.json`)."""
    import msgspec

    try:
        found = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedError(f"the metadata of an array is no JSON: {error}") from error
    if not isinstance(found, dict) or found.get("zarr_format") != version:
        raise DamagedError(f"no zarr metadata of version {version}: {data[:80]!r}")
    return _version_2(found) if version == 2 else _version_3(found)


def _version_2(found: dict[str, Any]) -> Array:
    shape = _shape(found.get("shape"), 0, "shape")
    chunk = _shape(found.get("chunks"), 1, "chunks")
    dtype, big_endian = _dtype_2(found.get("dtype"))
    separator = found.get("dimension_separator", ".")
    order = found.get("order", "C")
    if separator not in (".", "/") or order not in ("C", "F"):
        raise DamagedError(f"dimension_separator {separator!r:.20}, order {order!r:.20}")
    steps = parse_compressor(found.get("compressor"), found.get("filters"))
    axes = tuple(reversed(range(len(shape)))) if order == "F" and len(shape) > 1 else None
    fill = _fill(found.get("fill_value"), dtype)
    _check_size(dtype, shape, chunk)
    return Array(dtype, shape, chunk, "", separator, Chain(big_endian, axes, steps), fill)


def _version_3(found: dict[str, Any]) -> Array:
    shape = _shape(found.get("shape"), 0, "shape")
    grid = found.get("chunk_grid")
    if found.get("node_type") != "array" or _get(grid, "name") != "regular":
        raise UnsupportedError("not a zarr array on a regular grid")
    chunk = _shape(_get(grid, "configuration", "chunk_shape"), 1, "chunk_shape")
    if found.get("storage_transformers"):
        raise UnsupportedError("zarr storage transformers cannot be read")
    dtype = _BY_ZARR.get(found["data_type"]) if isinstance(found.get("data_type"), str) else None
    if dtype is None:
        raise UnsupportedError(f"zarr data type {found.get('data_type')!r:.100}")
    _check_size(dtype, shape, chunk)
    prefix, separator = _key_encoding(found.get("chunk_key_encoding"))
    fill = _fill(found.get("fill_value"), dtype)
    codecs = found.get("codecs")
    sharding = parse_sharding(codecs)
    if sharding is None:
        chain = parse_chain(codecs, len(shape))
        return Array(dtype, shape, chunk, prefix, separator, chain, fill)
    shards = _shards(sharding, chunk)
    return Array(dtype, shape, chunk, prefix, separator, Chain(), fill, shards)


def _shards(configuration: Any, outer: tuple[int, ...]) -> Shards:
    chunk = _shape(configuration.get("chunk_shape"), 1, "chunk_shape")
    if len(chunk) != len(outer) or any(a % b for a, b in zip(outer, chunk, strict=True)):
        raise DamagedError(f"inner chunks {chunk} do not divide chunks {outer}")
    index = parse_chain(configuration.get("index_codecs"), 0)
    location = configuration.get("index_location", "end")
    if index.big_endian or index.steps not in ((), ("crc32c",)) or location not in ("start", "end"):
        raise UnsupportedError("a shard index in an unknown spelling")
    chain = parse_chain(configuration.get("codecs"), len(chunk))
    return Shards(chunk, chain, bool(index.steps), location == "end")


def _check_size(dtype: DType, shape: tuple[int, ...], chunk: tuple[int, ...]) -> None:
    if len(shape) != len(chunk):
        raise DamagedError(f"chunks {chunk} of an array of shape {shape}")
    for sizes in (shape, chunk):
        if math.prod(sizes) * dtype.itemsize > LARGEST_ARRAY:
            raise RefusedError(f"an array or chunk of shape {sizes} has over 2^62 bytes")


def _shape(value: Any, least: int, what: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(n) is int for n in value):
        raise DamagedError(f"{what} is no list of integers: {value!r:.100}")
    if len(value) > MOST_DIMENSIONS or not all(least <= n < LARGEST_ARRAY for n in value):
        raise RefusedError(f"{what} is out of bounds: {value!r:.100}")
    return tuple(value)


def _dtype_2(spelling: Any) -> tuple[DType, bool]:
    text = spelling if isinstance(spelling, str) else ""
    if match := _BYTE_ORDERED.fullmatch(text):
        order, kind, size = match.groups()
        name = "bool" if kind == "b" and size == "1" else f"{_KINDS[kind]}{8 * int(size)}"
        dtype = BY_NAME.get(name)
        if dtype is not None and dtype.zarr:
            return dtype, order == ">"
    elif text in _BY_ZARR:
        return _BY_ZARR[text], False
    raise UnsupportedError(f"zarr dtype {spelling!r:.100}")


def _key_encoding(encoding: Any) -> tuple[str, str]:
    name = encoding if isinstance(encoding, str) else _get(encoding, "name")
    if name not in ("default", "v2"):
        raise UnsupportedError(f"chunk keys in the spelling {name!r:.60}")
    usual = "/" if name == "default" else "."
    separator = _get(encoding, "configuration", "separator") or usual
    if separator not in (".", "/"):
        raise DamagedError(f"separator {separator!r:.20} of chunk keys")
    return "c" if name == "default" else "", separator


def _get(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _fill(value: Any, dtype: DType) -> bytes:
    """The bytes of the element that `fill_value` means; null is zero."""
    import numpy as np

    if value is None:
        return bytes(dtype.itemsize)
    try:
        if isinstance(value, str) and value.startswith("0x"):
            return int(value, 16).to_bytes(dtype.itemsize, "little")
        if isinstance(value, list):
            real, imaginary = [_number(part) for part in value]
            value = complex(real, imaginary)
        else:
            value = _number(value)
        with np.errstate(all="ignore"):
            return np.array(value).astype(dtype.to_numpy()).tobytes()
    except (ValueError, TypeError, OverflowError, ArithmeticError) as error:
        raise DamagedError(f"no fill value of {dtype}: {value!r:.60}") from error


def _number(value: Any) -> Any:
    if isinstance(value, str):
        return _FLOAT_NAMES[value] if value in _FLOAT_NAMES else float(value)
    if not isinstance(value, (bool, int, float)):
        raise TypeError(value)
    return value


def spell_version_2(dtype: DType, shape: Sequence[int], chunk: Sequence[int]) -> bytes:
    """The `.zarray` of an uncompressed array, as TensorStore spells it."""
    import msgspec

    return msgspec.json.encode({
        "chunks": list(chunk), "compressor": None, "dimension_separator": ".",
        "dtype": spell_dtype(dtype), "fill_value": None, "filters": None, "order": "C",
        "shape": list(shape), "zarr_format": 2,
    })  # fmt: skip


def spell_dtype(dtype: DType) -> str:
    """The name of a dtype in version 2."""
    if dtype.zarr is None:
        raise UnsupportedError(f"zarr has no dtype {dtype}")
    if dtype.numpy.startswith("ml_dtypes."):
        return dtype.zarr
    spelling = dtype.to_numpy().str
    return spelling if spelling[0] == "|" else f"<{spelling[1:]}"
