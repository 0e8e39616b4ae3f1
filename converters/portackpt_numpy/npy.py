r"""The header of a .npy file: dtype, order, shape.

    \x93NUMPY   major minor   n (2 bytes; 4 from version 2)   n bytes of text            elements
                                                              {'descr': '<f4', 'fortran_order':
                                                              False, 'shape': (2, 3), }   \n

Source: numpy/lib/_format_impl.py. Versions 1 and 2 have text in latin-1, version 3 in UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TypeAlias

from portackpt.dtypes import BY_NAME, STRING, UINT8, DType
from portackpt.errors import DamagedError, RefusedError, UnsupportedError
from portackpt_numpy.literal import parse

MAGIC = b"\x93NUMPY"
Descr: TypeAlias = str | list[tuple[object, ...]]
"""A dtype as numpy spells it: `<f4`, or the fields of a structured dtype."""
_MAX_HEADER = 1 << 20
_USUAL = 128
"""Bytes of most headers, with what stands before the text."""
_MAX_RANK = 64
_GROWTH = 21
"""Spaces that numpy leaves so that the first dimension may grow in place."""

_KINDS = {"b1": "bool", **{f"i{n}": f"int{8 * n}" for n in (1, 2, 4, 8)},
          **{f"u{n}": f"uint{8 * n}" for n in (1, 2, 4, 8)},
          "f2": "float16", "f4": "float32", "f8": "float64", "c8": "complex64",
          "c16": "complex128"}  # fmt: skip
# ml_dtypes' types as numpy.save spells them; its other types are all spelled <V1
_EXTENSIONS = {"<V2": "bfloat16", "<f1": "float8_e5m2"}
SPELLINGS = {
    **{name: ("|" if kind[1:] == "1" else "<") + kind for kind, name in _KINDS.items()},
    "bfloat16": "<V2",
}
_SIMPLE = re.compile(r"([<>|=]?)([A-Za-z?])(\d{1,9})(\[[^\]]{1,20}\])?")


@dataclass(frozen=True, slots=True)
class Element:
    """What an element of `itemsize` bytes in the file is to us.

    `is_plain`: the dtype says all, so that `descr` need not be remembered. `is_opaque`: a dtype
    that we do not have (structured, void, long double; text too large to be read at once) is
    carried as its bytes, in one more dimension.
    """

    dtype: DType
    itemsize: int
    swapped: bool = False
    is_plain: bool = True

    @property
    def is_opaque(self) -> bool:
        return self.dtype is STRING or (self.dtype is UINT8 and not self.is_plain)


@dataclass(frozen=True, slots=True)
class Header:
    """Elements of the dtype `descr` and what that is to us."""

    descr: Descr
    fortran_order: bool
    shape: tuple[int, ...]
    element: Element


def read_header(read: Callable[[int, int], bytes], size: int) -> tuple[Header, int]:
    """The header of a file of `size` bytes, and where the elements begin.

    `read(offset, count)` gives some of the bytes; it is called in their order.
    """
    if size < 10:
        raise DamagedError(f"a .npy file has at least 10 bytes, found {size}")
    head = read(0, min(size, _USUAL))
    if not head.startswith(MAGIC):
        raise DamagedError(f"a .npy file begins with {MAGIC!r}, found {head[:6]!r}")
    major = head[6]
    if major not in (1, 2, 3):
        raise UnsupportedError(f"a .npy file of version {major}; known are 1, 2 and 3")
    count, start = int.from_bytes(head[8:10], "little"), 10
    if major > 1:
        if size < 12:
            raise DamagedError("the header is cut short")
        count, start = int.from_bytes(head[8:12], "little"), 12
    if count > _MAX_HEADER:
        raise RefusedError(f"a header of {count} bytes, at most {_MAX_HEADER} are read")
    if start + count > size:
        raise DamagedError(f"the header claims {count} bytes, {size - start} follow")
    end = start + count
    text = head[start:end]
    if end > len(head):
        text += read(len(head), end - len(head))
    return _understood(text, major), end


@lru_cache(64)
def _understood(data: bytes, major: int) -> Header:
    """What a header says; an archive of many arrays has few different ones."""
    try:
        fields = parse(data.decode("utf-8" if major == 3 else "latin-1"))
    except UnicodeDecodeError as error:
        raise DamagedError(f"the header is not UTF-8: {error}") from None
    if not isinstance(fields, dict) or fields.keys() != {"descr", "fortran_order", "shape"}:
        raise DamagedError(f"the header has descr, fortran_order and shape, found {fields!r:.100}")
    descr, order, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if not isinstance(descr, (str, list)):
        raise DamagedError(f"descr is text or a list of fields, found {descr!r:.100}")
    if not isinstance(order, bool):
        raise DamagedError(f"fortran_order is True or False, found {order!r}")
    return Header(descr, order, _shape(shape), element(descr))


def _shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise DamagedError(f"a shape is a tuple of sizes, found {shape!r:.100}")
    if len(shape) > _MAX_RANK or prod(shape) >= 1 << 63 or any(n >= 1 << 63 for n in shape):
        raise RefusedError(f"shape {shape!r:.100} is beyond {_MAX_RANK} dimensions or 2^63")
    return shape


def element(descr: Descr) -> Element:
    """What the elements of a `descr` are. Objects are refused: they are a pickle."""
    if isinstance(descr, list):
        return Element(UINT8, _fields_size(descr, 0), is_plain=False)
    if descr in _EXTENSIONS:
        dtype = BY_NAME[_EXTENSIONS[descr]]
        return Element(dtype, dtype.itemsize)
    match = _SIMPLE.fullmatch(descr)
    if descr.lstrip("<>|=") == "O" or (match is not None and match[2] == "O"):
        raise UnsupportedError(
            "an array of Python objects is kept as a pickle, which is not read here; "
            "save it as an array of numbers or text"
        )
    if match is None:
        raise DamagedError(f"no dtype is spelled {descr!r:.50}")
    order, kind, digits, unit = match.groups()
    size = int(digits)
    swapped = order == ">"
    name = _KINDS.get(kind + digits)
    if name is not None and not unit:
        swapped = swapped and size > 1
        return Element(BY_NAME[name], size, swapped, not swapped)
    if kind in "mM" and size == 8:  # a date or a duration: 64-bit integers of some unit
        return Element(BY_NAME["int64"], 8, swapped, False)
    if kind in "SaU":
        return Element(STRING, 4 * size if kind == "U" else size, swapped and kind == "U", False)
    if kind == "V" or (kind in "fc" and size in (10, 12, 16, 20, 24, 32)):
        return Element(UINT8, size, is_plain=False)
    raise DamagedError(f"no dtype is spelled {descr!r:.50}")


def _fields_size(fields: list[tuple[object, ...]], depth: int) -> int:
    """Bytes of a structured dtype: the sum of its fields, which are (name, descr[, shape])."""
    total = 0
    for field in fields:
        if depth > 16 or not isinstance(field, tuple) or len(field) not in (2, 3):
            raise DamagedError(f"a field is (name, dtype[, shape]), found {field!r:.100}")
        inner = field[1]
        if isinstance(inner, list):
            size = _fields_size(inner, depth + 1)
        elif isinstance(inner, str):
            size = element(inner).itemsize
        else:
            raise DamagedError(f"a field has a dtype, found {inner!r:.100}")
        total += size * prod(_shape(field[2] if len(field) == 3 else ()))
    if total >= 1 << 31:
        raise RefusedError(f"an element of {total} bytes")
    return total


def emit_header(descr: Descr, fortran_order: bool, shape: tuple[int, ...]) -> bytes:
    """The bytes before the elements, as `numpy.save` writes them."""
    return _emitted(repr(descr), fortran_order, shape)


@lru_cache(64)
def _emitted(descr: str, fortran_order: bool, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': {fortran_order}, 'shape': {shape!r}, }}"
    if shape:
        text += " " * (_GROWTH - len(repr(shape[-1 if fortran_order else 0])))
    for version, width, encoding in ((1, 2, "latin-1"), (2, 4, "latin-1"), (3, 4, "utf-8")):
        try:
            data = text.encode(encoding)
        except UnicodeEncodeError:
            continue
        data += b" " * (-(8 + width + len(data) + 1) % 64) + b"\n"
        if len(data) < 1 << 8 * width:
            length = len(data).to_bytes(width, "little")
            return MAGIC + bytes((version, 0)) + length + data
    raise AssertionError("a header beyond 4 GiB")
