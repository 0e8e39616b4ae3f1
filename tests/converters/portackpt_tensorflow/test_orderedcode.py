"""Keys of slices."""

import pytest

from portackpt_tensorflow.entry import Extent
from portackpt_tensorflow.orderedcode import slice_key

ALL = Extent(0, None)


@pytest.mark.parametrize(
    ("name", "extents", "expected"),
    [
        ("v", (), "00 76 0001 00"),
        ("v", (ALL,), "00 76 0001 0101 80 7f"),
        ("a/b", (Extent(0, 1), ALL), "00 612f62 0001 0102 80 81 80 7f"),
        ("n\0", (Extent(63, 64),), "00 6e00ff 0001 0101 bf c040"),
        ("v", (Extent(200, 69800),), "00 76 0001 0101 c0c8 e110a8"),
        ("v", (Extent(8191, 8192),), "00 76 0001 0101 dfff e02000"),
        ("v", (Extent(-64, -65),), "00 76 0001 0101 40 3fbf"),
        ("v", (Extent(1 << 62, (1 << 63) - 1),),
         "00 76 0001 0101 ffc04000000000000000 ffc07fffffffffffffff"),
    ],
)  # fmt: skip
def test_it_spells_slices_as_tensorflow_does(
    name: str, extents: tuple[Extent, ...], expected: str
) -> None:
    assert slice_key(name, extents) == bytes.fromhex(expected)


def test_it_keeps_the_order_of_numbers() -> None:
    numbers = sorted(
        {sign * (1 << k) + d for k in range(62) for sign in (1, -1) for d in (-1, 0, 1)}
    )
    keys = [slice_key("v", (Extent(number, 1),)) for number in numbers]
    assert keys == sorted(keys)
