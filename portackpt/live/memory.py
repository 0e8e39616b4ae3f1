"""Moving a tensor's bytes straight into the memory of a live array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portackpt.dtypes import STRING
from portackpt.strides import as_bytes
from portackpt.tensor import PIECE, Tensor

if TYPE_CHECKING:
    import numpy as np


def fill(out: np.ndarray[Any, Any], tensor: Tensor) -> None:
    """Read `tensor` into `out`, an array of its shape whose elements have its size."""
    if tensor.dtype is STRING:
        out[...] = tensor.read()
    elif out.flags.c_contiguous:
        fill_bytes(memoryview(as_bytes(out)), tensor)
    else:
        out[...] = tensor.read().view(out.dtype)


def fill_bytes(out: memoryview, tensor: Tensor) -> None:
    """Read the bytes of `tensor` into `out`, piece by piece: what is checked is still in cache."""
    take = tensor.reader()
    for start in range(0, out.nbytes, PIECE):
        take(out[start : start + PIECE])
