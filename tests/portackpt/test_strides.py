import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portackpt import strides
from portackpt.bytesource import Checked, InMemory
from portackpt.errors import DamagedError
from portackpt.strides import gather, is_c, turn


@st.composite
def views(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.lists(st.integers(1, 5), min_size=0, max_size=4))
    array = np.arange(np.prod(shape, dtype=int), dtype="<i4").reshape(shape)
    view = array.transpose(draw(st.permutations(range(len(shape)))))
    return view[tuple(slice(None, None, draw(st.sampled_from([1, 2, -1, -2]))) for _ in shape)]


@pytest.mark.parametrize("gap", [0, 8, strides.GAP])
@given(view=views(), slab=st.sampled_from([8, 64, 1 << 20]))
def test_it_gathers_any_strides(gap: int, view: np.ndarray, slab: int) -> None:
    base = view if view.base is None else view.base
    first = view.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    out = np.empty(view.shape, view.dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strides, "GAP", gap)
        patch.setattr(strides, "SLAB", slab)
        gather(InMemory(base.tobytes()), first, view.strides, out)
    assert np.array_equal(out, view)


@given(view=views())
def test_it_turns_in_tiles(view: np.ndarray) -> None:
    out = np.empty(view.shape, view.dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strides, "_ROWS", 2)
        patch.setattr(strides, "_COLUMNS", 2)
        turn(out, view)
    assert np.array_equal(out, view)


def test_it_gathers_repeated_elements() -> None:
    out = np.empty((3, 2), "<i4")
    gather(InMemory(np.array([7, 8], "<i4").tobytes()), 0, (0, 4), out)
    assert out.tolist() == [[7, 8]] * 3


class _Counted:
    """A source that notes what is read of it."""

    def __init__(self, data: bytes) -> None:
        self._data = InMemory(data)
        self.nbytes = len(data)
        self.reads: list[tuple[int, int]] = []

    def readinto(self, offset: int, out: memoryview) -> None:
        self.reads.append((offset, out.nbytes))
        self._data.readinto(offset, out)

    def verify(self) -> None:
        self.reads.append((-1, 0))


def test_it_reads_a_transposed_matrix_once_and_forward() -> None:
    array = np.arange(3000 * 2000, dtype="<f4").reshape(3000, 2000)
    source = _Counted(array.tobytes())
    out = np.empty((2000, 3000), "<f4")
    gather(source, 0, (4, 8000), out)
    assert np.array_equal(out, array.T)
    ends = [offset + count for offset, count in source.reads]
    assert [offset for offset, _ in source.reads] == [0, *ends[:-1]]
    assert ends[-1] == array.nbytes


def test_it_skips_what_is_far_from_what_is_wanted() -> None:
    array = np.arange(64 * 32768, dtype="<f4").reshape(64, 32768)
    source = _Counted(array.tobytes())
    out = np.empty((10, 64), "<f4")
    gather(source, 400, (4, 4 * 32768), out)
    assert np.array_equal(out, array[:, 100:110].T)
    assert source.reads == [(-1, 0), *((400 + row * 4 * 32768, 40) for row in range(64))]


@pytest.mark.parametrize("box", [np.s_[:, :], np.s_[1:, :], np.s_[:, :2]])
def test_it_checks_the_whole_before_a_part_is_given_out(box: tuple[slice, ...]) -> None:
    array = np.arange(12, dtype="<i4").reshape(3, 4)
    view = array[box].T
    first = view.__array_interface__["data"][0] - array.__array_interface__["data"][0]
    broken = Checked(InMemory(array.tobytes()), zlib.crc32, zlib.crc32(b"other"), "weights")
    with pytest.raises(DamagedError, match="checksum does not match"):
        gather(broken, first, view.strides, np.empty(view.shape, "<i4"))
    sound = Checked(InMemory(array.tobytes()), zlib.crc32, zlib.crc32(array.tobytes()), "weights")
    out = np.empty(view.shape, "<i4")
    gather(sound, first, view.strides, out)
    assert np.array_equal(out, view)


def test_it_knows_c_order() -> None:
    assert is_c((2, 3), (12, 4), 4)
    assert is_c((1, 3), (99, 4), 4)
    assert not is_c((2, 3), (4, 8), 4)
