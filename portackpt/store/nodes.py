"""Nodes: what the arrays of a state file stand for, made of their parts.

A maker raises `ValueError` where the parts make no such node.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from portackpt.tree import Node, Object

INTEGERS: Final = range(-(1 << 63), 1 << 64)
"""Integers that MessagePack can hold."""
MAX_DIGITS: Final = 4300
"""Of other integers: what Python converts without a limit being lifted."""
SURROGATE: Final = re.compile("[\ud800-\udfff]")
CODES: Final = {
    "dict": "N-3",
    "int": "N-4",
    "complex": "N-5",
    "str": "N-6",
    "tensor": "N-7",
    "object": "N-8",
}
"""The rule of the spec that an array of each tag obeys."""

_KEYS = frozenset((type(None), bool, int, float, complex, bytes, Object))


def need(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def to_dict(parts: list[Node]) -> dict[Node, Node]:
    keys = parts[::2]
    values = parts[1::2]
    need(len(keys) == len(values), "a key without a value")
    need(all(map(_is_key, keys)), "a key that is no plain value")
    # a dict of 100,000 keys of one hash takes minutes to make
    few = len(keys) < 1000 or len(set(map(hash, keys))) > len(keys) // 2
    need(few, "keys that were chosen to collide")
    made = dict(zip(keys, values, strict=True))
    need(len(made) == len(keys), "a key stands twice")
    return made


def _is_key(key: Node) -> bool:
    kind = type(key)
    return kind is str or (all(map(_is_key, key)) if kind is tuple else kind in _KEYS)


def _integer(parts: list[Node]) -> int:
    (digits,) = parts
    need(type(digits) is str and len(digits.lstrip("-")) <= MAX_DIGITS, "too many digits")
    value = int(digits)
    need(str(value) == digits, "not in decimal digits")
    need(value not in INTEGERS, "it fits into 64 bits")
    return value


def _complex(parts: list[Node]) -> complex:
    real, imaginary = parts
    need(type(real) is float and type(imaginary) is float, "its parts are no floats")
    return complex(real, imaginary)


def _surrogates(parts: list[Node]) -> str:
    (data,) = parts
    need(type(data) is bytes, "no bytes")
    text: str = data.decode("utf-8", "surrogatepass")
    need(SURROGATE.search(text) is not None, "it holds no lone surrogate")
    return text


def _object(parts: list[Node]) -> Object:
    kind, args, items, entries, state = parts
    need(type(kind) is str, "its type is no text")
    need(type(args) is tuple, "its arguments are no tuple")
    need(items is None or type(items) is list, "its items are no list")
    need(entries is None or type(entries) is dict, "its entries are no dict")
    return Object(kind, args, items, entries, state)


MAKERS: dict[str, Callable[[list[Node]], Node]] = {
    "list": list,
    "tuple": tuple,
    "dict": to_dict,
    "int": _integer,
    "complex": _complex,
    "str": _surrogates,
    "object": _object,
}
