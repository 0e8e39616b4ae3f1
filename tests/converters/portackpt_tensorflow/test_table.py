"""Sorted tables: literal bytes, and every way to damage them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portackpt.bytesource import File
from portackpt.errors import DamagedError, InputError, RefusedError
from portackpt.storage.local import Writer
from portackpt_tensorflow.checksum import extend, mask
from portackpt_tensorflow.table import MAGIC, read_items
from portackpt_tensorflow.tablewriter import TableWriter
from portackpt_tensorflow.wire import put_varint

SMALL = bytes.fromhex(
    "000003 6f6e65"  # "" → one
    "000203 6162 74776f"  # ab → two
    "020100 63"  # abc → nothing
    "00000000 01000000 00 ce61585d"
    "00000000 01000000 00 c0f2a1b0"  # the metaindex is empty
    "000102 62 001a 00000000 01000000 00 e04fa957"  # up to b: 26 bytes at 0
    "1f08 2c0e" + "00" * 36 + "57fb808b247547db"
)


def write(path: Path, items: list[tuple[bytes, bytes]]) -> Path:
    with Writer(path) as file:
        table = TableWriter(file)
        for key, value in items:
            table.add(key, value)
        table.finish()
    return path


def read(path: Path) -> list[tuple[bytes, bytes]]:
    return [item for items in read_items(File(path)) for item in items]


def block(contents: bytes, kind: int = 0) -> bytes:
    data = contents + bytes((kind,))
    return data + mask(extend(data, 0)).to_bytes(4, "little")


def entry(shared: int, more: bytes, value: bytes) -> bytes:
    return bytes((shared, len(more), len(value))) + more + value


END = bytes.fromhex("0000000001000000")


def table(*blocks: bytes, gap: bytes = b"", tail: bytes = b"") -> bytes:
    """A table of data blocks given whole, with an index of them."""
    out, index = b"", b""
    for number, data in enumerate(blocks):
        handle = put_varint(len(out)) + put_varint(len(data) - 5)
        index += entry(0, b"%03d" % number, handle)
        out += data + gap
    metaindex, at = len(out), len(out) + 13
    out += block(END) + block(index + END)
    handles = (metaindex, 8, at, len(index) + 8)
    return out + (b"".join(map(put_varint, handles)) + tail).ljust(40, b"\0") + MAGIC


def test_it_writes_literal_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "t", [(b"", b"one"), (b"ab", b"two"), (b"abc", b"")])
    assert path.read_bytes() == SMALL
    assert read(path) == [(b"", b"one"), (b"ab", b"two"), (b"abc", b"")]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.binary(max_size=40), st.binary(max_size=300), max_size=60))
def test_it_reads_what_it_writes(
    tmp_path_factory: pytest.TempPathFactory, items: dict[bytes, bytes]
) -> None:
    path = tmp_path_factory.mktemp("table") / "t"
    assert read(write(path, sorted(items.items()))) == sorted(items.items())


def test_it_reads_many_blocks(tmp_path: Path) -> None:
    items = [(b"key%06d" % i, bytes(1000)) for i in range(700)]
    assert read(write(tmp_path / "t", items)) == items


def test_it_reads_compressed_blocks(tmp_path: Path) -> None:
    contents = entry(0, b"a", b"x" * 40) + END
    packed = put_varint(len(contents)) + bytes((4 << 2,)) + contents[:5]
    packed += bytes((38 << 2 | 2, 1, 0)) + bytes((7 << 2,)) + END
    (tmp_path / "t").write_bytes(table(block(packed, 1)))
    assert read(tmp_path / "t") == [(b"a", b"x" * 40)]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "too short for its footer"),
        (bytes(100), "expected the table's magic number"),
        (table(block(entry(0, b"a", b"") + END), gap=b"\0"), "expected a block at"),
        (table(block(entry(0, b"a", b"") + END), tail=b"\1"), "more than its two handles"),
        (table(block(entry(0, b"a", b"") + END, 2)), "unknown compression 2"),
        (table(block(entry(0, b"b", b"") + entry(0, b"a", b"") + END)), "keys do not ascend"),
        (table(block(entry(0, b"a", b"") + entry(0, b"a", b"") + END)), "keys do not ascend"),
        (table(*[block(entry(0, b"a", b"") + END)] * 2), "keys do not ascend"),
        (table(block(entry(1, b"a", b"") + END)), "exceeds its block"),
        (table(block(b"\0\x7f\0" + b"a" + END)), "exceeds its block"),
        (table(block(b"\0" + END)), "ends early|exceeds"),
        (table(block(b"\0\0\0\1\0\0\0\x99")), "too short for its restarts"),
        (table(block(b"\0\0")), "too short for its restarts"),
    ],
)
def test_it_refuses(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(DamagedError, match=told):
        read(tmp_path / "t")


def test_it_refuses_keys_that_grow_without_end(tmp_path: Path) -> None:
    long = b"k" * 60_000
    head = b"\0" + put_varint(len(long)) + b"\0" + long
    grown = b"".join(put_varint(len(long) + i) + b"\1\0a" for i in range(4000))
    (tmp_path / "t").write_bytes(table(block(head + grown + END)))
    with pytest.raises(RefusedError, match="keys are far longer"):
        read(tmp_path / "t")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A table of about 2 kB."""
    return write(tmp_path / "t", [(b"name%02d" % i, bytes(range(20))) for i in range(60)])


@pytest.mark.parametrize("change", [lambda at: 1 << at % 8, lambda at: 0xFF], ids=["bit", "byte"])
def test_it_finds_every_flipped(whole: Path, change: Callable[[int], int]) -> None:
    data = whole.read_bytes()
    with whole.open("r+b", buffering=0) as file:
        for at, byte in enumerate(data):
            os.pwrite(file.fileno(), bytes((byte ^ change(at),)), at)
            with pytest.raises(InputError):
                read(whole)
            os.pwrite(file.fileno(), bytes((byte,)), at)
    assert len(read(whole)) == 60


def test_it_finds_every_missing_end(whole: Path) -> None:
    for size in reversed(range(whole.stat().st_size)):
        os.truncate(whole, size)
        with pytest.raises(InputError):
            read(whole)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, at: data[:at] + bytes(len(data) - at),
        lambda data, at: data + bytes(at + 1),
        lambda data, at: data[:at] + b"\0" + data[at:],
        lambda data, at: data[at + 1 :],
    ],
    ids=["an end of zeros", "zeros after the end", "a byte too many", "a missing start"],
)
def test_it_finds(whole: Path, damage: Callable[[bytes, int], bytes]) -> None:
    data = whole.read_bytes()
    for at in range(0, len(data), 17):
        whole.write_bytes(damage(data, at))
        with pytest.raises(InputError):
            read(whole)
