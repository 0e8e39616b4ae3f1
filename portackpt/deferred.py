"""What torch puts off: a tensor may be stored as it was before it was conjugated or negated.

The attributes `conj` and `neg` say so. Who does not know them needs the values carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from portackpt.box import Box
from portackpt.dtypes import DType
from portackpt.tensor import Tensor

if TYPE_CHECKING:
    import numpy as np

_DEFERRED = ("conj", "neg")


def carried_out(tensor: Tensor, kept: Mapping[str, Any]) -> Tensor:
    """`tensor` with the attributes `kept`; what the others put off is done to its values."""
    pending = [name for name in _DEFERRED if tensor.attributes.get(name) and name not in kept]
    if not pending:
        return replace(tensor, attributes=kept)
    layout = _CarriedOut(tensor, "conj" in pending, "neg" in pending)
    return Tensor(tensor.dtype, tensor.shape, layout, kept)


def is_pending(tensor: Tensor) -> bool:
    return any(tensor.attributes.get(name) for name in _DEFERRED)


@dataclass(frozen=True, slots=True, eq=False)
class _CarriedOut:
    """The values of a tensor, conjugated, negated or both."""

    tensor: Tensor
    conjugate: bool
    negate: bool

    def read(self, dtype: DType, box: Box, out: np.ndarray[Any, Any]) -> None:
        import numpy as np

        values = self.tensor.read(box)
        if dtype.name == "complex32":  # the bits of two halves: turn their signs
            signs = (0x80000000 if self.conjugate else 0) ^ (0x80008000 if self.negate else 0)
            np.bitwise_xor(values, np.uint32(signs), out=out)
            return
        if self.conjugate:
            values = np.conjugate(values)
        out[...] = np.negative(values) if self.negate else values
