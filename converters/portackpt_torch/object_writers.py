"""The objects that torch's own unpickler rebuilds, and how a pickle spells them.

A type is here if `torch.load(weights_only=True)` allows what makes it (numpy's dtypes need to be
allowed as in the file they came from). `fits` says whether an object has the parts that its type is
made of here; everything else is written as plain data, which is done before writing begins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from portackpt.dtypes import BY_NAME, BY_TORCH
from portackpt.tensor import Tensor
from portackpt.tree import PLAIN, Node, Object
from portackpt_torch.compound_tensors import COMPRESSED, INTEGERS
from portackpt_torch.pickle_writer import ObjectWriter, Pickler
from portackpt_torch.shelf import Place, Shelved
from portackpt_torch.tensor_writer import write_quantized, write_stated, write_storage
from portackpt_torch.tensors import PARAMETER


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of objects: which of them fit, and how one is written."""

    fits: Callable[[Object], bool]
    write: ObjectWriter


def fits(node: Object) -> bool:
    """Whether `node` is written as the object that it is."""
    kind = KINDS.get(node.type)
    return kind is not None and kind.fits(node)


def _only(
    node: Object, *, args: int = 0, items: bool = False, entries: bool = False, state: bool = False
) -> bool:
    """Whether the object has no parts but those named."""
    return (
        len(node.args) == args
        and (items or node.items is None)
        and (entries or node.entries is None)
        and (state or node.state is None)
    )


def _are(values: Node, *kinds: type) -> bool:
    return isinstance(values, (list, tuple)) and all(type(value) in kinds for value in values)


# Python's own types


def _ordered_dict_fits(node: Object) -> bool:
    plain = node.state is None or type(node.state) is dict
    return _only(node, entries=True, state=True) and type(node.entries) is dict and plain


def _write_ordered_dict(pickler: Pickler, node: Object) -> None:
    pickler.call("collections", "OrderedDict")
    pickler.entries(node.entries or {})
    if node.state is not None:
        pickler.build(node.state)


def _write_counter(pickler: Pickler, node: Object) -> None:
    pickler.call("collections", "Counter", node.entries or {})


def _counter_fits(node: Object) -> bool:
    return _only(node, entries=True) and type(node.entries) is dict


def _set_fits(node: Object) -> bool:
    """Whether the items are a set's: hashable and distinct."""
    if not _only(node, items=True) or node.items is None or not all(map(_hashable, node.items)):
        return False
    plain = [item for item in node.items if type(item) in PLAIN]
    return len(set(plain)) == len(plain)


def _hashable(node: Node) -> bool:
    if isinstance(node, tuple):
        return all(map(_hashable, node))
    if isinstance(node, Object):
        return fits(node) and KINDS[node.type].write in (_write_name, _write_call, _write_size)
    return isinstance(node, (Tensor, *PLAIN))


def _write_set(pickler: Pickler, node: Object) -> None:
    pickler.call("__builtin__", "set", node.items or [])


def _bytearray_fits(node: Object) -> bool:
    return _only(node, args=1) and _are(node.args, bytes)


def _write_bytearray(pickler: Pickler, node: Object) -> None:
    pickler.call("__builtin__", "bytearray", *node.args)


# values of torch


def _bare(node: Object) -> bool:
    return _only(node)


def _write_name(pickler: Pickler, node: Object) -> None:
    module, _, name = node.type.rpartition(".")
    pickler.name(module, name)


def _write_call(pickler: Pickler, node: Object) -> None:
    module, _, name = node.type.rpartition(".")
    pickler.call(module, name, *node.args)


def _size_fits(node: Object) -> bool:
    return _only(node, items=True) and _are(node.items, int)


def _write_size(pickler: Pickler, node: Object) -> None:
    pickler.call("torch", "Size", tuple(node.items or ()))


def _device_fits(node: Object) -> bool:
    return (
        len(node.args) in (1, 2)
        and _only(node, args=len(node.args))
        and [type(part) for part in node.args] in ([str], [str, int])
    )


def _layout_fits(node: Object) -> bool:
    return _only(node, args=1) and _are(node.args, str)


def _storage_fits(node: Object) -> bool:
    values = (node.entries or {}).get("values")
    return (
        _only(node, entries=True)
        and isinstance(values, Tensor)
        and len(values.shape) == 1
        and list(node.entries or {}) == ["values"]
    )


def _write_bare_storage(pickler: Pickler, node: Object) -> None:
    values: Tensor = (node.entries or {})["values"]
    storage = pickler.shelf.place(values).storage
    if node.type.endswith("UntypedStorage"):
        storage = Shelved(storage.key, None, values.nbytes)
    write_storage(pickler, storage, values)


def _dtype_fits(node: Object) -> bool:
    """A dtype of numpy, as numpy itself pickles it."""
    kinds = [type(part) for part in node.args]
    return (
        kinds == [str, bool, bool]
        and _only(node, args=3, state=True)
        and (node.state is None or type(node.state) is tuple)
    )


def _write_dtype(pickler: Pickler, node: Object) -> None:
    _write_call(pickler, node)
    if node.state is not None:
        pickler.build(node.state)


# tensors that are more than elements at strides


def _named(node: Object, *names: str) -> bool:
    return _only(node, entries=True) and set(node.entries or {}) == set(names)


def _sparse_fits(node: Object) -> bool:
    parts = node.entries or {}
    coo = node.type == "torch.sparse_coo_tensor"
    names = ("indices",) if coo else ("compressed_indices", "plain_indices")
    last = ("is_coalesced",) if coo else ()
    return (
        _named(node, *names, "values", "size", *last)
        and all(isinstance(parts[name], Tensor) for name in (*names, "values"))
        and _are(parts["size"], int)
    )


