"""How the bytes of one tensor become those of a data shard, piece by piece."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from portackpt_tensorflow.checksum import extend


class Encoder(Protocol):
    """Is fed a tensor's bytes in order; the crc32c is of what it gives out."""

    def encode(self, piece: memoryview) -> Iterable[bytes | memoryview]:
        """What to write for the next bytes. Raises `DamagedError` where they cannot be right."""

    def finish(self) -> int:
        """The crc32c of the whole, by the rule of its kind."""


class Values:
    """Elements of fixed size: written as they are."""

    __slots__ = ("_crc",)

    def __init__(self) -> None:
        self._crc = 0

    def encode(self, piece: memoryview) -> Iterable[bytes | memoryview]:
        self._crc = extend(piece, self._crc)
        return (piece,)

    def finish(self) -> int:
        return self._crc
