"""Closed forms as data: one expression of the count, evaluated here and printed for a framework.

A schedule's formula is written once, with `COUNT` and Python's operators; `evaluate` computes it in
float64, `Printer` spells it as code (`math`, `jax.numpy`, `keras.ops`).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from portackpt.errors import UsageError

Number: TypeAlias = int | float


@dataclass(frozen=True, slots=True)
class Term:
    """An operation and its parts: terms, numbers, or (for `lookup`, `named`) what it needs."""

    operation: str
    parts: tuple[Any, ...] = ()

    def __add__(self, other: Expression) -> Expression:
        return self if other == 0 else Term("+", (self, other))

    def __radd__(self, other: Number) -> Expression:
        return self if other == 0 else Term("+", (other, self))

    def __sub__(self, other: Expression) -> Expression:
        return self if other == 0 else Term("-", (self, other))

    def __rsub__(self, other: Number) -> Term:
        return Term("-", (other, self))

    def __mul__(self, other: Expression) -> Expression:
        return self if other == 1 else Term("*", (self, other))

    def __rmul__(self, other: Number) -> Expression:
        return self if other == 1 else Term("*", (other, self))

    def __truediv__(self, other: Expression) -> Expression:
        return self if other == 1 else Term("/", (self, other))

    def __rtruediv__(self, other: Number) -> Term:
        return Term("/", (other, self))

    def __mod__(self, other: Number) -> Term:
        return Term("%", (self, other))

    def __pow__(self, other: Expression) -> Expression:
        return self if other == 1 else Term("**", (self, other))

    def __rpow__(self, other: Number) -> Term:
        return Term("**", (other, self))


Expression: TypeAlias = Term | int | float
COUNT = Term("count")
PI = Term("pi")


def less(a: Expression, b: Expression) -> Term:
    return Term("<", (a, b))


def at_most(a: Expression, b: Expression) -> Term:
    return Term("<=", (a, b))


def minimum(a: Expression, b: Expression) -> Term:
    return Term("minimum", (a, b))


def maximum(a: Expression, b: Expression) -> Term:
    return Term("maximum", (a, b))


def floor(a: Expression) -> Term:
    return Term("floor", (a,))


def ceil(a: Expression) -> Term:
    return Term("ceil", (a,))


def whole(a: Expression, size: Number) -> Term:
    """floor(a / size) for a >= 0, however the division rounds.

    XLA multiplies by 1 / size: compiled, floor(41 / 41) is 0. The remainder is exact.
    """
    return floor((a - a % size) / size + 0.5)


def cos(a: Expression) -> Term:
    return Term("cos", (a,))


def where(condition: Term, yes: Expression, no: Expression) -> Term:
    """`yes` where `condition` holds; the other branch may be evaluated, but not by `evaluate`."""
    return Term("where", (condition, yes, no))


def lookup(x: Expression, bounds: tuple[Number, ...], values: tuple[Number, ...]) -> Expression:
    """`values[i]` for the number i of `bounds` (ascending) that are <= `x`."""
    return Term("lookup", (x, bounds, values)) if bounds else values[0]


def named(name: str, expression: Expression) -> Expression:
    """The expression, as a variable in printed code; it must have a value at every count."""
    return Term("named", (name, expression)) if isinstance(expression, Term) else expression


def substitute(expression: Expression, count: Expression) -> Expression:
    """The expression with `count` in place of `COUNT`."""
    if not isinstance(expression, Term) or count == COUNT:
        return expression
    if expression.operation == "count":
        return count
    if expression.operation == "lookup":
        x, bounds, values = expression.parts
        return lookup(substitute(x, count), bounds, values)
    if expression.operation == "named":
        return named(expression.parts[0], substitute(expression.parts[1], count))
    return Term(expression.operation, tuple([substitute(part, count) for part in expression.parts]))


def evaluate(expression: Expression, count: Number) -> float:
    """The value at `count`, in float64."""
    try:
        result = _evaluate(expression, count)
    except (ArithmeticError, ValueError) as error:
        raise UsageError(f"the schedule has no value at count {count}: {error}") from error
    if isinstance(result, complex):
        raise UsageError(f"the schedule has no real value at count {count}")
    return float(result)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "%": lambda a, b: a % b,
    "**": lambda a, b: a**b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "minimum": min,
    "maximum": max,
    "floor": math.floor,
    "ceil": math.ceil,
    "cos": math.cos,
}


def _evaluate(expression: Expression, count: Number) -> Any:
    if not isinstance(expression, Term):
        return expression
    match expression.operation:
        case "count":
            return count
        case "pi":
            return math.pi
        case "where":
            condition, yes, no = expression.parts
            return _evaluate(yes if _evaluate(condition, count) else no, count)
        case "lookup":
            x, bounds, values = expression.parts
            return values[bisect_right(bounds, _evaluate(x, count))]
        case "named":
            return _evaluate(expression.parts[1], count)
        case operation:
            return _FUNCTIONS[operation](*[_evaluate(part, count) for part in expression.parts])


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a library spells what Python's operators do not: `prefix` + minimum, floor, cos, …

    `where(condition, yes, no)` and `lookup(x, bounds, values)` give code of code. `exponential`
    says that a power of a constant is spelled exp(log(constant) * x): in float32 the constant
    itself would be rounded, and its error multiplied by the exponent.
    """

    functions: Mapping[str, str]
    where: Callable[[str, str, str], str]
    lookup: Callable[[str, str, str], str]
    exponential: bool


