"""Whether two trees are the same: types, names, order, bits, identity and shared storage."""

from __future__ import annotations

import struct
from typing import Any

from portackpt.tensor import Strided, Tensor, c_strides
from portackpt.tree import Object


def assert_same(a: Any, b: Any) -> None:
    """Raise where two trees differ in anything that a checkpoint is about."""
    _Comparison().compare(a, b, "")


def leaf(tensor: Tensor) -> tuple[str, tuple[int, ...], bytes]:
    """What a tensor holds: dtype, shape, bits."""
    values = tensor.read()
    if values.dtype == object:
        return tensor.dtype.name, tensor.shape, repr(values.tolist()).encode()
    return tensor.dtype.name, tensor.shape, values.tobytes()


class _Comparison:
    def __init__(self) -> None:
        self._tensors: dict[int, Tensor] = {}
        self._sources: dict[int, int] = {}

    def compare(self, a: Any, b: Any, path: str) -> None:
        assert type(a) is type(b), (path, a, b)
        if isinstance(a, Tensor):
            self._compare_tensors(a, b, path)
        elif isinstance(a, dict):
            self._compare_keys(list(a), list(b), path)
            for (key, left), right in zip(a.items(), b.values(), strict=True):
                self.compare(left, right, f"{path}/{key}")
        elif isinstance(a, (list, tuple)):
            assert len(a) == len(b), path
            for index, (left, right) in enumerate(zip(a, b, strict=True)):
                self.compare(left, right, f"{path}/{index}")
        elif isinstance(a, Object):
            for part in ("type", "args", "items", "entries", "state"):
                self.compare(getattr(a, part), getattr(b, part), f"{path}~{part}")
        elif isinstance(a, float):
            assert struct.pack("d", a) == struct.pack("d", b), path
        elif isinstance(a, complex):
            assert struct.pack("2d", a.real, a.imag) == struct.pack("2d", b.real, b.imag), path
        else:
            assert a == b, path

    def _compare_keys(self, a: list[Any], b: list[Any], path: str) -> None:
        assert len(a) == len(b), path
        for left, right in zip(a, b, strict=True):
            self.compare(left, right, f"{path} (key)")

    def _compare_tensors(self, a: Tensor, b: Tensor, path: str) -> None:
        assert self._tensors.setdefault(id(a), b) is b, f"{path}: one tensor became two"
        assert leaf(a) == leaf(b), path
        if isinstance(a.layout, Strided):
            assert isinstance(b.layout, Strided), path
            assert self._sources.setdefault(id(a.layout.source), id(b.layout.source)) == id(
                b.layout.source
            ), f"{path}: shared storage came apart"
            assert a.layout.offset == b.layout.offset, path
            assert _strides(a) == _strides(b), path
        self.compare(dict(a.attributes), dict(b.attributes), f"{path}~@")


def _strides(tensor: Tensor) -> tuple[int, ...]:
    layout = tensor.layout
    assert isinstance(layout, Strided)
    if tensor.dtype.itemsize == 0:
        return ()
    strides = layout.strides or c_strides(tensor.shape, tensor.dtype.itemsize)
    return tuple(s for s, n in zip(strides, tensor.shape, strict=True) if n > 1)
