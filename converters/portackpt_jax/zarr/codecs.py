"""Codecs of chunks: what is listed here is decoded, anything else is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from portackpt.bytesource import ByteSource, Checked, Swapped
from portackpt.dtypes import DType
from portackpt.errors import DamagedError, UnsupportedError
from portackpt.tensor import c_strides
from portackpt_jax.zarr.inflate import METHODS, Inflated
from portackpt_jax.zarr.sources import Later, Part, Whole


@dataclass(frozen=True, slots=True)
class Chain:
    """How a chunk became bytes: axes reordered, elements in one byte order, then `steps`.

    `order` lists the array's axes as they were stored, slowest first; None is C order.
    """

    big_endian: bool = False
    order: tuple[int, ...] | None = None
    steps: tuple[str, ...] = ()
    compressed: bool = field(init=False)

    def __post_init__(self) -> None:
        compressed = any(step in METHODS for step in self.steps)
        object.__setattr__(self, "compressed", compressed)

    def decode(self, source: ByteSource, nbytes: int, dtype: DType, where: str) -> ByteSource:
        """The `nbytes` of a chunk whose encoded bytes are `source`."""
        if self.steps:
            for step, size in reversed(list(zip(self.steps, self._sizes(nbytes), strict=True))):
                if step == "crc32c":
                    if source.nbytes < 4:
                        raise DamagedError(f"a checksum in {source.nbytes} bytes", where)
                    source = Later(source.nbytes - 4, partial(_checked, source, where))
                else:
                    source = Inflated(source, step, size, where)
        if source.nbytes != nbytes:
            raise DamagedError(f"a chunk takes {nbytes} bytes, found {source.nbytes}", where)
        if self.order is not None and self.compressed:
            source = Whole(source, where)
        if not self.big_endian:
            return source
        # the two parts of a complex number are swapped each for itself
        unit = dtype.itemsize // (2 if dtype.name.startswith("complex") else 1)
        return Swapped(source, unit) if unit > 1 else source

    def strides(self, shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
        """Strides of a decoded chunk of `shape`, in bytes."""
        if self.order is None:
            return c_strides(shape, itemsize)
        stored = c_strides(tuple([shape[axis] for axis in self.order]), itemsize)
        return tuple([stored[self.order.index(axis)] for axis in range(len(shape))])

    def _sizes(self, nbytes: int) -> list[int]:
        """The size that each step was given."""
        sizes = []
        for step in self.steps:
            sizes.append(nbytes)
            nbytes += 4 if step == "crc32c" else 0
        return sizes


def parse_compressor(compressor: Any, filters: Any) -> tuple[str, ...]:
    """The steps of version 2."""
    if filters:
        raise UnsupportedError(f"zarr filters cannot be read: {filters!r:.200}")
    if compressor is None:
        return ()
    name = compressor.get("id") if isinstance(compressor, dict) else None
    if not isinstance(name, str) or name not in METHODS:
        raise UnsupportedError(_unknown(name))
    return (name,)


def parse_chain(codecs: Any, dimensions: int) -> Chain:
    """The codecs of version 3, without sharding."""
    order: tuple[int, ...] | None = None
    big_endian: bool | None = None
    steps: list[str] = []
    for name, configuration in _named(codecs):
        if name == "transpose" and big_endian is None and order is None:
            order = _axes(configuration.get("order"), dimensions)
        elif name == "bytes" and big_endian is None:
            big_endian = configuration.get("endian", "little") == "big"
        elif big_endian is not None and _may_follow(name, steps):
            steps.append(name)
        else:
            raise UnsupportedError(_unknown(name))
    if big_endian is None:
        raise DamagedError("the codecs of an array lack 'bytes'")
    return Chain(big_endian, order, tuple(steps))


def _named(codecs: Any) -> list[tuple[str, Mapping[str, Any]]]:
    if not isinstance(codecs, list) or len(codecs) > 16:
        raise DamagedError("the codecs of an array are not a short list")
    found: list[tuple[str, Mapping[str, Any]]] = []
    for codec in codecs:
        if isinstance(codec, str):
            codec = {"name": codec}
        if not isinstance(codec, dict) or not isinstance(codec.get("name"), str):
            raise DamagedError(f"not a codec: {codec!r:.100}")
        configuration = codec.get("configuration", {})
        if not isinstance(configuration, dict):
            raise DamagedError(f"not the configuration of a codec: {configuration!r:.100}")
        found.append((codec["name"], configuration))
    return found


def parse_sharding(codecs: Any) -> Mapping[str, Any] | None:
    """The configuration of `sharding_indexed` where that is how chunks are coded."""
    named = _named(codecs)
    if len(named) == 1 and named[0][0] == "sharding_indexed":
        return named[0][1]
    return None


def _may_follow(name: str, steps: list[str]) -> bool:
    """One compressor, and checksums around it or within."""
    if name == "crc32c":
        return len(steps) < 4
    return name in ("zstd", "gzip") and not any(step in METHODS for step in steps)


def _axes(order: Any, dimensions: int) -> tuple[int, ...]:
    if not isinstance(order, list) or sorted(map(repr, order)) != sorted(
        map(repr, range(dimensions))
    ):
        raise DamagedError(f"not an order of {dimensions} axes: {order!r:.100}")
    return tuple(order)


def _unknown(name: Any) -> str:
    return (
        f"codec {name!r:.60} is not read here; known are {', '.join(METHODS)}, crc32c, "
        "transpose and sharding_indexed. Restore the checkpoint with Orbax and save it again "
        "without that codec"
    )


def _checked(source: ByteSource, where: str) -> ByteSource:
    size = source.nbytes - 4
    expected = bytearray(4)
    source.readinto(size, memoryview(expected))
    return Checked(Part(source, 0, size), extend_crc32c, int.from_bytes(expected, "little"), where)


def extend_crc32c(data: memoryview, value: int) -> int:
    """CRC-32C of what had `value` and then `data`, in pieces that stay in the cache."""
    from google_crc32c import extend

    for start in range(0, data.nbytes, 1 << 20):
        value = extend(value, bytes(data[start : start + (1 << 20)]))
    return value
