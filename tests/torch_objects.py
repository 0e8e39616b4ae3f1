"""Whether what `torch.load` gives is what a tree says: types, order, bits, strides, identity."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from portackpt.tensor import Strided, Tensor, c_strides
from portackpt.tree import Object


class Comparison:
    """A tree and torch's objects on the way: which storage, which tensor is which."""

    def __init__(self) -> None:
        self.storages: dict[int, int] = {}
        self.tensors: dict[int, int] = {}
        self.kept: list[Any] = []

    def check(self, node: Any, value: Any, path: str = "") -> None:
        self.kept.append(value)
        if isinstance(node, Tensor):
            self.tensor(node, value, path)
        elif isinstance(node, Object):
            self.object(node, value, path)
        elif isinstance(node, dict):
            assert type(value) is dict, path
            self.entries(node, value, path)
        elif isinstance(node, (list, tuple)):
            assert type(value) is type(node) and len(value) == len(node), path
            for index, (part, item) in enumerate(zip(node, value, strict=True)):
                self.check(part, item, f"{path}/{index}")
        else:
            assert type(value) is type(node), path
            assert plain_bits(value) == plain_bits(node), path

    def entries(self, node: dict[Any, Any], value: Any, path: str) -> None:
        assert len(node) == len(value), path
        for (key, part), (other, item) in zip(node.items(), value.items(), strict=True):
            self.check(key, other, f"{path}/key {key}")
            self.check(part, item, f"{path}/{key}")

    def object(self, node: Object, value: Any, path: str) -> None:
        import torch

        kind = node.type
        entries = node.entries or {}
        if kind == "collections.OrderedDict":
            assert type(value).__name__ == "OrderedDict", path
            self.entries(entries, value, path)
            self.check(node.state or {}, dict(vars(value)), f"{path}/~.")
        elif kind == "collections.Counter":
            assert type(value).__name__ == "Counter", path
            self.entries(entries, value, path)
        elif kind == "builtins.set":
            assert type(value) is set and len(value) == len(node.items or ()), path
        elif kind == "torch.Size":
            assert value == torch.Size(node.items or []) and type(value) is torch.Size, path
        elif kind == "builtins.bytearray":
            assert value == bytearray(node.args[0]), path
        elif kind in ("torch.storage.TypedStorage", "torch.storage.UntypedStorage"):
            assert isinstance(value, torch.storage.TypedStorage), path  # of bytes, for an untyped
            assert str(value.dtype) == f"torch.{entries['values'].dtype.torch}", path
            self.storage(entries["values"], value.untyped(), path)
        elif kind.startswith("torch.sparse_"):
            self.sparse(entries, value, path)
        elif kind == "torch.quantized_tensor":
            self.quantized(entries, value, path)
        elif kind == "torch.nested_tensor":
            buffer = torch._nested_view_from_buffer  # what the parts are made into
            assert value.is_nested and callable(buffer), path
            self.check(entries["buffer"], value.values(), path)
        elif kind == "torch.meta_tensor":
            assert value.is_meta and list(value.shape) == entries["shape"], path
            assert list(value.stride()) == entries["strides"], path
        elif kind in ("torch.Tensor", "torch.nn.parameter.Parameter"):
            self.check(node.args[0], value, path)
            self.check(node.state or {}, value.__dict__, path)
        elif kind == "torch.device":
            assert value == torch.device(*node.args), path
        elif kind == "numpy.dtype":
            assert isinstance(value, np.dtype), path
        else:
            assert node.args == () and node.items is None and node.entries is None, (path, kind)
            assert str(value) == kind or kind.endswith(str(value)), (path, kind, value)

    def tensor(self, node: Tensor, value: Any, path: str) -> None:
        import torch

        if "numpy.class" in node.attributes:
            self.array(node, value, path)
            return
        assert isinstance(value, torch.Tensor), path
        assert str(value.dtype) == f"torch.{node.dtype.torch}", path
        assert tuple(value.shape) == node.shape, path
        assert value.requires_grad == bool(node.attributes.get("requires_grad")), path
        assert isinstance(value, torch.nn.Parameter) == ("torch.class" in node.attributes), path
        assert value.is_conj() == bool(node.attributes.get("conj")), path
        assert value.is_neg() == bool(node.attributes.get("neg")), path
        if "state" in node.attributes:
            self.check(node.attributes["state"], value.__dict__, path)
        assert self.tensors.setdefault(id(node), id(value)) == id(value), path
        itemsize = node.dtype.itemsize
        steps = c_strides(node.shape, 1)
        offset = 0
        if isinstance(node.layout, Strided):
            offset = node.layout.offset // itemsize
            if node.layout.strides is not None:
                steps = tuple(step // itemsize for step in node.layout.strides)
        if node.size:
            assert value.stride() == steps, path
            assert value.storage_offset() == offset, path
        self.storage(node, value.untyped_storage(), path)

    def storage(self, node: Tensor, untyped: Any, path: str) -> None:
        """The bytes of the whole storage, and that it is shared as the tree says."""
        import torch

        found = torch.empty(0, dtype=torch.uint8).set_(untyped).numpy().tobytes()
        if isinstance(node.layout, Strided):
            source = node.layout.source
            expected = bytearray(source.nbytes)
            source.readinto(0, memoryview(expected))
            if source.nbytes:
                address = self.storages.setdefault(id(source), untyped.data_ptr())
                assert address == untyped.data_ptr(), path
        else:
            expected = bytearray(b"".join(map(bytes, node.pieces())))
        assert found == bytes(expected), path

    def array(self, node: Tensor, value: Any, path: str) -> None:
        scalar = node.attributes["numpy.class"] == "numpy.scalar"
        assert isinstance(value, np.generic if scalar else np.ndarray), path
        array = np.asarray(value)
        assert array.dtype == node.read().dtype and array.shape == node.shape, path
        assert array.tobytes() == node.read().tobytes(), path

    def sparse(self, entries: dict[Any, Any], value: Any, path: str) -> None:
        assert list(value.shape) == entries["size"], path
        if "indices" in entries:
            self.check(entries["indices"], value._indices(), path)
            self.check(entries["values"], value._values(), path)
            return
        rows = "csr" in str(value.layout) or "bsr" in str(value.layout)
        compressed = value.crow_indices() if rows else value.ccol_indices()
        plain = value.col_indices() if rows else value.row_indices()
        self.check(entries["compressed_indices"], compressed, path)
        self.check(entries["plain_indices"], plain, path)
        self.check(entries["values"], value.values(), path)

    def quantized(self, entries: dict[Any, Any], value: Any, path: str) -> None:
        assert value.is_quantized and str(value.dtype) == f"torch.{entries['dtype']}", path
        if "shape" in entries:
            assert list(value.shape) == entries["shape"], path
            return
        integers = entries["int_repr"]
        assert value.int_repr().numpy().tobytes() == integers.read().tobytes(), path
        assert str(value.qscheme()) == f"torch.{entries['scheme']}", path
        if "axis" in entries:
            scales, zeros = value.q_per_channel_scales(), value.q_per_channel_zero_points()
            assert scales.numpy().tobytes() == entries["scales"].read().tobytes(), path
            assert zeros.tolist() == entries["zero_points"].read().tolist(), path
        else:
            assert value.q_scale() == entries["scale"], path
            assert value.q_zero_point() == entries["zero_point"], path


def plain_bits(value: Any) -> Any:
    if isinstance(value, float):
        return struct.pack("d", value)
    if isinstance(value, complex):
        return struct.pack("dd", value.real, value.imag)
    return value


def assert_same(node: Any, value: Any) -> None:
    """Raise AssertionError, naming the place, unless `value` is what `node` says."""
    Comparison().check(node, value)
