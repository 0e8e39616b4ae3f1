import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from portackpt.bytesource import Checked, File, FileRange, InMemory, Sequential, Swapped
from portackpt.errors import DamagedError

DATA = bytes(range(256)) * 20


def take(
    source: InMemory | Checked | Swapped | Sequential | FileRange, offset: int, count: int
) -> bytes:
    out = bytearray(count)
    source.readinto(offset, memoryview(out))
    return bytes(out)


def checked(data: bytes, expected: int | None = None) -> Checked:
    return Checked(InMemory(data), lambda piece, value: zlib.crc32(piece, value),
                   zlib.crc32(DATA) if expected is None else expected, "data/0")  # fmt: skip


def test_it_checks_on_the_way_from_start_to_end() -> None:
    source = checked(DATA)
    assert take(source, 0, 1000) + take(source, 1000, len(DATA) - 1000) == DATA


@pytest.mark.parametrize("position", [0, 2000, len(DATA) - 1])
def test_it_finds_a_flip_at_the_end_of_a_whole_read(position: int) -> None:
    flipped = bytearray(DATA)
    flipped[position] ^= 1
    source = checked(bytes(flipped))
    with pytest.raises(DamagedError, match=r"checksum does not match: expected .*, at data/0"):
        take(source, 0, 1000)
        take(source, 1000, len(DATA) - 1000)


def test_it_checks_all_before_it_gives_out_a_middle() -> None:
    flipped = bytearray(DATA)
    flipped[-1] ^= 1
    with pytest.raises(DamagedError):
        take(checked(bytes(flipped)), 100, 10)
    assert take(checked(DATA), 100, 10) == DATA[100:110]


def test_it_swaps_elements_at_any_offset() -> None:
    source = Swapped(InMemory(b"\x00\x01\x00\x02\x00\x03"), 2)
    assert take(source, 0, 6) == b"\x01\x00\x02\x00\x03\x00"
    assert take(source, 1, 4) == b"\x00\x02\x00\x03"


def test_it_reads_forward_and_starts_again_for_backward() -> None:
    starts = []

    def restart() -> Callable[[memoryview], None]:
        starts.append(1)
        position = 0

        def produce(out: memoryview) -> None:
            nonlocal position
            out[:] = DATA[position : position + out.nbytes]
            position += out.nbytes

        return produce

    source = Sequential(len(DATA), restart)
    assert take(source, 10, 5) == DATA[10:15]
    assert take(source, 3000, 5) == DATA[3000:3005]
    assert len(starts) == 1
    assert take(source, 0, 5) == DATA[:5]
    assert len(starts) == 2


def test_it_says_where_a_file_ends_early(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    file = File(path)
    assert take(FileRange(file, 5, 10), 2, 3) == DATA[7:10]
    with pytest.raises(DamagedError, match="lie outside the file of 5120 bytes"):
        FileRange(file, 5000, 200)
    path.write_bytes(DATA[:100])
    with pytest.raises(DamagedError, match=r"file ends early: expected 50 bytes at 80, found 20"):
        take(FileRange(file, 0, 5120), 80, 50)


def test_it_reads_more_files_than_may_be_open(tmp_path: Path) -> None:
    files = []
    for number in range(300):
        (tmp_path / str(number)).write_bytes(bytes([number % 256]))
        files.append(File(tmp_path / str(number)))
    for _ in range(2):
        assert [file.read(0, 1)[0] for file in files] == [number % 256 for number in range(300)]
    assert sum(file.descriptor is not None for file in files) <= 128
