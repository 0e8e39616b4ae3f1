"""Literals: what ast.literal_eval says of them, without evaluating anything."""

import ast
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portackpt.errors import DamagedError
from portackpt_numpy.literal import parse

LITERALS = st.recursive(
    st.integers(-(10**18), 10**18) | st.booleans() | st.none() | st.text(max_size=5),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(LITERALS)
@settings(deadline=None)
def test_it_reads_what_repr_writes(value: Any) -> None:
    assert parse(repr(value)) == value == ast.literal_eval(repr(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [("(3L, 4L)", (3, 4)), ("(3)", 3), ("(3,)", (3,)), ("u'a'", "a"), (' {"a" : 1 , } ', {"a": 1})],
)
def test_it_reads_what_old_writers_wrote(text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "(", "[1 2]", "{1: 2}", "{'a' 1}", "__import__('os')", "1 + 1", "'a", "1.5", "x", "1 1",
     "'\\q'", "'\\U00110000'", "[" * 100_000, "(" * 40 + ")" * 40, "9" * 30],
)  # fmt: skip
def test_it_refuses_what_is_no_literal(text: str) -> None:
    with pytest.raises(DamagedError, match=r"at character \d+ of the header"):
        parse(text)
