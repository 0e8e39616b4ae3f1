"""Equality of trees as the format promises it: types, order, bits, identity, shared storage."""

from __future__ import annotations

import struct
from typing import Any

from portackpt.dtypes import STRING
from portackpt.tensor import Strided, Tensor, Tiled, c_strides
from portackpt.tree import Object


class Trees:
    """Two trees on the way: which tensor and which storage of one is which of the other."""

    def __init__(self) -> None:
        self.tensors: dict[int, int] = {}
        self.storages: dict[int, int] = {}
        self.kept: list[Any] = []

    def same(self, a: Any, b: Any) -> bool:
        if type(a) is not type(b):
            return False
        if isinstance(a, Tensor):
            return self.same_tensor(a, b)
        if isinstance(a, Object):
            return all(
                self.same(getattr(a, part), getattr(b, part))
                for part in ("type", "args", "items", "entries", "state")
            )
        if isinstance(a, dict):
            return self.same(list(a.items()), list(b.items()))
        if isinstance(a, (list, tuple)):
            return len(a) == len(b) and all(map(self.same, a, b))
        if isinstance(a, float):
            return struct.pack("d", a) == struct.pack("d", b)
        if isinstance(a, complex):
            return self.same(a.real, b.real) and self.same(a.imag, b.imag)
        return bool(a == b)

    def same_tensor(self, a: Tensor, b: Tensor) -> bool:
        self.kept += [a, b]
        met = id(a) in self.tensors
        if self.tensors.setdefault(id(a), id(b)) != id(b):
            return False
        if met:
            return True
        alike = a.dtype is b.dtype and a.shape == b.shape and bits(a) == bits(b)
        return (
            alike and self.same_storage(a, b) and self.same(dict(a.attributes), dict(b.attributes))
        )

    def same_storage(self, a: Tensor, b: Tensor) -> bool:
        if not isinstance(a.layout, Strided):
            return isinstance(b.layout, (Strided, Tiled))
        if not isinstance(b.layout, Strided):
            return False
        expected = self.storages.setdefault(id(a.layout.source), id(b.layout.source))
        return (
            expected == id(b.layout.source)
            and a.layout.source.nbytes == b.layout.source.nbytes
            and a.layout.offset == b.layout.offset
            and strides(a) == strides(b)
        )


def strides(tensor: Tensor) -> tuple[int, ...] | None:
    assert isinstance(tensor.layout, Strided)
    if tensor.dtype is STRING or tensor.size == 0:
        return None
    if tensor.layout.is_contiguous(tensor.dtype, tensor.shape):
        return c_strides(tensor.shape, tensor.dtype.itemsize)
    return tensor.layout.strides


def bits(tensor: Tensor) -> bytes:
    return b"".join(bytes(piece) for piece in tensor.pieces())


def same(a: Any, b: Any) -> bool:
    return Trees().same(a, b)
