"""Protocol buffers on the wire."""

import pytest

from portackpt.errors import DamagedError
from portackpt_tensorflow.wire import (
    fields,
    put_bytes,
    put_signed,
    put_varint,
    signed,
    text,
    varint,
)


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        ((1 << 64) - 1, "ffffffffffffffffff01"),
    ],
)
def test_it_spells_numbers(value: int, spelled: str) -> None:
    assert put_varint(value) == bytes.fromhex(spelled)
    assert varint(bytes.fromhex(spelled) + b"\x00", 0) == (value, len(spelled) // 2)


def test_it_reads_fields_of_every_kind_in_order() -> None:
    message = bytes.fromhex("0801 12026869 1d01000000 210200000000000000 0802 c03e05")
    assert fields(message) == [(8, 1), (18, b"hi"), (29, 1), (33, 2), (8, 2), (8000, 5)]


def test_it_spells_negative_numbers_in_ten_bytes() -> None:
    assert put_signed(-1) == b"\xff" * 9 + b"\x01"
    assert signed(varint(put_signed(-5), 0)[0]) == -5


def test_it_spells_long_fields() -> None:
    assert put_bytes(2, b"x" * 200) == b"\x12\xc8\x01" + b"x" * 200
    assert fields(put_bytes(20, b"y")) == [(162, b"y")]


@pytest.mark.parametrize(
    "message",
    ["08", "1205", "120568", "1d0000", "21", "88", "0880", "13", "0f", "08" + "ff" * 10 + "01"],
)
def test_it_refuses_what_ends_early_or_has_no_meaning(message: str) -> None:
    with pytest.raises(DamagedError):
        fields(bytes.fromhex(message))


def test_it_refuses_text_that_is_none() -> None:
    with pytest.raises(DamagedError, match="not UTF-8"):
        text(b"\xff")
    with pytest.raises(DamagedError, match="found a number"):
        text(3)
