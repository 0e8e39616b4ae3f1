"""Snappy streams."""

import pytest

from portackpt.errors import DamagedError, RefusedError
from portackpt_tensorflow.snappy import decompress


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ("00", b""),
        ("03 08 616263", b"abc"),
        ("07 08 616263 01 03", b"abcabca"),  # a copy that reads what it writes
        ("06 08 616263 0a 0300", b"abcabc"),
        ("06 08 616263 0b 03000000", b"abcabc"),
        ("06 00 61 12 0100", b"aaaaaa"),
        ("3d f0 3c " + "41" * 61, b"A" * 61),
        ("ac02 f4 2b01 " + "42" * 300, b"B" * 300),
    ],
)
def test_it_decompresses(stream: str, expected: bytes) -> None:
    assert decompress(bytes.fromhex(stream), 1000) == expected


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        ("", "ends inside"),
        ("05 08 6162", "ends inside"),
        ("05 08 616263", "expected 5 bytes, found 3"),
        ("02 08 616263", "expected 2 bytes, found 3"),
        ("07 08 616263 01", "ends inside"),
        ("07 08 616263 0a 03", "ends inside"),
        ("07 08 616263 01 04", "a copy from 4 bytes back, after 3 bytes"),
        ("07 08 616263 01 00", "a copy from 0 bytes back"),
        ("ffffffff0f 00 61", "cannot hold the stated 4294967295 bytes"),
    ],
)
def test_it_refuses_damage(stream: str, told: str) -> None:
    with pytest.raises(DamagedError, match=told):
        decompress(bytes.fromhex(stream), 1000)


def test_it_refuses_more_than_the_limit() -> None:
    with pytest.raises(RefusedError, match="6 bytes of snappy; the limit is 5"):
        decompress(bytes.fromhex("06 00 61 12 0100"), 5)
