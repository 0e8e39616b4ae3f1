from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import generated
from portackpt.box import Box, whole
from portackpt.bytesource import InMemory
from portackpt.dtypes import BY_NAME
from portackpt.errors import UnsupportedError, UsageError
from portackpt.layouts import views
from portackpt.layouts.transforms import (
    Chain,
    Flatten,
    Flip,
    Insert,
    Permute,
    Remove,
    Transform,
    Unflatten,
    reshape,
)
from portackpt.layouts.views import View
from portackpt.tensor import Strided, Tensor, Tiled, from_array, from_strings


def tiled(array: np.ndarray) -> Tensor:
    """A tensor without byte strides: two halves side by side."""
    if not array.ndim:
        return Tensor(BY_NAME["int32"], (), Tiled(((whole(()), from_array(array)),)))
    half = array.shape[0] // 2
    rest = (0,) * (array.ndim - 1)
    tiles = (
        (Box((0, *rest), array[:half].shape), from_array(array[:half])),
        (Box((half, *rest), array[half:].shape), from_array(array[half:])),
    )
    return Tensor(BY_NAME["int32"], array.shape, Tiled(tiles))


def strided(array: np.ndarray) -> Tensor:
    turned = array.T.copy(order="C")
    return Tensor(
        BY_NAME["int32"], array.shape, Strided(InMemory(turned.tobytes()), 0, turned.T.strides)
    )


factors = st.integers(1, 4)


@st.composite
def steps(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Transform, tuple[int, ...]]:
    """A transform that fits `shape`, and the shape it gives."""
    rank = len(shape)
    kind = draw(st.sampled_from(["permute", "flip", "unflatten", "flatten", "insert", "remove"]))
    if kind == "permute" or not rank:
        order = tuple(draw(st.permutations(range(rank))))
        return Permute(order), tuple(shape[i] for i in order)
    axis = draw(st.integers(0, rank - 1))
    if kind == "flip":
        return Flip((axis,)), shape
    if kind == "unflatten" and rank < 7:
        n = shape[axis]
        part = draw(st.sampled_from([d for d in range(1, n + 1) if n % d == 0] or [1]))
        sizes = (part, n // part)
        return Unflatten(axis, sizes), (*shape[:axis], *sizes, *shape[axis + 1 :])
    if kind == "flatten":
        end = draw(st.integers(axis + 1, rank))
        merged = int(np.prod(shape[axis:end]))
        return Flatten(axis, shape[axis:end]), (*shape[:axis], merged, *shape[end:])
    if kind == "remove" and shape[axis] == 1:
        return Remove(axis), (*shape[:axis], *shape[axis + 1 :])
    return Insert(axis), (*shape[:axis], 1, *shape[axis:])


@st.composite
def chains(draw: st.DrawFn, shape: tuple[int, ...]) -> Chain:
    found = []
    for _ in range(draw(st.integers(0, 6))):
        step, shape = draw(steps(shape))
        found.append(step)
    return Chain(tuple(found))


def as_numpy(step: Transform, array: np.ndarray) -> np.ndarray:
    match step:
        case Permute(order):
            return array.transpose(order)
        case Flip(axes):
            return np.flip(array, axes)
        case Unflatten(axis, sizes):
            return array.reshape(*array.shape[:axis], *sizes, *array.shape[axis + 1 :])
        case Flatten(axis, sizes):
            end = axis + len(sizes)
            return array.reshape(*array.shape[:axis], np.prod(sizes, dtype=int), *array.shape[end:])
        case Insert(axis):
            return np.expand_dims(array, axis)
        case Remove(axis):
            return array.squeeze(axis)
    raise AssertionError(step)


@pytest.mark.parametrize("make", [from_array, strided, tiled])
@given(shape=st.lists(st.integers(0, 4), max_size=4).map(tuple), data=st.data())
def test_it_reads_like_numpy_and_back(
    make: Callable[[np.ndarray], Tensor], shape: tuple[int, ...], data: st.DataObject
) -> None:
    array = np.arange(np.prod(shape, dtype=int), dtype="<i4").reshape(shape)
    chain = data.draw(chains(shape))
    expected = array
    for step in chain.steps:
        expected = as_numpy(step, expected)
    tensor = make(array)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "_READ", data.draw(st.sampled_from([4, 40, 1 << 20])))
        found = chain.apply(tensor)
        assert found.shape == expected.shape
        assert np.array_equal(found.read(), expected)
        assert b"".join(map(bytes, found.pieces(12))) == expected.tobytes()
        start = tuple(data.draw(st.integers(0, n)) for n in expected.shape)
        box = Box(
            start,
            tuple(
                data.draw(st.integers(0, n - a)) for a, n in zip(start, expected.shape, strict=True)
            ),
        )
        assert np.array_equal(found.read(box), expected[box.slices()])
        back = chain.inverse().apply(found)
    assert back.shape == shape
    assert np.array_equal(back.read(), array)


