"""Tensors and numpy arrays in a pickle: as calls of the functions that rebuild them.

`tensors` and `arrays` read the same calls and document them.
"""

from __future__ import annotations

from functools import lru_cache

from portackpt.tensor import Strided, Tensor, c_strides
from portackpt.tree import Node
from portackpt_torch.arrays import CODES
from portackpt_torch.pickle_writer import Pickler, integer
from portackpt_torch.shelf import STORAGE_CLASSES, Place, Shelved
from portackpt_torch.tensors import PARAMETER


def write_tensor(pickler: Pickler, tensor: Tensor) -> None:
    """A tensor, or where it was written before, a reference to that."""
    if pickler.recall(id(tensor)):
        return
    attributes = tensor.attributes
    if not attributes:
        _rebuilt(pickler, tensor, False)
    elif "numpy.class" in attributes and tensor.dtype.name in CODES:
        _array(pickler, tensor)
    else:
        write_stated(pickler, tensor, attributes.get("state"))
    pickler.remember(id(tensor))


def write_stated(pickler: Pickler, tensor: Tensor, state: Node) -> None:
    """A tensor of torch, with the attributes `state` of its own."""
    out = pickler.out
    requires_grad = bool(tensor.attributes.get("requires_grad"))
    if tensor.attributes.get("torch.class") == PARAMETER:
        suffix = "_with_state" if state else ""
        pickler.name("torch._utils", f"_rebuild_parameter{suffix}")
        out += b"("
        _rebuilt(pickler, tensor, False)
        pickler.node(requires_grad)
        pickler.call("collections", "OrderedDict")
        if state:
            pickler.node(state)
        out += b"tR"
    elif state:
        pickler.name("torch._tensor", "_rebuild_from_type_v2")
        out += b"("
        place = pickler.shelf.place(tensor)
        pickler.name("torch._utils", _function(tensor, place))
        pickler.name("torch", "Tensor")
        _arguments(pickler, tensor, place, requires_grad)
        pickler.node(state)
        out += b"tR"
    else:
        _rebuilt(pickler, tensor, requires_grad)


def _rebuilt(pickler: Pickler, tensor: Tensor, requires_grad: bool) -> None:
    place = pickler.shelf.place(tensor)
    pickler.name("torch._utils", _function(tensor, place))
    _arguments(pickler, tensor, place, requires_grad)
    pickler.out += b"R"


def _function(tensor: Tensor, place: Place) -> str:
    """Version 3 says the dtype; in version 2 it is the storage's."""
    return "_rebuild_tensor_v2" if place.storage.dtype is tensor.dtype else "_rebuild_tensor_v3"


def _arguments(pickler: Pickler, tensor: Tensor, place: Place, requires_grad: bool) -> None:
    out = pickler.out
    out += b"("
    write_storage(pickler, place.storage, tensor)
    out += integer(place.offset) + _integers(tensor.shape) + _integers(place.strides)
    out += b"\x88" if requires_grad else b"\x89"
    pickler.name("collections", "OrderedDict")
    out += b")R"
    if place.storage.dtype is not tensor.dtype:
        pickler.name("torch", tensor.dtype.torch or "")
    if tensor.attributes:
        bits = {name: True for name in ("conj", "neg") if tensor.attributes.get(name)}
        if bits:
            pickler.node(bits)
    out += b"t"


def write_storage(pickler: Pickler, storage: Shelved, tensor: Tensor) -> None:
    """The persistent id of the storage that `tensor` is on."""
    out = pickler.out
    out += b"("
    pickler.text("storage")
    if storage.dtype is None:
        pickler.name("torch.storage", "UntypedStorage")
    else:
        pickler.name("torch", STORAGE_CLASSES[storage.dtype.name])
    key = storage.key.encode()
    out += b"X" + len(key).to_bytes(4, "little") + key
    pickler.text(str(tensor.attributes.get("device", "cpu")) if tensor.attributes else "cpu")
    out += integer(storage.numel) + b"tQ"


_FEW = (b"", b"\x85", b"\x86", b"\x87")


@lru_cache(1 << 12)
def _integers(values: tuple[int, ...]) -> bytes:
    """A tuple of integers."""
    if not values:
        return b")"
    parts = b"".join([integer(value) for value in values])
    return parts + _FEW[len(values)] if len(values) < len(_FEW) else b"(" + parts + b"t"


def write_quantized(
    pickler: Pickler,
    tensor: Tensor,
    place: Place,
    shape: tuple[int, ...],
    quantizer: tuple[Node, ...],
) -> None:
    """A quantized tensor, whose quantizer begins with the name of its scheme."""
    out = pickler.out
    pickler.name("torch._utils", "_rebuild_qtensor")
    out += b"("
    write_storage(pickler, place.storage, tensor)
    out += integer(place.offset) + _integers(shape) + _integers(place.strides) + b"("
    pickler.name("torch", quantizer[0])
    for part in quantizer[1:]:
        pickler.node(part)
    out += b"t"
    pickler.node(bool(tensor.attributes.get("requires_grad")))
    pickler.call("collections", "OrderedDict")
    out += b"tR"


def _array(pickler: Pickler, tensor: Tensor) -> None:
    """An array or scalar of numpy, with its bytes in the pickle."""
    name = f"{pickler.core}.multiarray"
    if tensor.attributes["numpy.class"] == "numpy.scalar" and not tensor.shape:
        pickler.name(name, "scalar")
        pickler.out += b"("
        _dtype(pickler, tensor)
        pickler.data(tensor.to_bytes())
        pickler.out += b"tR"
        return
    fortran = _is_fortran(tensor)
    pickler.name(name, "_reconstruct")
    pickler.out += b"("
    pickler.name("numpy", "ndarray")
    pickler.out += _integers((0,))
    pickler.data(b"b")
    pickler.out += b"tR(" + integer(1) + _integers(tensor.shape)
    _dtype(pickler, tensor)
    pickler.node(fortran)
    pickler.data(tensor.read().tobytes("F" if fortran else "C"))
    pickler.out += b"tb"


def _is_fortran(tensor: Tensor) -> bool:
    layout = tensor.layout
    if not isinstance(layout, Strided) or layout.is_contiguous(tensor.dtype, tensor.shape):
        return False
    return layout.strides == c_strides(tensor.shape[::-1], tensor.dtype.itemsize)[::-1]


def _dtype(pickler: Pickler, tensor: Tensor) -> None:
    order = "|" if tensor.dtype.itemsize == 1 else "<"
    pickler.call("numpy", "dtype", CODES[tensor.dtype.name], False, True)
    pickler.build((3, order, None, None, None, -1, -1, 0))
