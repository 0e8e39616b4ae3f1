"""Attributes and strings, written through h5py; the HDF5 type of each dtype."""

from __future__ import annotations

from functools import cache
from typing import Any

from portackpt.dtypes import STRING, UINT8, DType
from portackpt.tensor import Tensor
from portackpt.tree import Node
from portackpt_keras.hdf5_names import (
    KIND,
    NULL,
    OPAQUE,
    are_texts,
    fixed_width,
    has_number,
    is_padded,
    is_text,
)


def stored(tensor: Tensor) -> tuple[Any, tuple[int, ...]]:
    """The HDF5 type and shape of a tensor's values."""
    width = tensor.attributes.get(OPAQUE)
    if width is not None and tensor.dtype is UINT8 and tensor.shape[-1:] == (width,):
        return _opaque(width), tensor.shape[:-1]
    return _type(tensor.dtype), tensor.shape


@cache
def _type(dtype: DType) -> Any:
    from h5py import h5t

    if has_number(dtype):
        return h5t.py_create(dtype.to_numpy(), logical=True)
    return _opaque(dtype.itemsize)


@cache
def _opaque(width: int) -> Any:
    import numpy as np
    from h5py import h5t

    return h5t.py_create(np.dtype(f"V{width}"))


def space(tensor: Tensor, shape: tuple[int, ...]) -> Any:
    """The dataspace of a tensor."""
    from h5py import h5s

    if tensor.attributes.get(NULL):
        return h5s.create(h5s.NULL)
    return h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)


def write_attribute(item: Any, name: bytes, value: Node) -> None:
    """Give a dataset or group an attribute: a string or a small tensor."""
    import numpy as np
    from h5py import h5a, h5s, h5t, string_dtype

    if isinstance(value, str):
        array = np.array(value, string_dtype())
    elif isinstance(value, bytes):
        array = np.array(value, f"S{len(value)}")
    elif value.dtype is STRING:
        array = _string_array(value)
    else:
        kind, shape = stored(value)
        attribute = h5a.create(item, name, kind, space(value, shape))
        if value.nbytes:
            raw = b"".join(bytes(piece) for piece in value.pieces())
            attribute.write(np.frombuffer(raw, f"V{kind.get_size()}").reshape(shape), mtype=kind)
        return
    null = isinstance(value, Tensor) and value.attributes.get(NULL)
    extent = h5s.NULL if null else None if array.shape else h5s.SCALAR
    room = h5s.create_simple(array.shape) if extent is None else h5s.create(extent)
    attribute = h5a.create(item, name, h5t.py_create(array.dtype, logical=True), room)
    if array.size and not null:
        attribute.write(array)


def _string_array(tensor: Tensor) -> Any:
    """The strings of a tensor as h5py takes them: padded, or of any length."""
    import numpy as np
    from h5py import string_dtype, vlen_dtype

    values = tensor.read()
    plain = [bytes(value) for value in values.flat]
    width = fixed_width(tensor, plain)
    if width:
        return values.astype(f"S{width}")
    if are_texts(plain):
        return values.astype(string_dtype())
    blobs = np.empty(values.shape, vlen_dtype(np.uint8))
    for index, value in np.ndenumerate(values):
        blobs[index] = np.frombuffer(value, np.uint8)
    return blobs


def write_strings(group: Any, name: bytes, tensor: Tensor) -> Any:
    """A dataset of a tensor's strings."""
    from h5py import Empty, Group

    array = _string_array(tensor)
    if tensor.attributes.get(NULL):
        return Group(group).create_dataset(name, data=Empty(array.dtype)).id
    item = Group(group).create_dataset(name, array.shape, array.dtype, data=array).id
    if not tensor.shape:
        write_attribute(item, KIND.encode(), "tensor")
    return item


def write_string(group: Any, name: bytes, value: str | bytes) -> Any:
    """A dataset of one string, which reads as what it is: `str` or `bytes`."""
    import numpy as np
    from h5py import Dataset, Group, string_dtype, vlen_dtype

    parent = Group(group)
    if isinstance(value, str) and is_text(value):
        return parent.create_dataset(name, data=value, dtype=string_dtype()).id
    if isinstance(value, bytes) and is_padded(value):
        return parent.create_dataset(name, data=np.array(value, f"S{len(value)}")).id
    item = parent.create_dataset(name, (), vlen_dtype(np.uint8)).id
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    Dataset(item)[()] = np.frombuffer(data, np.uint8)
    write_attribute(item, KIND.encode(), type(value).__name__)
    return item