@given(generated.tensors(), st.data())
def test_it_keeps_every_bit_of_every_dtype(tensor: Tensor, data: st.DataObject) -> None:
    chain = data.draw(chains(tensor.shape))
    back = chain.inverse().apply(chain.apply(tensor))
    assert back.dtype is tensor.dtype
    assert back.read().tobytes() == tensor.read().tobytes()


def test_it_is_one_view_whatever_the_chain() -> None:
    tensor = from_array(np.arange(120).reshape(2 * 3, 4, 5))
    found = Chain((Unflatten(0, (2, 3)), Permute((3, 1, 0, 2)), Flip((0, 2)))).apply(tensor)
    assert isinstance(found.layout, View)
    assert isinstance(found.layout.base.layout, Strided)


def test_it_reads_like_a_file_where_bytes_stay_in_order() -> None:
    tensor = from_array(np.arange(6, dtype="<i4").reshape(2, 3))
    turned = Permute((1, 0)).apply(tensor)
    assert isinstance(turned.layout, View)
    back = Permute((1, 0)).apply(turned)
    assert isinstance(back.layout, Strided)
    assert back.layout.covers(back.dtype, back.shape)


def test_it_never_shares_storage_with_its_source() -> None:
    tensor = from_array(np.arange(6).reshape(2, 3))
    moved = reshape((2, 3), (3, 2)).apply(tensor)
    assert isinstance(tensor.layout, Strided)
    assert isinstance(moved.layout, Strided)
    assert moved.layout.source is not tensor.layout.source


def test_it_leaves_a_tensor_alone_without_steps() -> None:
    tensor = from_array(np.arange(3))
    assert Chain().apply(tensor) is tensor


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (Permute((0,)), r"permute\(0,\) does not fit the shape \(2, 3\)"),
        (Unflatten(1, (2, 2)), r"dimension 1 of \(2, 3\) cannot be split in \(2, 2\)"),
        (Flatten(0, (3, 2)), r"expected dimensions of \(3, 2\) from 0, found \(2, 3\)"),
        (Remove(0), r"dimension 0 of \(2, 3\) has more than one element to keep"),
    ],
)
def test_it_says_what_does_not_fit(transform: Transform, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        transform.apply(from_array(np.zeros((2, 3))))


def test_it_refuses_strings() -> None:
    with pytest.raises(UnsupportedError, match="a string tensor has no other layout"):
        Permute((1, 0)).apply(from_strings([b"a", b"b"], (2, 1)))


def test_it_streams_a_large_permutation_in_bands() -> None:
    array = np.arange(40 * 30 * 50 * 60, dtype="<f4").reshape(40, 30, 50, 60)
    found = Permute((2, 3, 1, 0)).apply(from_array(array))
    assert b"".join(map(bytes, found.pieces())) == array.transpose(2, 3, 1, 0).tobytes()
