"""numpy's arrays, scalars and random states, as pickles hold them.

    _reconstruct(ndarray, (0,), b'b') + state (1, shape, dtype, fortran, bytes)      an array
    _frombuffer(bytes, dtype, shape, order)                                          protocol 5
    scalar(dtype, bytes)                                                             a scalar
    dtype('f8', False, True) + state (3, '<', None, None, None, -1, -1, 0)           a dtype

Numbers become tensors whose attribute `numpy.class` says what they were. Anything else (objects,
records, dates, text) stays an `Object` of its plain data. Big-endian numbers are read as the
little-endian ones that numpy itself makes of them.
"""

from __future__ import annotations

from math import prod

from portackpt.bytesource import ByteSource, InMemory, Swapped
from portackpt.dtypes import BY_NAME, DType
from portackpt.errors import DamagedError
from portackpt.tensor import Strided, Tensor, c_strides
from portackpt.tree import Node
from portackpt_torch.pickled import Call, Global, Raw
from portackpt_torch.storages import swap_width
from portackpt_torch.tensors import size
from portackpt_torch.values import Builder, Handler, encoded, generic

_CODES = {
    "b1": "bool", "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64", "u1": "uint8",
    "u2": "uint16", "u4": "uint32", "u8": "uint64", "f2": "float16", "f4": "float32",
    "f8": "float64", "c8": "complex64", "c16": "complex128",
}  # fmt: skip
CODES = {name: code for code, name in _CODES.items()}
"""The dtypes that numpy pickles as numbers, with their numpy names."""


def _dtype(raw: Raw) -> tuple[DType, bool] | None:
    """A dtype of numbers and whether it is big-endian; None for any other."""
    if type(raw) is not Call or raw.function != Global("numpy", "dtype") or not raw.args:
        return None
    name = _CODES.get(raw.args[0]) if type(raw.args[0]) is str else None
    if name is None or type(raw.state) is not tuple or len(raw.state) < 2:
        return None
    if raw.state[1] not in ("<", ">", "|", "="):
        return None
    return BY_NAME[name], raw.state[1] == ">" and BY_NAME[name].itemsize > 1


def _content(raw: Raw) -> bytes | None:
    if type(raw) is str:  # of Python 2
        return raw.encode("utf-8", "surrogatepass")
    if type(raw) is Call and raw.function == Global("builtins", "bytearray"):
        return encoded(raw.args[0]) if len(raw.args) == 1 else None
    if type(raw) is Call and raw.function == Global("builtins", "bytes") and not raw.args:
        return b""
    return encoded(raw)


def _array(
    kind: tuple[DType, bool], shape: tuple[int, ...], fortran: bool, data: bytes, name: str
) -> Tensor:
    dtype, big = kind
    if prod(shape) * dtype.itemsize != len(data):
        raise DamagedError(
            f"a numpy array of shape {shape} and dtype {dtype} needs "
            f"{prod(shape) * dtype.itemsize} bytes, found {len(data)}"
        )
    source: ByteSource = InMemory(data)
    if big:
        source = Swapped(source, swap_width(dtype))
    strides = c_strides(shape[::-1], dtype.itemsize)[::-1] if fortran else None
    return Tensor(
        dtype,
        shape,
        Strided(source, 0, strides or c_strides(shape, dtype.itemsize)),
        {"numpy.class": name},
    )


def _reconstruct(builder: Builder, call: Call) -> Node:
    state = call.state
    plain = call.args[:1] == (Global("numpy", "ndarray"),)
    if not plain or type(state) is not tuple or len(state) != 5 or call.items or call.entries:
        return generic(builder, call)
    _remember(builder, call)
    _, shape, dtype, fortran, raw = state
    kind, data = _dtype(dtype), _content(raw)
    if kind is None or data is None:
        return generic(builder, call)
    return _array(kind, size(shape), fortran is True, data, "numpy.ndarray")


def _frombuffer(builder: Builder, call: Call) -> Node:
    if len(call.args) != 4 or call.state is not None:
        return generic(builder, call)
    raw, dtype, shape, order = call.args
    kind, data = _dtype(dtype), _content(raw)
    if kind is None or data is None or order not in ("C", "F"):
        return generic(builder, call)
    _remember(builder, call)
    return _array(kind, size(shape), order == "F", data, "numpy.ndarray")


def _scalar(builder: Builder, call: Call) -> Node:
    if len(call.args) != 2 or call.state is not None:
        return generic(builder, call)
    kind, data = _dtype(call.args[0]), _content(call.args[1])
    if kind is None or data is None:
        return generic(builder, call)
    _remember(builder, call)
    return _array(kind, (), False, data, "numpy.scalar")


def _remember(builder: Builder, call: Call) -> None:
    """Which of its two names numpy's core has in this file."""
    builder.facts.setdefault("numpy", call.function.module.rpartition(".")[0])


KNOWN: dict[str, Handler] = {
    f"numpy.{core}.{name}": handler
    for core in ("core", "_core")
    for name, handler in (
        ("multiarray._reconstruct", _reconstruct),
        ("multiarray.scalar", _scalar),
        ("numeric._frombuffer", _frombuffer),
    )
}
