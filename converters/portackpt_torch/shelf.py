"""Storages of a checkpoint to be written: which there are, and where in them a tensor is.

Tensors over one source of bytes share a storage; its bytes are written once, whole. A tensor that
is not elements at strides over a source gets a storage of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from portackpt.dtypes import UINT8, DType
from portackpt.tensor import Strided, Tensor, c_strides
from portackpt_torch.storages import CLASSES

STORAGE_CLASSES = {dtype: name for name, dtype in CLASSES.items()}


@dataclass(slots=True, eq=False)
class Shelved:
    """One storage: its key, its type (None: untyped) and its size in elements of that type."""

    key: str
    dtype: DType | None
    numel: int


@dataclass(slots=True, eq=False)
class Place:
    """Where a tensor is: offset and strides in its own elements."""

    storage: Shelved
    offset: int
    strides: tuple[int, ...]


class Shelf:
    """The storages so far; `tensors` are their bytes, in the order of their keys."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self._known: dict[int, Shelved] = {}

    def place(self, tensor: Tensor, kind: DType | None = None) -> Place:
        """The place of a tensor, on a storage that is new unless another tensor brought it.

        `kind` is the type of the storage where it is not the tensor's (quantized integers).
        """
        layout, dtype = tensor.layout, tensor.dtype
        itemsize = dtype.itemsize
        if type(layout) is Strided and layout.offset % itemsize == 0:
            strides = layout.strides
            if strides is None:
                strides = c_strides(tensor.shape, itemsize)
            if all(step >= 0 and step % itemsize == 0 for step in strides):
                steps = strides if itemsize == 1 else tuple([step // itemsize for step in strides])
                return Place(self._shared(kind or dtype, layout), layout.offset // itemsize, steps)
        self.tensors.append(tensor)
        own = self._shelved(len(self.tensors) - 1, kind or dtype, tensor.nbytes)
        return Place(own, 0, c_strides(tensor.shape, 1))

    def _shared(self, dtype: DType, layout: Strided) -> Shelved:
        source = layout.source
        found = self._known.get(id(source))
        if found is None:
            nbytes = source.nbytes
            self.tensors.append(Tensor(UINT8, (nbytes,), Strided(source, 0, (1,))))
            found = self._shelved(len(self.tensors) - 1, dtype, nbytes)
            self._known[id(source)] = found
        return found

    def _shelved(self, index: int, dtype: DType, nbytes: int) -> Shelved:
        typed = dtype.name in STORAGE_CLASSES and nbytes % dtype.itemsize == 0
        if typed:
            return Shelved(str(index), dtype, nbytes // dtype.itemsize)
        return Shelved(str(index), None, nbytes)
