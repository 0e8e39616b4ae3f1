"""Tensors: what torch's rebuild functions would have made, from their arguments.

The functions and their arguments are those of `torch/_utils.py` and `torch/_tensor.py`. Nothing is
called; every number is checked against the storage it speaks of before anything is made of it.
Tensors that are made of other tensors (sparse, quantized, …) are in `compound_tensors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from portackpt.dtypes import BY_TORCH, UINT8, DType
from portackpt.errors import DamagedError, RefusedError, UnsupportedError
from portackpt.tensor import Strided, Tensor, contiguous
from portackpt.tree import PLAIN, Node, Object
from portackpt_torch import legacy
from portackpt_torch.pickled import Call, Global, Raw
from portackpt_torch.storages import MAX_NUMEL, Storage
from portackpt_torch.values import Builder, Handler, encoded, generic

FROM_BYTES = Global("torch.storage", "_load_from_bytes")
PARAMETER = "torch.nn.parameter.Parameter"
MAX_RANK = 64
LARGE = 1 << 31
MAX_REPEAT = 4096
"""A tensor of over 2 GiB may be at most so many times as large as its storage (strides of 0)."""

_NOTHING: Mapping[str, Any] = {}


def strided(
    builder: Builder,
    storage: Storage,
    dtype: DType,
    offset: Raw,
    shape: Raw,
    strides: Raw,
    attributes: Mapping[str, Any] = _NOTHING,
) -> Tensor:
    """Elements of `storage`, once offset, shape and strides (in elements) are known to fit it."""
    shape, strides = size(shape), size(strides)
    if type(offset) is not int or offset < 0 or len(shape) != len(strides):
        raise DamagedError(
            f"a tensor of storage {storage.key!r} has offset {offset}, shape {shape}, "
            f"strides {strides}"
        )
    itemsize = dtype.itemsize
    nbytes = itemsize
    end = (offset + 1) * itemsize
    byte_strides = []
    for n, stride in zip(shape, strides, strict=True):
        nbytes *= n
        step = stride * itemsize
        end += (n - 1) * step
        byte_strides.append(step)
    extent = storage.extent
    if nbytes and end > extent:
        raise DamagedError(
            f"a {dtype} tensor of shape {shape}, strides {strides} and offset {offset} reaches "
            f"byte {end} of storage {storage.key!r}, which has {extent}"
        )
    if nbytes > LARGE and nbytes > MAX_REPEAT * extent:
        raise RefusedError(
            f"a tensor of shape {shape} repeats the {extent} bytes of storage "
            f"{storage.key!r} more than {MAX_REPEAT} times"
        )
    source, base = (storage.home or builder.storages).find(storage, dtype)
    if storage.location != "cpu":
        attributes = {**attributes, "device": storage.location}
    layout = Strided(source, base + offset * itemsize, tuple(byte_strides))
    return Tensor(dtype, shape, layout, attributes)


def size(raw: Raw) -> tuple[int, ...]:
    """A shape or strides: a tuple of sensible integers, or a `torch.Size` of one."""
    if type(raw) is Call and raw.function == Global("torch", "Size") and len(raw.args) == 1:
        raw = raw.args[0]
    if type(raw) is tuple and len(raw) <= MAX_RANK:
        for n in raw:
            if type(n) is not int or not 0 <= n <= MAX_NUMEL:
                break
        else:
            return raw
    raise DamagedError(f"no shape or strides: {short(raw)}")


def short(raw: Raw) -> str:
    text = type(raw).__name__ if isinstance(raw, (list, dict, Call)) else repr(raw)
    return text if len(text) <= 80 else text[:77] + "..."


def storage_of(builder: Builder, raw: Raw) -> Storage:
    """The storage that `raw` is, or that stands as bytes in the pickle itself."""
    if type(raw) is Storage:
        return raw
    if type(raw) is Call and raw.function == FROM_BYTES:
        if id(raw) not in builder.nested:
            data = encoded(raw.args[0]) if len(raw.args) == 1 else None
            if data is None:
                raise DamagedError(f"no bytes of a storage in {FROM_BYTES.dotted}")
            builder.nested[id(raw)] = legacy.storage_in(data)
        return builder.nested[id(raw)]
    raise DamagedError(f"a tensor stands on a {type(raw).__name__} instead of a storage")


def arguments(call: Call, least: int, most: int) -> tuple[Raw, ...]:
    """The arguments, with None for those left out; a rebuilt tensor takes nothing else."""
    name = call.function.dotted
    if not least <= len(call.args) <= most or call.keywords is not None:
        raise DamagedError(f"{name} takes {least} to {most} arguments, found {len(call.args)}")
    if call.items is not None or call.entries is not None or call.state is not None:
        raise RefusedError(
            f"what {name} makes is a tensor; items, entries or state are put into it"
        )
    return call.args + (None,) * (most - len(call.args))


def attributes_of(requires_grad: Raw, metadata: Raw) -> Mapping[str, Any]:
    if requires_grad is False and not metadata:
        return _NOTHING
    if type(requires_grad) is not bool:
        raise DamagedError(f"requires_grad is {short(requires_grad)}")
    attributes: dict[str, Any] = {"requires_grad": True} if requires_grad else {}
    if metadata:
        if type(metadata) is not dict or not metadata.keys() <= {"conj", "neg"}:
            raise UnsupportedError(f"unknown tensor metadata {short(metadata)}")
        attributes.update({name: True for name, value in metadata.items() if value is True})
    return attributes


def _hooked(builder: Builder, tensor: Node, hooks: Raw) -> Node:
    """The tensor, with the backward hooks that old versions of torch saved."""
    if type(hooks) is Call and hooks.entries:
        return Object("torch.Tensor", (tensor,), state={"_backward_hooks": builder.node(hooks)})
    return tensor


def typed(storage: Storage) -> DType:
    if storage.dtype is None:
        return UINT8
    return storage.dtype


def _tensor_v1(builder: Builder, call: Call) -> Node:
    raw, offset, shape, strides = arguments(call, 4, 4)
    storage = storage_of(builder, raw)
    return strided(builder, storage, typed(storage), offset, shape, strides)


def _tensor_v2(builder: Builder, call: Call) -> Node:
    raw, offset, shape, strides, requires_grad, hooks, metadata = arguments(call, 6, 7)
    storage = raw if type(raw) is Storage else storage_of(builder, raw)
    attributes = attributes_of(requires_grad, metadata)
    tensor = strided(builder, storage, typed(storage), offset, shape, strides, attributes)
    return _hooked(builder, tensor, hooks)


def _tensor_v3(builder: Builder, call: Call) -> Node:
    raw, offset, shape, strides, requires_grad, hooks, kind, metadata = arguments(call, 7, 8)
    storage = storage_of(builder, raw)
    attributes = attributes_of(requires_grad, metadata)
    tensor = strided(builder, storage, dtype_of(kind), offset, shape, strides, attributes)
    return _hooked(builder, tensor, hooks)


def dtype_of(raw: Raw) -> DType:
    found = BY_TORCH.get(raw.name) if type(raw) is Global and raw.module == "torch" else None
    if found is None:
        raise UnsupportedError(f"no dtype of a tensor: {short(raw)}")
    return found


def _legacy_tensor(builder: Builder, call: Call) -> Node:
    """`torch.FloatTensor` and its like, up to torch 0.1: the state is what `set_` takes."""
    if type(call.state) is not tuple or len(call.state) != 4 or call.args:
        return generic(builder, call)
    raw, offset, shape, strides = call.state
    storage = storage_of(builder, raw)
    return strided(builder, storage, typed(storage), offset, shape, strides)


def _parameter(builder: Builder, call: Call) -> Node:
    """A tensor that is a parameter; `call.args` are the data, requires_grad, hooks and a state."""
    stated = call.function.name.endswith("_with_state")
    raw, requires_grad, hooks, state = arguments(call, 4 if stated else 3, 4)
    node = _as_parameter(builder.node(raw), requires_grad)
    if hooks is not None:
        node = _hooked(builder, node, hooks)
    return _stated(builder, node, PARAMETER, state) if stated else node


def _as_parameter(node: Node, requires_grad: Raw) -> Node:
    if type(requires_grad) is not bool:
        raise DamagedError(f"requires_grad is {short(requires_grad)}")
    if isinstance(node, Tensor):
        facts = {"torch.class": PARAMETER, "requires_grad": requires_grad}
        return replace(node, attributes={**node.attributes, **facts})
    return Object(PARAMETER, (node, requires_grad))


def _legacy_parameter(builder: Builder, call: Call) -> Node:
    """A parameter up to torch 0.3: `Parameter(data)`, state (requires_grad, volatile, hooks)."""
    if len(call.args) != 1 or type(call.state) is not tuple or len(call.state) != 3:
        return generic(builder, call)
    return _as_parameter(builder.node(call.args[0]), call.state[0])


def _stated(builder: Builder, node: Node, kind: str, state: Raw) -> Node:
    """A tensor with attributes of its own: beside it where they are plain, around it where not."""
    if not state:
        return node
    attributes = builder.node(state)
    if isinstance(node, Tensor) and type(attributes) is dict and _is_plain(attributes):
        return replace(node, attributes={**node.attributes, "state": attributes})
    return Object(kind, (node,), state=attributes)


def _is_plain(node: Node) -> bool:
    if isinstance(node, dict):
        return all(type(key) is str and _is_plain(item) for key, item in node.items())
    if isinstance(node, (list, tuple)):
        return all(map(_is_plain, node))
    return isinstance(node, PLAIN)


def _from_type(builder: Builder, call: Call) -> Node:
    """A tensor of some class: its rebuild function, the class, the arguments, the state."""
    function, kind, args, state = arguments(call, 4, 4)
    if type(function) is not Global or type(kind) is not Global or type(args) is not tuple:
        return generic(builder, call)
    if function.name == "_rebuild_wrapper_subclass":
        state = None if state is None else builder.node(state)
        return Object(kind.dotted, tuple(builder.items(args)), state=state)
    inner = Call(function, args)
    node = builder.node(inner)
    if kind.dotted in ("torch.Tensor", "torch._tensor.Tensor"):
        return _stated(builder, node, "torch.Tensor", state)
    if kind.dotted == PARAMETER and isinstance(node, Tensor):
        node = _as_parameter(node, node.attributes.get("requires_grad", False))
        return _stated(builder, node, PARAMETER, state)
    return Object(kind.dotted, (node,), state=builder.node(state))


def _wrapper(builder: Builder, call: Call) -> Node:
    kind, *args = call.args or (None,)
    if type(kind) is not Global or call.state or call.items or call.entries:
        return generic(builder, call)
    return Object(kind.dotted, tuple(builder.items(args)))


def _from_cpu(builder: Builder, call: Call) -> Node:
    """A tensor of a device without storages of its own, saved as a CPU tensor or numpy array."""
    data, kind, device, requires_grad = arguments(call, 4, 4)
    node = builder.node(data)
    if not isinstance(node, Tensor) or dtype_of(kind) is not node.dtype or type(device) is not str:
        return generic(builder, call)
    attributes = attributes_of(requires_grad, None)
    return replace(node, attributes={**attributes, "device": device})


def _storage_in_bytes(builder: Builder, call: Call) -> Node:
    return _bare_storage(builder, storage_of(builder, call))


def _bare_storage(builder: Builder, storage: Any) -> Node:
    """A storage that stands for itself."""
    dtype = typed(storage)
    source, base = (storage.home or builder.storages).find(storage, dtype)
    facts = {"device": storage.location} if storage.location != "cpu" else _NOTHING
    values = contiguous(dtype, (storage.numel,), source, base, facts)
    kind = "UntypedStorage" if storage.dtype is None else "TypedStorage"
    return Object(f"torch.storage.{kind}", entries={"values": values})


def _torch_size(builder: Builder, call: Call) -> Node:
    return Object("torch.Size", items=list(size(call)) if call.args else [])


_LEGACY = [
    f"torch.{place}{kind}Tensor"
    for place in ("", "cuda.")
    for kind in (
        "Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool",
    )
]  # fmt: skip

KNOWN: dict[str, Handler] = {
    "storage": _bare_storage,
    FROM_BYTES.dotted: _storage_in_bytes,
    "torch.Size": _torch_size,
    "torch._utils._rebuild_tensor": _tensor_v1,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _legacy_parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch._utils._rebuild_wrapper_subclass": _wrapper,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _from_cpu,
    "torch._utils._rebuild_device_tensor_from_numpy": _from_cpu,
    "torch._utils._rebuild_xla_tensor": _from_cpu,
    **dict.fromkeys(_LEGACY, _legacy_tensor),
}