PYTHON = Spelling(
    {"minimum": "min", "maximum": "max", "floor": "math.floor", "ceil": "math.ceil",
     "cos": "math.cos", "exp": "math.exp", "pi": "math.pi"},
    where=lambda condition, yes, no: f"({yes} if {condition} else {no})",
    lookup=lambda x, bounds, values: f"{values}[bisect_right({bounds}, {x})]",
    exponential=False,
)  # fmt: skip
"""Code for the standard library's `math` (and `bisect_right`)."""

_BINDING = {"<": 1, "<=": 1, "+": 2, "-": 2, "*": 3, "/": 3, "%": 3, "**": 5}


def literal(value: object) -> str:
    """A number, a text or a list of them as code."""
    odd = isinstance(value, float) and not math.isfinite(value)
    return f'float("{value}")' if odd else repr(value)


def _listed(values: tuple[Number, ...]) -> str:
    return f"({', '.join(map(literal, values))}{',' * (len(values) == 1)})"


class Printer:
    """Prints expressions of one function body; `lines` are the assignments to put before."""

    def __init__(self, spelling: Spelling, count: str = "count") -> None:
        self.lines: list[str] = []
        self._spelling = spelling
        self._count = count
        self._names: dict[str, Expression] = {}

    def print(self, expression: Expression) -> str:
        return self._print(expression, 0)

    def _print(self, expression: Expression, binding: int) -> str:
        if not isinstance(expression, Term):
            text = literal(expression)
            return f"({text})" if text.startswith("-") and binding > 2 else text
        spelling, parts = self._spelling, expression.parts
        match expression.operation:
            case "count":
                return self._count
            case "pi":
                return spelling.functions["pi"]
            case "named":
                return self._assign(*parts)
            case "where":
                return spelling.where(*[self._print(part, 0) for part in parts])
            case "lookup" if len(parts[1]) == 1:
                condition = self._print(less(parts[0], parts[1][0]), 0)
                return spelling.where(condition, *[self._print(part, 0) for part in parts[2]])
            case "lookup":
                return spelling.lookup(self._print(parts[0], 0), *map(_listed, parts[1:]))
            case "**" if spelling.exponential and not isinstance(parts[0], Term) and parts[0] > 0:
                rate = self._print(math.log(parts[0]), 3)
                return f"{spelling.functions['exp']}({rate} * {self._print(parts[1], 4)})"
            case operation if operation in _BINDING:
                own = _BINDING[operation]
                left = self._print(parts[0], own + (operation == "**"))
                right = self._print(parts[1], own + (operation != "**"))
                text = f"{left} {operation} {right}"
                return f"({text})" if own < binding else text
            case operation:
                arguments = ", ".join([self._print(part, 0) for part in parts])
                return f"{spelling.functions[operation]}({arguments})"

    def _assign(self, name: str, expression: Expression) -> str:
        base, number = name, 1
        while self._names.get(name, expression) != expression:
            number += 1
            name = f"{base}_{number}"
        if name not in self._names:
            self._names[name] = expression
            self.lines.append(f"{name} = {self._print(expression, 0)}")
        return name
