"""torch's tensors: their storage as a byte source, and their memory as a place to read into."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from portackpt.bytesource import ByteSource, InMemory
from portackpt.dtypes import BY_TORCH, DType
from portackpt.errors import UnsupportedError
from portackpt.live.memory import fill_bytes
from portackpt.tensor import Strided, Tensor
from portackpt.tree import Node

if TYPE_CHECKING:
    from portackpt.live import Capture, Restoring


def capture(
    value: Any, scene: Capture, path: str, attributes: Mapping[str, Any] | None = None
) -> Node:
    """A tensor over the storage of `value`. One that is not on the CPU is copied as it is read."""
    objection = _objection(value)
    if objection:
        scene.fault(path, objection)
        return None
    told = scene.of("pytorch", str(sys.modules["torch"].__version__)) | dict(attributes or {})
    flat = value.detach().resolve_conj().resolve_neg()
    storage = flat.untyped_storage()
    place = (flat.storage_offset(), tuple(flat.shape), flat.stride(), flat.dtype)
    source = _identity(flat)
    return scene.tensor((source, place, _frozen(told)), flat, lambda: _tensor(flat, storage, source,
                        scene, told))  # fmt: skip


def _frozen(told: Mapping[str, Any]) -> object:
    return tuple(told.items())


def _identity(value: Any) -> object:
    """Equal for tensors that share a storage."""
    storage = value.untyped_storage()
    return str(value.device), storage.data_ptr() or id(value), storage.nbytes()


def _tensor(
    value: Any, storage: Any, identity: Any, scene: Capture, told: Mapping[str, Any]
) -> Tensor:
    dtype = dtype_of(value)
    source = scene.source(identity, lambda: _source(storage))
    size = value.element_size()
    strides = tuple([step * size for step in value.stride()])
    return Tensor(
        dtype, tuple(value.shape), Strided(source, value.storage_offset() * size, strides), told
    )


def _source(storage: Any) -> ByteSource:
    if storage.device.type == "cpu":
        return InMemory(_bytes_of(storage))
    return _OnDevice(storage)


def _bytes_of(storage: Any) -> memoryview:
    torch: Any = sys.modules["torch"]
    if not storage.nbytes():
        return memoryview(b"")
    flat = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
    return memoryview(flat.numpy())


class _OnDevice:
    """A storage of an accelerator: what is read is copied to the CPU."""

    __slots__ = ("_flat",)

    def __init__(self, storage: Any) -> None:
        torch: Any = sys.modules["torch"]
        self._flat = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)

    @property
    def nbytes(self) -> int:
        return int(self._flat.numel())

    def readinto(self, offset: int, out: memoryview) -> None:
        out[:] = memoryview(self._flat[offset : offset + out.nbytes].cpu().numpy())

    def verify(self) -> None:
        pass


def dtype_of(value: Any) -> DType:
    name = str(value.dtype).removeprefix("torch.")
    if name not in BY_TORCH:
        raise UnsupportedError(f"torch's dtype {name} is unknown")
    return BY_TORCH[name]


def _objection(value: Any) -> str | None:
    """Why a tensor cannot be saved as one array; None where it can."""
    torch: Any = sys.modules["torch"]
    if hasattr(value, "to_local"):
        return "a DTensor: save the local shard, or the full tensor"
    if torch.nn.parameter.is_lazy(value):
        return "a parameter without a shape yet: run the model once before"
    if value.layout is not torch.strided or value.is_nested or value.is_quantized:
        return f"a tensor of layout {value.layout}, which is several arrays: save these"
    if value.device.type == "meta":
        return "a tensor on the meta device holds no values"
    return None


def compare(value: Any, node: Node, scene: Restoring, path: str) -> None:
    objection = _objection(value)
    if objection:
        scene.fault(path, objection)
    else:
        scene.compare_array(dtype_of(value).name, tuple(value.shape), node, path)


def restore(value: Any, node: Tensor, scene: Restoring, path: str) -> Any:
    """Fill `value` in place: from the file straight into its memory where that is in order."""
    torch: Any = sys.modules["torch"]
    with torch.no_grad():
        own = value.detach()
        plain = not (own.is_conj() or own.is_neg())
        if own.device.type == "cpu" and own.is_contiguous() and plain:
            fill_bytes(_memory(own), node)
        else:
            own.copy_(make(node))
    return value


def make(node: Tensor) -> Any:
    """A new tensor on the CPU."""
    torch: Any = sys.modules["torch"]
    kind = node.dtype.torch
    if kind is None:
        raise UnsupportedError(f"torch has no dtype for {node.dtype}")
    found = torch.empty(node.shape, dtype=getattr(torch, kind))
    fill_bytes(_memory(found), node)
    return found


def _memory(value: Any) -> memoryview:
    """The bytes of a tensor on the CPU whose elements are in C order."""
    torch: Any = sys.modules["torch"]
    if not value.numel():
        return memoryview(b"")
    return memoryview(value.reshape(-1).view(torch.uint8).numpy())
