import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portackpt.errors import UsageError
from portackpt.layouts.axes import parse, rearrange, solve, spatial_axes
from portackpt.tensor import from_array


@pytest.mark.parametrize(
    ("text", "spatial", "dimensions", "backward"),
    [
        ("", 0, (), ()),
        ("out in", 0, (("out",), ("in",)), ()),
        ("out in ...", 2, (("out",), ("in",), ("space0",), ("space1",)), ()),
        ("~... in out", 1, (("space0",), ("in",), ("out",)), ("space0",)),
        ("(gate hidden) in", 0, (("gate", "hidden"), ("in",)), ()),
        ("out (channel ...)", 2, (("out",), ("channel", "space0", "space1")), ()),
        ("out 1 1...", 2, (("out",), (), (), ()), ()),
        ("1 ~a", 0, ((), ("a",)), ("a",)),
    ],
)
def test_it_reads_axes(
    text: str, spatial: int, dimensions: tuple[tuple[str, ...], ...], backward: tuple[str, ...]
) -> None:
    found = parse(text, spatial)
    assert found.dimensions == dimensions
    assert found.backward == frozenset(backward)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a a", "a name that comes twice in the axes 'a a'"),
        ("(a b", r"an open parenthesis or a name that comes twice in the axes '\(a b'"),
        ("a) b", r"misplaced '\)' in the axes 'a\) b'"),
        ("(a (b))", r"misplaced '\(' in the axes"),
        ("a-b", "cannot read '-b' in the axes 'a-b'"),
        ("2 a", "cannot read '2 a' in the axes '2 a'"),
    ],
)
def test_it_says_what_it_cannot_read(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("text", "shape", "count"),
    [
        ("out in ...", (2, 3, 4, 5), 2),
        ("out in ...", (2, 3), 0),
        ("out (channel ...)", (2, 3), None),
        ("out in", (2, 3), None),
        ("... (a b)", (1, 2, 3), 2),
    ],
)
def test_it_counts_spatial_axes(text: str, shape: tuple[int, ...], count: int | None) -> None:
    assert spatial_axes(text, shape) == count


def test_it_solves_one_unknown_of_a_merged_dimension() -> None:
    sizes = {"gate": 4}
    assert solve(parse("(gate hidden) in"), (20, 3), sizes) is None
    assert sizes == {"gate": 4, "hidden": 5, "in": 3}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((21, 3), "21×3 does not fit the axes '(gate hidden) in': 21 is not gate = 4 × hidden = ?"),
        ((20,), "20 does not have the 2 axes '(gate hidden) in'"),
        ((), "a scalar does not have the 2 axes '(gate hidden) in'"),
    ],
)
def test_it_says_why_a_shape_does_not_fit(shape: tuple[int, ...], message: str) -> None:
    assert solve(parse("(gate hidden) in"), shape, {"gate": 4}) == message


def test_it_rearranges() -> None:
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    sizes = {"out": 2, "in": 3, "space0": 4, "space1": 5}
    found = rearrange(parse("out in ...", 2), parse("~... in out", 2), sizes)
    assert str(found) == "out in ... -> ~... in out"
    expected = array[:, :, ::-1, ::-1].transpose(2, 3, 1, 0)
    assert np.array_equal(found.apply(from_array(array)).read(), expected)


names = ["a", "b", "c", "d"]


@st.composite
def lines(draw: st.DrawFn) -> str:
    order = draw(st.permutations(names))
    words = [draw(st.sampled_from(["", "~"])) + name for name in order]
    cut = draw(st.integers(0, 2))
    if cut:
        words = [*words[: cut - 1], f"({words[cut - 1]} {words[cut]})", *words[cut + 1 :]]
    return " ".join(draw(st.sampled_from([[*words], ["1", *words]])))


@given(lines(), lines())
def test_it_inverts(before: str, after: str) -> None:
    sizes = {"a": 2, "b": 3, "c": 1, "d": 4}
    source, target = parse(before), parse(after)
    array = np.arange(24, dtype="<u2").reshape(source.shape(sizes))
    there = rearrange(source, target, sizes)
    moved = there.apply(from_array(array))
    assert moved.shape == target.shape(sizes)
    assert np.array_equal(there.inverse().apply(moved).read(), array)


def test_it_drops_axes_of_one_element_only() -> None:
    assert rearrange(parse("a b"), parse("a"), {"a": 2, "b": 1})
    with pytest.raises(UsageError, match="b has 3 elements in 'a b', and no place in the other"):
        rearrange(parse("a b"), parse("a"), {"a": 2, "b": 3})


def test_it_needs_every_size() -> None:
    with pytest.raises(UsageError, match="the sizes of b are not known: the way from"):
        rearrange(parse("(a b)"), parse("a b"), {"a": 2})
