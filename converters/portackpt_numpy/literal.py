"""Python literals, as the header of a .npy file holds them: read without evaluating anything.

value  = dict | list | tuple | text | number | True | False | None
dict   = "{" [text ":" value {"," text ":" value} [","]] "}"
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from portackpt.errors import DamagedError

Literal: TypeAlias = Any
_MAX_DEPTH = 32
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<mark> [{}()\[\]:,] )
      | (?P<number> [+-]?\d{1,20}) L?(?!\w)
      | (?P<name> True | False | None)\b
      | [ub]?(?: '(?P<single>(?:[^'\\\n]|\\.)*)' | "(?P<double>(?:[^"\\\n]|\\.)*)" )
    )\s*""",
    re.VERBOSE,
)
_NAMES = {"True": True, "False": False, "None": None}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", '"': '"', "0": "\0"}


def parse(text: str) -> Literal:
    """The value that `text` spells. Raises `DamagedError`."""
    parser = _Parser(text)
    value = parser.value(0)
    parser.end()
    return value


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def value(self, depth: int) -> Literal:
        if depth > _MAX_DEPTH:
            raise self._fault(f"at most {_MAX_DEPTH} levels")
        token = self._next("a value")
        kind = token.lastgroup
        if kind == "mark":
            return self._container(token["mark"], depth)
        if kind == "number":
            return int(token["number"])
        if kind == "name":
            return _NAMES[token["name"]]
        return self._unescaped(token[kind or 0])

    def end(self) -> None:
        if self._at != len(self._text):
            raise self._fault("nothing more")

    def _container(self, mark: str, depth: int) -> Literal:
        if mark == "{":
            return dict(self._parts("}", depth, keyed=True)[0])
        if mark == "[":
            return self._parts("]", depth)[0]
        if mark != "(":
            raise self._fault("a value")
        parts, comma = self._parts(")", depth)
        return tuple(parts) if comma or len(parts) != 1 else parts[0]

    def _parts(self, end: str, depth: int, keyed: bool = False) -> tuple[list[Literal], bool]:
        """The parts up to `end`, and whether a comma stands before it."""
        parts: list[Literal] = []
        comma = False
        while not self._skip(end):
            if parts and not comma:
                raise self._fault(f"a comma or {end!r}")
            part = self.value(depth + 1)
            if keyed:
                if not isinstance(part, str) or not self._skip(":"):
                    raise self._fault("a name and a colon")
                part = (part, self.value(depth + 1))
            parts.append(part)
            comma = self._skip(",")
        return parts, comma

    def _skip(self, mark: str) -> bool:
        token = _TOKEN.match(self._text, self._at)
        if token is None or token.lastgroup != "mark" or token["mark"] != mark:
            return False
        self._at = token.end()
        return True

    def _next(self, expected: str) -> re.Match[str]:
        token = _TOKEN.match(self._text, self._at)
        if token is None:
            raise self._fault(expected)
        self._at = token.end()
        return token

    def _unescaped(self, text: str) -> str:
        return _ESCAPE.sub(self._letter, text) if "\\" in text else text

    def _letter(self, match: re.Match[str]) -> str:
        code = match[1]
        if len(code) > 1:
            number = int(code[1:], 16)
            if number <= 0x10FFFF:
                return chr(number)
        elif code in _ESCAPES:
            return _ESCAPES[code]
        raise self._fault("an escape of Python's")

    def _fault(self, expected: str) -> DamagedError:
        found = self._text[self._at : self._at + 20] or "the end"
        return DamagedError(
            f"expected {expected}, found {found!r}, at character {self._at} of the header"
        )