def _write_sparse(pickler: Pickler, node: Object) -> None:
    layout = Object("torch.serialization._get_layout", (node.type.removesuffix("_tensor"),))
    parts = dict(node.entries or {})
    parts["size"] = Object("torch.Size", items=list(parts["size"]))
    order = ("indices", "compressed_indices", "plain_indices", "values", "size", "is_coalesced")
    data = tuple([parts[name] for name in order if parts.get(name) is not None])
    pickler.call("torch._utils", "_rebuild_sparse_tensor", layout, data)


_NESTED = ("buffer", "sizes", "strides", "offsets")


def _nested_fits(node: Object) -> bool:
    return _named(node, *_NESTED)


def _write_nested(pickler: Pickler, node: Object) -> None:
    parts = node.entries or {}
    pickler.call("torch._utils", "_rebuild_nested_tensor", *[parts[name] for name in _NESTED])


_META = ("dtype", "shape", "strides", "requires_grad")


def _meta_fits(node: Object) -> bool:
    parts = node.entries or {}
    return (
        _named(node, *_META)
        and isinstance(parts["dtype"], Object)
        and fits(parts["dtype"])
        and _are(parts["shape"], int)
        and _are(parts["strides"], int)
        and type(parts["requires_grad"]) is bool
    )


def _write_meta(pickler: Pickler, node: Object) -> None:
    dtype, shape, strides, requires_grad = [(node.entries or {})[name] for name in _META]
    pickler.call(
        "torch._utils", "_rebuild_meta_tensor_no_storage",
        dtype, tuple(shape), tuple(strides), requires_grad,
    )  # fmt: skip


SCHEMES = (
    "per_tensor_affine",
    "per_tensor_symmetric",
    "per_channel_affine",
    "per_channel_symmetric",
    "per_channel_affine_float_qparams",
)
_PER_TENSOR = ("scale", "zero_point")
_PER_CHANNEL = ("scales", "zero_points", "axis")
_PACKED = ("offset", "shape", "strides")


def _quantized_fits(node: Object) -> bool:
    parts = node.entries or {}
    kind = parts.get("dtype")
    if kind not in INTEGERS or parts.get("scheme") not in SCHEMES:
        return False
    names = _PER_CHANNEL if "axis" in parts else _PER_TENSOR
    packed = _PACKED if INTEGERS[kind][1] > 1 else ()
    return (
        _named(node, "dtype", "int_repr", "scheme", *names, *packed)
        and isinstance(parts["int_repr"], Tensor)
        and parts["int_repr"].dtype.name == INTEGERS[kind][0]
    )


def _write_quantized(pickler: Pickler, node: Object) -> None:
    parts = node.entries or {}
    tensor: Tensor = parts["int_repr"]
    place = pickler.shelf.place(tensor, BY_NAME[parts["dtype"]])
    shape = tensor.shape
    if "shape" in parts:
        place = Place(place.storage, parts["offset"], tuple(parts["strides"]))
        shape = tuple(parts["shape"])
    names = _PER_CHANNEL if "axis" in parts else _PER_TENSOR
    quantizer = (parts["scheme"], *[parts[name] for name in names])
    write_quantized(pickler, tensor, place, shape, quantizer)


# tensors with attributes of their own, parameters that are not plain tensors


def _stated_fits(node: Object) -> bool:
    return (
        _only(node, args=1, state=True)
        and isinstance(node.args[0], Tensor)
        and "numpy.class" not in node.args[0].attributes
        and type(node.state) is dict
    )


def _write_stated(pickler: Pickler, node: Object) -> None:
    write_stated(pickler, node.args[0], node.state)


def _parameter_fits(node: Object) -> bool:
    if _stated_fits(node):
        return bool(node.args[0].attributes.get("torch.class") == PARAMETER)
    return (
        _only(node, args=2)
        and isinstance(node.args[0], Object)
        and fits(node.args[0])
        and type(node.args[1]) is bool
    )


def _write_parameter(pickler: Pickler, node: Object) -> None:
    if node.state is not None:
        _write_stated(pickler, node)
    else:
        hooks = Object("collections.OrderedDict")
        pickler.call("torch._utils", "_rebuild_parameter", *node.args, hooks)


_NAMES = [
    *BY_TORCH, *SCHEMES, *(f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8))
]  # fmt: skip

KINDS: dict[str, Kind] = {
    "collections.OrderedDict": Kind(_ordered_dict_fits, _write_ordered_dict),
    "collections.Counter": Kind(_counter_fits, _write_counter),
    "builtins.set": Kind(_set_fits, _write_set),
    "builtins.bytearray": Kind(_bytearray_fits, _write_bytearray),
    "torch.Size": Kind(_size_fits, _write_size),
    "torch.device": Kind(_device_fits, _write_call),
    "torch.serialization._get_layout": Kind(_layout_fits, _write_call),
    "torch.storage.TypedStorage": Kind(_storage_fits, _write_bare_storage),
    "torch.storage.UntypedStorage": Kind(_storage_fits, _write_bare_storage),
    "torch.nested_tensor": Kind(_nested_fits, _write_nested),
    "torch.meta_tensor": Kind(_meta_fits, _write_meta),
    "torch.quantized_tensor": Kind(_quantized_fits, _write_quantized),
    "torch.Tensor": Kind(_stated_fits, _write_stated),
    PARAMETER: Kind(_parameter_fits, _write_parameter),
    "numpy.dtype": Kind(_dtype_fits, _write_dtype),
    **{f"torch.{name}": Kind(_bare, _write_name) for name in _NAMES},
    **{
        f"torch.{name}_tensor": Kind(_sparse_fits, _write_sparse)
        for name in ("sparse_coo", *COMPRESSED)
    },
}
WRITERS = {name: kind.write for name, kind in KINDS.items()}
