"""JSON as the spec wants it: what other parsers let pass or differ in is refused.

No member twice, no NaN or Infinity, no number beyond 64 bits or binary64, no lone surrogates, no
nesting beyond a limit.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from portackpt.store.fault import Fault

MAX_DEPTH = 64
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_PARENTHESES = bytes.maketrans(b"[]{}", b"()()")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_INTEGERS = range(-(1 << 63), 1 << 64)


def parse(data: bytes, file: str) -> dict[str, Any]:
    """The object that `data` spells. Raises a `Fault`'s error."""
    _check_depth(data, file)
    try:
        data.decode()
        msgspec.json.decode(data)  # grammar, surrogates, range of numbers
    except UnicodeDecodeError as error:
        raise Fault("M-2", "expected UTF-8", file, error.start).error() from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Fault("M-2", f"not valid JSON: {error}", file).error() from None

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise Fault("M-3", f"the member {twice!r} stands twice in one object", file).error()
        return made

    document = json.loads(data, object_pairs_hook=unique, parse_int=_integer(file))
    if not isinstance(document, dict):
        raise Fault("M-1", "expected a JSON object", file).error()
    return document


def _integer(file: str) -> Any:
    def parse_int(digits: str) -> int:
        value = int(digits) if len(digits) <= 20 else 1 << 64
        if value not in _INTEGERS:
            raise Fault("M-4", f"the integer {digits[:30]} is beyond 64 bits", file).error()
        return value

    return parse_int


def _check_depth(data: bytes, file: str) -> None:
    """Peel the innermost pairs of brackets off, once a level."""
    brackets = _STRING.sub(b"", data).translate(_PARENTHESES, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        peeled = brackets.replace(b"()", b"")
        if len(peeled) == len(brackets):
            return  # none is left, or they do not match, and the parser says so
        brackets = peeled
    if b"()" in brackets:
        raise Fault("L-2", f"nested deeper than {MAX_DEPTH} levels", file).error()
