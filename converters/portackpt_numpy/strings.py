"""Arrays of text: numpy's fixed widths, and elements of any length.

`S` elements are bytes and `U` elements are UTF-32, both filled up with zeros, so that an element
that ends in a zero cannot be told from a shorter one. Strings that do not fit into `S`, or would
take many times their size there, are one record of their shape, their ends, and their bytes.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any

from portackpt.errors import DamagedError
from portackpt.tensor import Tensor, from_strings
from portackpt_numpy.npy import Descr, Header

if TYPE_CHECKING:
    import numpy as np

DESCR = "numpy.descr"
"""The attribute of a tensor that remembers its numpy dtype."""
EAGER = 16 << 20
"""Bytes of fixed-width text that are read at once; a larger array stays bytes on disk."""


def decode(data: bytes, header: Header) -> Tensor:
    """The strings of the elements `data` of a dtype `S` or `U`, as UTF-8 in the latter case."""
    import numpy as np

    assert isinstance(header.descr, str)
    dtype = np.dtype(header.descr)
    values = np.frombuffer(data, dtype) if data else np.zeros(header.shape, "S1")
    if data and dtype.kind == "U" and np.any(values.view(f"{dtype.byteorder}u4") > 0x10FFFF):
        raise DamagedError(f"not text of {header.descr}: a letter beyond those of Unicode")
    if header.fortran_order:
        values = values.reshape(header.shape, order="F")
    found = [
        value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        for value in values.reshape(-1).tolist()
    ]
    held = from_strings(found, header.shape)
    return Tensor(held.dtype, held.shape, held.layout, {DESCR: header.descr})


def encode(tensor: Tensor) -> tuple[Descr, tuple[int, ...], np.ndarray[Any, Any]]:
    """(descr, shape, elements) that hold the strings of `tensor` and nothing else."""
    import numpy as np

    values = tensor.read()
    flat = [bytes(value) for value in values.reshape(-1)]
    descr = tensor.attributes.get(DESCR)
    if isinstance(descr, str) and descr[1:2] in ("S", "U"):
        again = _fixed(flat, descr)
        if again is not None:
            return descr, tensor.shape, again
    width = max(map(len, flat), default=0) or 1
    total = sum(map(len, flat))
    if not any(value.endswith(b"\0") for value in flat) and (
        width * len(flat) <= max(EAGER, 8 * total)
    ):
        return f"|S{width}", tensor.shape, np.array(flat, f"S{width}")
    return _record(tensor.shape, flat, total)


def _fixed(values: list[bytes], descr: str) -> np.ndarray[Any, Any] | None:
    """`values` in the dtype they came from; None where they no longer fit."""
    import numpy as np

    dtype = np.dtype(descr)
    if dtype.itemsize == 0:
        return np.zeros(0, "u1") if not any(values) else None
    try:
        plain: list[Any] = list(values)
        if dtype.kind == "U":
            plain = [value.decode("utf-8", "surrogatepass") for value in values]
        array = np.array(plain, dtype)
    except UnicodeError:
        return None
    return array if array.tolist() == plain else None


_NAMES = ("shape", "ends", "data")


def _record(
    shape: tuple[int, ...], values: list[bytes], total: int
) -> tuple[Descr, tuple[int, ...], np.ndarray[Any, Any]]:
    """One record: the shape, where each string ends, and the bytes of all of them."""
    import numpy as np

    counts = (len(shape), len(values), total)
    fields: list[tuple[object, ...]] = [
        (name, kind, (count,))
        for name, kind, count in zip(_NAMES, ("<i8", "<u8", "|u1"), counts, strict=True)
    ]
    ends = np.cumsum([len(value) for value in values], dtype="<u8")
    data = np.array(shape, "<i8").tobytes() + ends.tobytes() + b"".join(values)
    return fields, (), np.frombuffer(data, "u1")


def is_record(descr: Descr, shape: tuple[int, ...]) -> bool:
    """True for the dtype that `encode` gives strings of any length."""
    return (
        isinstance(descr, list)
        and shape == ()
        and tuple([field[0] for field in descr]) == _NAMES
        and tuple([field[1] for field in descr]) == ("<i8", "<u8", "|u1")
        and all(len(field) == 3 for field in descr)
    )


def decode_record(data: bytes, descr: Descr) -> Tensor:
    """The strings of a record."""
    import numpy as np

    rank, count, total = (field[2][0] for field in descr)  # type: ignore[index]
    shape = tuple(np.frombuffer(data, "<i8", rank).tolist())
    ends = [0, *np.frombuffer(data, "<u8", count, 8 * rank).tolist()]
    held = data[8 * (rank + count) :]
    if (
        any(n < 0 for n in shape)
        or prod(shape) != count
        or ends[-1] != total
        or any(end < start for start, end in pairwise(ends))
    ):
        raise DamagedError(f"a record of {count} strings whose ends do not fit its {total} bytes")
    return from_strings([held[a:b] for a, b in pairwise(ends)], shape)
