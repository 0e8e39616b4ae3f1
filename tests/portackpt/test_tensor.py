import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import generated
from portackpt.box import Box, bands, covers, whole
from portackpt.bytesource import InMemory
from portackpt.dtypes import BY_NAME
from portackpt.errors import DamagedError
from portackpt.streaming import read_ahead
from portackpt.tensor import PIECE, Strided, Tensor, Tiled, contiguous, from_array, from_strings


def whole_bytes(tensor: Tensor) -> bytes:
    return b"".join(bytes(piece) for piece in tensor.pieces())


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> Box:
    start = tuple(draw(st.integers(0, n)) for n in shape)
    return Box(start, tuple(draw(st.integers(0, n - a)) for a, n in zip(start, shape, strict=True)))


@given(st.data())
def test_it_reads_any_box_of_a_view(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    array = np.arange(np.prod(shape), dtype="<i4").reshape(shape)
    order = data.draw(st.permutations(range(len(shape))))
    view = array.transpose(order)[
        tuple(slice(None, None, data.draw(st.integers(1, 2))) for _ in shape)
    ]
    tensor = Tensor(
        BY_NAME["int32"], view.shape, Strided(InMemory(array.tobytes()), 0, view.strides)
    )
    box = data.draw(boxes(view.shape))
    assert np.array_equal(tensor.read(box), view[box.slices()])
    assert whole_bytes(tensor) == view.tobytes()


def test_it_reads_a_large_transposed_view_in_bands() -> None:
    array = np.arange(3000 * 1500, dtype="<f4").reshape(3000, 1500)
    source = InMemory(array.tobytes())
    tensor = Tensor(BY_NAME["float32"], (1500, 3000), Strided(source, 0, (4, 6000)))
    assert whole_bytes(tensor) == array.T.tobytes()


@given(st.integers(0, 6), st.integers(0, 6), st.data())
def test_it_joins_tiles(rows: int, columns: int, data: st.DataObject) -> None:
    array = np.arange(rows * columns, dtype="<i8").reshape(rows, columns)
    cut = data.draw(st.integers(0, columns))
    tiles = (
        (Box((0, 0), (rows, cut)), from_array(array[:, :cut])),
        (Box((0, cut), (rows, columns - cut)), from_array(array[:, cut:])),
    )
    tensor = Tensor(BY_NAME["int64"], array.shape, Tiled(tiles))
    box = data.draw(boxes(array.shape))
    assert np.array_equal(tensor.read(box), array[box.slices()])
    assert whole_bytes(tensor) == array.tobytes()


@given(generated.shapes, st.integers(1, 20))
def test_it_covers_a_shape_by_bands_in_c_order(shape: tuple[int, ...], elements: int) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    found = list(bands(shape, elements))
    joined = np.concatenate([array[b.slices()].reshape(-1) for b in found] or [array.reshape(-1)])
    assert np.array_equal(joined, array.reshape(-1))
    assert covers(shape, found)


@pytest.mark.parametrize(
    ("boxes", "answer"),
    [
        ([Box((0, 0), (2, 2))], True),
        ([Box((0, 0), (2, 1)), Box((0, 1), (2, 1))], True),
        ([Box((0, 0), (2, 1))], False),
        ([Box((0, 0), (2, 1)), Box((0, 0), (2, 1))], False),
        ([Box((0, 0), (2, 3))], False),
        ([Box((0, 0), (1, 2)), Box((1, 1), (1, 2))], False),
    ],
)
def test_it_knows_whether_boxes_tile(boxes: list[Box], answer: bool) -> None:
    assert covers((2, 2), boxes) is answer


def test_it_has_one_empty_band_for_no_dimension() -> None:
    assert list(bands((), 5)) == [whole(())]


@given(st.lists(generated.tensors() | generated.strings(), max_size=6))
def test_it_streams_many_tensors_in_order(tensors: list[Tensor]) -> None:
    found = [b""] * len(tensors)
    met = []
    for index, piece in read_ahead(tensors):
        met.append(index)
        found[index] += bytes(piece)
    assert found == [whole_bytes(tensor) for tensor in tensors]
    assert met == sorted(met)
    assert set(met) == set(range(len(tensors)))


def test_it_streams_what_is_larger_than_a_piece() -> None:
    array = np.arange(PIECE // 4 * 5 // 2, dtype="<u4")
    pieces = [bytes(piece) for _, piece in read_ahead([from_array(array[:3]), from_array(array)])]
    assert b"".join(pieces) == array[:3].tobytes() + array.tobytes()


def test_it_tells_a_reader_error_to_the_writer() -> None:
    broken = Tensor(BY_NAME["uint8"], (8,), Tiled(((Box((0,), (8,)), _Broken.tensor()),)))
    with pytest.raises(DamagedError, match="no such bytes"):
        list(read_ahead([broken]))


class _Broken:
    nbytes = 8

    def readinto(self, offset: int, out: memoryview) -> None:
        raise DamagedError("no such bytes")

    def verify(self) -> None:
        pass

    @classmethod
    def tensor(cls) -> Tensor:
        return contiguous(BY_NAME["uint8"], (8,), cls())


def test_it_refuses_a_tensor_beyond_its_storage() -> None:
    with pytest.raises(DamagedError, match="needs bytes 0 to 12, found a storage of 8 bytes"):
        contiguous(BY_NAME["float32"], (3,), InMemory(bytes(8)))


def test_it_keeps_strings() -> None:
    tensor = from_strings([b"a", b"", b"\xff\x00"], (3, 1))
    assert tensor.read().tolist() == [[b"a"], [b""], [b"\xff\x00"]]
    assert tensor.nbytes == 8 * 4 + 3
    assert from_strings([b"a"], ()).read().item() == b"a"


def test_it_turns_big_endian_arrays() -> None:
    tensor = from_array(np.array([1, 2], ">i4"))
    assert tensor.dtype.name == "int32"
    assert tensor.read().tolist() == [1, 2]


@pytest.mark.parametrize(
    ("dtype", "value"), [("f4", 2.5), ("f2", 0.5), ("i8", -3), ("u1", 7), ("?", True), ("c8", 1j)]
)
def test_it_gives_the_one_element_as_a_plain_number(dtype: str, value: complex) -> None:
    item = from_array(np.array([value], dtype)).item()
    assert (item, type(item)) == (value, type(value))
