"""What a torch archive holds without loss."""

from __future__ import annotations

from portackpt.dtypes import BY_TORCH
from portackpt.tree import Object
from portackpt.vocabulary import Vocabulary

QUANTIZED = frozenset(("qint8", "quint8", "qint32", "quint4x2", "quint2x4"))
"""Dtypes of tensors that torch makes with a quantizer only; their integers are other tensors."""
ATTRIBUTES = frozenset(
    ("torch.class", "requires_grad", "device", "conj", "neg", "state", "numpy.class")
)


def _fits(node: Object) -> bool:
    from portackpt_torch.object_writers import fits

    return fits(node)


VOCABULARY = Vocabulary(
    dtypes=frozenset(dtype.name for dtype in BY_TORCH.values()) - QUANTIZED,
    keys=frozenset((str, int, bool, float, complex, bytes, type(None), tuple, Object)),
    objects=_fits,
    attributes=ATTRIBUTES.__contains__,
    shared=True,
)
