import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portackpt.bytesource import InMemory
from portackpt.dtypes import BY_NAME
from portackpt.errors import DamagedError, UsageError
from portackpt.layouts.parts import Concat, FirstOf, Mean, Repeat, Slice, Split, Stack, Sum, Unstack
from portackpt.layouts.transforms import Flatten, Permute
from portackpt.layouts.views import Window
from portackpt.tensor import Tensor, contiguous, from_array

arrays = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(
    lambda shape: np.arange(np.prod(shape), dtype="<i4").reshape(shape)
)


@given(arrays, st.data())
def test_it_joins_what_it_split(array: np.ndarray, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, array.ndim - 1))
    cut = data.draw(st.integers(0, array.shape[axis]))
    tensor = Permute(tuple(range(array.ndim))[::-1]).apply(from_array(array.T))
    split = Split(axis, (cut, array.shape[axis] - cut))
    parts = split.apply(tensor)
    expected = np.split(array, [cut], axis)
    assert all(np.array_equal(p.read(), e) for p, e in zip(parts, expected, strict=True))
    assert np.array_equal(split.inverse().apply(parts).read(), array)
    assert split.inverse().inverse() == split


@given(arrays, st.integers(1, 3), st.data())
def test_it_unstacks_what_it_stacked(array: np.ndarray, count: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, array.ndim))
    found = [array + i for i in range(count)]
    stack = Stack(axis, count)
    whole = stack.apply([from_array(each) for each in found])
    assert np.array_equal(whole.read(), np.stack(found, axis))
    back = stack.inverse().apply(whole)
    assert all(np.array_equal(b.read(), f) for b, f in zip(back, found, strict=True))
    assert Unstack(axis, count).inverse() == stack


def test_it_slices_merged_dimensions() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    turned = Flatten(0, (4, 3)).apply(Permute((2, 1, 0)).apply(from_array(array)))
    found = Slice(0, 5, 9).apply(turned)
    assert np.array_equal(found.read(), array.transpose(2, 1, 0).reshape(12, 2)[5:9])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32"])
def test_it_adds_in_the_dtype(dtype: str) -> None:
    kind = BY_NAME[dtype].to_numpy()
    terms = [from_array(np.array([1, 2, 3]).astype(kind)) for _ in range(2)]
    total = Sum(2).apply(terms)
    assert total.dtype.name == dtype
    assert total.read().astype(float).tolist() == [2, 4, 6]


@given(st.binary(min_size=64, max_size=64))
def test_it_gives_a_sum_to_its_first_term(data: bytes) -> None:
    tensor = contiguous(BY_NAME["float32"], (16,), InMemory(data))
    parts = FirstOf(2).apply(tensor)
    assert parts[0] is tensor
    assert not parts[1].read().any()
    back = FirstOf(2).inverse().apply(parts).read()
    known = ~np.isnan(tensor.read())
    assert back[known].tobytes() == tensor.read()[known].tobytes()  # -0.0 stays, too


def test_it_takes_the_mean_of_slots() -> None:
    terms = [from_array(np.array([1.0, 3.0])), from_array(np.array([1.0, 5.0]))]
    assert Sum(2).for_slots().apply(terms).read().tolist() == [1.0, 4.0]


def test_it_repeats_slots_without_sharing_storage() -> None:
    tensor = from_array(np.arange(3.0))
    first, second = FirstOf(2).for_slots().apply(tensor)
    assert np.array_equal(second.read(), first.read())
    assert second.layout is not first.layout
    assert Sum(2).for_slots().inverse() == FirstOf(2).for_slots()
    assert Repeat(2).inverse() == Mean(2)


def test_it_flags_what_loses() -> None:
    assert [each.lossy for each in (Sum(2), Mean(2))] == [True, True]
    assert not any(each.lossy for each in (Split(0, (1,)), Concat(0, (1,)), FirstOf(2), Repeat(2)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda t: Slice(0, 1, 4).apply(t),
            r"1 to 4 lies outside dimension 0 of \(2, 3\)",
        ),
        (
            lambda t: Split(1, (1, 1)).apply(t),
            r"dimension 1 of \(2, 3\) is not the sum of \(1, 1\)",
        ),
        (
            lambda t: Concat(0, (2, 2)).apply((t, from_array(np.zeros((2, 4))))),
            r"cannot join float64\(2, 3\), float64\(2, 4\) along dimension 0: expected \(2, 2\)",
        ),
        (
            lambda t: Sum(2).apply((t, from_array(np.zeros((2, 3), "f4")))),
            r"expected 2 tensors of one shape and dtype to add, found float64\(2, 3\), float32",
        ),
    ],
)
def test_it_says_what_does_not_fit(call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call(from_array(np.zeros((2, 3))))  # type: ignore[operator]


class _Broken:
    nbytes = 8

    def readinto(self, offset: int, out: memoryview) -> None:
        out[:] = bytes(out.nbytes)

    def verify(self) -> None:
        raise DamagedError("checksum does not match")


def test_it_checks_the_whole_source_before_a_part_is_read() -> None:
    whole = contiguous(BY_NAME["uint8"], (8,), _Broken())
    part = Split(0, (4, 4)).apply(whole)[0]
    assert isinstance(part, Tensor)
    with pytest.raises(DamagedError, match="checksum"):
        part.read()
    with pytest.raises(DamagedError, match="checksum"):
        list(part.pieces())
    assert Window(_Broken(), 0, 8).readinto(0, memoryview(bytearray(8))) is None
