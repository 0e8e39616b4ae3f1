"""Tensors that are more than elements at strides: sparse, nested, quantized, without data.

Each becomes an `Object` of its parts, which are plain data and ordinary tensors.
"""

from __future__ import annotations

from portackpt.dtypes import BY_NAME, UINT8
from portackpt.errors import DamagedError
from portackpt.tensor import Tensor, contiguous
from portackpt.tree import Node, Object
from portackpt_torch.pickled import Call, Global, Raw
from portackpt_torch.storages import Storage
from portackpt_torch.tensors import (
    arguments,
    attributes_of,
    short,
    size,
    storage_of,
    strided,
    typed,
)
from portackpt_torch.values import Builder, Handler

COMPRESSED = ("sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc")


def _sparse(builder: Builder, call: Call) -> Node:
    layout, data = arguments(call, 2, 2)
    name = layout.args[0] if type(layout) is Call and len(layout.args) == 1 else None
    name = name.removeprefix("torch.") if type(name) is str else None
    if name == "sparse_coo" and type(data) is tuple and len(data) in (3, 4):
        entries = {
            "indices": builder.node(data[0]),
            "values": builder.node(data[1]),
            "size": list(size(data[2])),
            "is_coalesced": builder.node(data[3]) if len(data) == 4 else None,
        }
    elif name in COMPRESSED and type(data) is tuple and len(data) == 4:
        entries = {
            "compressed_indices": builder.node(data[0]),
            "plain_indices": builder.node(data[1]),
            "values": builder.node(data[2]),
            "size": list(size(data[3])),
        }
    else:
        raise DamagedError(f"a sparse tensor of layout {name!r} with {short(data)}")
    for part in list(entries.values())[:2]:
        if not isinstance(part, Tensor):
            raise DamagedError("the parts of a sparse tensor are no tensors")
    return Object(f"torch.{name}_tensor", entries=entries)


def _nested(builder: Builder, call: Call) -> Node:
    parts = arguments(call, 4, 4)
    names = ("buffer", "sizes", "strides", "offsets")
    entries = {name: builder.node(part) for name, part in zip(names, parts, strict=True)}
    return Object("torch.nested_tensor", entries=entries)


def _meta(builder: Builder, call: Call) -> Node:
    kind, shape, strides, requires_grad = arguments(call, 4, 4)
    return Object(
        "torch.meta_tensor",
        entries={
            "dtype": builder.node(kind),
            "shape": list(size(shape)),
            "strides": list(size(strides)),
            "requires_grad": builder.node(requires_grad),
        },
    )


# how torch shows the integers of a quantized tensor, and how many stand in a byte
INTEGERS = {
    "qint8": ("int8", 1),
    "quint8": ("uint8", 1),
    "qint32": ("int32", 1),
    "quint4x2": ("uint8", 2),
    "quint2x4": ("uint8", 4),
}


def _check_packed(
    storage: Storage, packed: int, offset: Raw, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    """Elements of which several stand in a byte must lie in their storage, too."""
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=False))
    held = storage.extent * packed
    if len(shape) != len(strides) or not offset >= 0 or (all(shape) and last >= held):
        raise DamagedError(
            f"a tensor of shape {shape}, strides {strides} and offset {offset} does not fit the "
            f"{held} elements of storage {storage.key!r}"
        )


def _quantized(builder: Builder, call: Call) -> Node:
    """Integers, and how they stand for real numbers."""
    raw, offset, shape, strides, quantizer, requires_grad, _ = arguments(call, 7, 7)
    storage = storage_of(builder, raw)
    kind = typed(storage).name
    if kind not in INTEGERS or type(quantizer) is not tuple or len(quantizer) not in (3, 4):
        raise DamagedError(f"a quantized tensor of {kind} with {short(quantizer)}")
    scheme, scale, zero_point, *axis = quantizer
    if type(scheme) is not Global or scheme.module != "torch":
        raise DamagedError(f"no scheme of a quantized tensor: {short(scheme)}")
    dtype, packed = INTEGERS[kind]
    if type(offset) is not int:
        raise DamagedError(f"a quantized tensor has offset {short(offset)}")
    attributes = attributes_of(requires_grad, None)
    entries: dict[Node, Node] = {"dtype": kind}
    if packed > 1:
        _check_packed(storage, packed, offset, size(shape), size(strides))
        source, base = (storage.home or builder.storages).find(storage, UINT8)
        entries["int_repr"] = contiguous(UINT8, (storage.nbytes,), source, base, attributes)
        entries |= {"offset": builder.node(offset), "shape": list(size(shape))}
        entries["strides"] = list(size(strides))
    else:
        entries["int_repr"] = strided(
            builder, storage, BY_NAME[dtype], offset, shape, strides, attributes
        )
    names = ("scales", "zero_points", "axis") if axis else ("scale", "zero_point")
    entries["scheme"] = scheme.name
    for name, part in zip(names, (scale, zero_point, *axis), strict=True):
        entries[name] = builder.node(part)
    return Object("torch.quantized_tensor", entries=entries)


KNOWN: dict[str, Handler] = {
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_nested_tensor": _nested,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta,
    "torch._utils._rebuild_qtensor": _quantized,
}
