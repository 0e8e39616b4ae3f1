"""HDF5 datatypes by the neutral name of what they hold. Runs in the child."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from h5py import h5t

STRING = "string"
TEXT = "text"
OPAQUE = "opaque"


class UnreadableError(Exception):
    """What was found cannot be given out: `kind` is `damaged`, `refused` or `unsupported`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


@dataclass(frozen=True, slots=True)
class Held:
    """What an HDF5 datatype holds.

    `name` is a neutral dtype, or `string` (byte strings of `size` bytes at most, padded; 0: of any
    length), `text` (the same, of any length, declared as text) or `opaque` (`size` bytes without
    meaning).
    """

    name: str
    size: int
    big: bool = False


# exponent bits, mantissa bits, exponent bias, of IEEE 754 and of its relatives in machine learning
_FLOATS = {
    (2, 5, 10, 15): "float16",
    (2, 8, 7, 127): "bfloat16",
    (4, 8, 23, 127): "float32",
    (8, 11, 52, 1023): "float64",
}


def held(kind: Any) -> Held:
    """What elements of a datatype are; raises `UnreadableError` for those of no checkpoint."""
    number = kind.get_class()
    size = int(kind.get_size())
    if number == h5t.INTEGER:
        return _integer(kind, size)
    if number == h5t.FLOAT:
        return _float(kind, size)
    if number == h5t.ENUM:
        return _boolean(kind, size)
    if number == h5t.COMPOUND:
        return _complex(kind, size)
    if number == h5t.OPAQUE:
        return Held(OPAQUE, size)
    if number == h5t.STRING:
        return Held(TEXT, 0) if kind.is_variable_str() else Held(STRING, size)
    if number == h5t.VLEN:
        part = kind.get_super()
        if part.get_class() == h5t.INTEGER and part.get_size() == 1:
            return Held(STRING, 0)
    raise UnreadableError(
        "unsupported", f"values of an HDF5 type that no checkpoint holds ({number})"
    )


def _integer(kind: Any, size: int) -> Held:
    if size not in (1, 2, 4, 8) or kind.get_precision() != 8 * size or kind.get_offset() != 0:
        raise UnreadableError(
            "unsupported", f"integers of {kind.get_precision()} bits in {size} bytes"
        )
    sign = "" if kind.get_sign() == h5t.SGN_2 else "u"
    return Held(f"{sign}int{8 * size}", size, _big(kind))


def _float(kind: Any, size: int) -> Held:
    sign, exponent_at, exponent, mantissa_at, mantissa = kind.get_fields()
    name = _FLOATS.get((size, exponent, mantissa, kind.get_ebias()))
    usual = (mantissa_at, exponent_at, sign) == (0, mantissa, 8 * size - 1)
    if name is None or not usual:
        told = "" if usual else ", their bits in an order of their own"
        raise UnreadableError(
            "unsupported",
            f"floating-point numbers of {size} bytes with {exponent} exponent bits and {mantissa} "
            f"mantissa bits{told}",
        )
    return Held(name, size, _big(kind))


def _big(kind: Any) -> bool:
    order = kind.get_order()
    if order not in (h5t.ORDER_LE, h5t.ORDER_BE, h5t.ORDER_NONE):
        raise UnreadableError("unsupported", "numbers in VAX byte order")
    return bool(order == h5t.ORDER_BE and kind.get_size() > 1)


def _boolean(kind: Any, size: int) -> Held:
    """h5py writes bool as an enumeration of int8."""
    count = kind.get_nmembers()
    members = {kind.get_member_name(i): kind.get_member_value(i) for i in range(min(count, 3))}
    if size != 1 or members != {b"FALSE": 0, b"TRUE": 1}:
        raise UnreadableError("unsupported", f"an enumeration {members}")
    return Held("bool", 1)


def _complex(kind: Any, size: int) -> Held:
    """h5py writes complex numbers as a compound of `r` and `i`."""
    count = kind.get_nmembers()
    names = [kind.get_member_name(i) for i in range(min(count, 3))]
    if names == [b"r", b"i"] and size in (8, 16):
        parts = [kind.get_member_type(i) for i in range(2)]
        if all(part.get_class() == h5t.FLOAT and part.get_size() == size // 2 for part in parts):
            real, imaginary = (_float(part, size // 2) for part in parts)
            if real == imaginary and kind.get_member_offset(1) == size // 2:
                return Held(f"complex{8 * size}", size, real.big)
    raise UnreadableError("unsupported", f"records of fields {names}")
