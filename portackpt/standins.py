"""Tensors that stand in for what a format has no word for: plain values, foreign dtypes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from portackpt.box import Box
from portackpt.dtypes import BY_NAME, STRING, UINT8, DType
from portackpt.tensor import Strided, Tensor, contiguous, from_array, from_strings
from portackpt.tree import Node
from portackpt.vocabulary import Vocabulary

INT64 = range(-(1 << 63), 1 << 63)


def scalar_tensor(value: Node, words: Vocabulary) -> Tensor:
    """A plain value as a 0-d tensor; text as its bytes where the format has no strings."""
    import numpy as np

    if isinstance(value, int) and not isinstance(value, bool) and value not in INT64:
        value = str(value)
    if isinstance(value, (str, bytes)):
        data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        if STRING.name in words.dtypes:
            return from_strings([data], ())
        return from_array(np.frombuffer(data, np.uint8))
    kinds = {bool: np.bool_, int: np.int64, float: np.float64, complex: np.complex128}
    spelled = from_array(np.array(value, kinds[type(value)]))
    return spelled if spelled.dtype.name in words.dtypes else bits(spelled, words)


def bits(tensor: Tensor, words: Vocabulary) -> Tensor:
    """The elements of a tensor as unsigned integers of their size, or its bytes where none fits."""
    holder = BY_NAME.get(f"uint{8 * tensor.dtype.itemsize}")
    if holder is not None and holder.name in words.dtypes:
        return Tensor(holder, tensor.shape, _Viewed(tensor), tensor.attributes)
    if tensor.dtype is STRING:
        assert isinstance(tensor.layout, Strided)
        return contiguous(UINT8, (tensor.nbytes,), tensor.layout.source)
    shape = (*tensor.shape, tensor.dtype.itemsize)
    return Tensor(UINT8, shape, _Viewed(tensor), tensor.attributes)


@dataclass(frozen=True, slots=True, eq=False)
class _Viewed:
    """The elements of a tensor seen as another dtype; one more dimension where that is smaller."""

    tensor: Tensor

    def read(self, dtype: DType, box: Box, out: Any) -> None:
        rank = len(self.tensor.shape)
        values = self.tensor.read(Box(box.start[:rank], box.shape[:rank]))
        seen = values.view(dtype.to_numpy()) if rank == len(box.shape) else (
            values.reshape(-1, 1).view(dtype.to_numpy()).reshape(*values.shape, -1)
        )  # fmt: skip
        out[...] = seen if rank == len(box.shape) else seen[..., box.slices()[-1]]
