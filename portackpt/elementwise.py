"""Tensors computed from other tensors element by element, as they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portackpt.box import Box
from portackpt.dtypes import DType
from portackpt.tensor import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Computed:
    """The values of `function` over arrays of `tensors`, all of one shape."""

    function: Callable[..., Any]
    tensors: tuple[Tensor, ...]

    def read(self, dtype: DType, box: Box, out: Any) -> None:
        out[...] = self.function(*[tensor.read(box) for tensor in self.tensors])


def computed(function: Callable[..., Any], *tensors: Tensor, dtype: DType | None = None) -> Tensor:
    """`function` (of numpy arrays, element by element) of tensors of one shape, lazily.

    The dtype is that of the first tensor unless it is given; numpy casts the result to it.
    """
    first = tensors[0]
    return Tensor(dtype or first.dtype, first.shape, _Computed(function, tensors))


def scaled(tensor: Tensor, factor: float) -> Tensor:
    """`tensor` times a number, multiplied in float64 and rounded once."""
    return computed(lambda array: array.astype("float64") * factor, tensor)


def cast(tensor: Tensor, dtype: DType) -> Tensor:
    """The values of `tensor` in another dtype."""
    return computed(lambda array: array.astype(dtype.to_numpy()), tensor, dtype=dtype)
