"""Zip archives: strict where readers disagree, lazy everywhere."""

from __future__ import annotations

import io
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from portackpt.bytesource import InMemory
from portackpt.errors import DamagedError, InputError, RefusedError, UnsupportedError
from portackpt.storage.local import Writer
from portackpt_torch.archive import Archive, open_archive
from portackpt_torch.archive_writer import ArchiveWriter

HOSTILE = Path(__file__).parents[3] / "../shared/data/hostile"


def zipped(records: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in records.items():
            file.writestr(name, data)
    return buffer.getvalue()


def written(tmp_path: Path, records: dict[str, bytes]) -> bytes:
    path = tmp_path / "a.zip"
    path.unlink(missing_ok=True)
    with Writer(path) as file:
        archive = ArchiveWriter(file)
        for name, data in records.items():
            archive.add(name, data)
        archive.finish()
    return path.read_bytes()


def opened(data: bytes) -> Archive:
    return open_archive(InMemory(data), "here")


def contents(data: bytes) -> dict[str, bytes]:
    archive = opened(data)
    return {name: archive.read(name, 1 << 20) for name in archive.records}


RECORDS = {"m/data.pkl": b"pickle", "m/data/0": bytes(range(200)), "m/empty": b"", "m/é": b"x"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_it_reads_what_python_writes(method: int) -> None:
    assert contents(zipped(RECORDS, method)) == RECORDS


def test_it_writes_what_it_and_python_read(tmp_path: Path) -> None:
    data = written(tmp_path, RECORDS)
    assert contents(data) == RECORDS
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert {name: file.read(name) for name in file.namelist()} == RECORDS


def test_it_starts_records_at_multiples_of_64(tmp_path: Path) -> None:
    data = written(tmp_path, RECORDS)
    assert data.index(bytes(range(200))) % 64 == 0


def test_its_offsets_count_from_where_the_file_stood(tmp_path: Path) -> None:
    path = tmp_path / "several"
    with Writer(path) as file:
        file.write(b"before")
        archive = ArchiveWriter(file)
        archive.add("m/data/0", b"abc")
        archive.finish()
    assert contents(path.read_bytes()[6:]) == {"m/data/0": b"abc"}


def test_it_takes_a_crc_of_zero_for_none() -> None:
    data = zipped({"m/data/0": b"abc"})
    crc = struct.pack("<L", zipfile.ZipFile(io.BytesIO(data)).infolist()[0].CRC)
    assert contents(data.replace(crc, bytes(4))) == {"m/data/0": b"abc"}


def test_it_reads_an_archive_with_something_behind_it() -> None:
    archive = opened(zipped(RECORDS) + b"tail")
    assert archive.trailing == 4
    assert opened(zipped(RECORDS)).trailing == 0


def test_it_is_not_fooled_by_bytes_that_look_like_an_end() -> None:
    inner = zipped({"m/inner": b"x"})
    assert contents(zipped({"m/data/0": inner})) == {"m/data/0": inner}
    assert contents(zipped({"m/data/0": inner}) + b"tail") == {"m/data/0": inner}


def test_it_finds_every_flipped_bit() -> None:
    data = zipped({"m/data/0": b"some bytes"})
    start = data.index(b"some bytes")
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        try:
            read = contents(bytes(changed))
        except InputError:
            continue
        assert at not in range(start, start + 10)
        assert read == {"m/data/0": b"some bytes"}  # dates, versions, attributes


def test_it_finds_flipped_bits_in_its_own_archives(tmp_path: Path) -> None:
    data = written(tmp_path, {"m/data/0": b"some bytes"})
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 0x10
        with suppress(InputError):
            assert contents(bytes(changed)) == {"m/data/0": b"some bytes"}


def test_it_never_takes_a_cut_archive(tmp_path: Path) -> None:
    data = written(tmp_path, RECORDS)
    for end in range(len(data)):
        with pytest.raises(InputError):
            contents(data[:end])


def doubled(old: str, new: str) -> bytes:
    return zipped({old: b"first", new: b"second"}).replace(new.encode(), old.encode())


def test_it_refuses_two_records_of_one_name() -> None:
    with pytest.raises(RefusedError, match="two records are called 'm/a'"):
        opened(doubled("m/a", "m/b"))
    with pytest.raises(RefusedError, match="two records"):
        opened(zipped({"m/data": b"1", "m/DATA": b"2"}))


def test_it_refuses_two_archives_in_one_file() -> None:
    first = zipped({"a/x": b"1"})
    second = bytearray(zipped({"b/y": b"2"}))
    entry, end = second.index(b"PK\x01\x02"), second.index(b"PK\x05\x06")
    second[entry + 42 : entry + 46] = struct.pack("<L", len(first))
    second[end + 16 : end + 20] = struct.pack("<L", len(first) + entry)
    both = bytes(first + second)
    assert contents(both) == {"b/y": b"2"}
    assert zipfile.ZipFile(io.BytesIO(both)).namelist() == ["b/y"]
    with pytest.raises(RefusedError, match="several zip archives"):
        opened(both + b"junk")


def patched(data: bytes, magic: bytes, offset: int, form: str, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, changed.index(magic) + offset, value)
    return bytes(changed)


ENTRY, LOCAL = b"PK\x01\x02", b"PK\x03\x04"


@pytest.mark.parametrize(
    ("magic", "offset", "form", "value", "told"),
    [
        (ENTRY, 8, "<H", 1, "encrypted"),
        (ENTRY, 8, "<H", 0x2000, "encrypted"),
        (ENTRY, 10, "<H", 12, "compression method 12"),
        (ENTRY, 20, "<L", 3, "3 bytes claim to be 5"),
        (ENTRY, 20, "<L", 500, "500 bytes claim to be 5"),
        (ENTRY, 34, "<H", 1, "damaged"),
        (ENTRY, 42, "<L", 1, "overlaps"),
        (ENTRY, 42, "<L", 1 << 30, "overlaps"),
        (ENTRY, 16, "<L", 7, "disagrees"),
        (LOCAL, 0, "<L", 0, "disagrees"),
        (LOCAL, 6, "<H", 1, "disagrees"),
        (LOCAL, 8, "<H", 8, "disagrees"),
        (LOCAL, 14, "<L", 7, "disagrees"),
        (LOCAL, 18, "<L", 7, "disagrees"),
        (LOCAL, 22, "<L", 7, "disagrees"),
        (LOCAL, 26, "<H", 2, "disagrees"),
        (LOCAL, 28, "<H", 9, "disagrees"),
        (LOCAL, 30, "<H", 0x4141, "disagrees"),
    ],
)
def test_it_refuses_what_does_not_agree(
    magic: bytes, offset: int, form: str, value: int, told: str
) -> None:
    data = zipped({"m/a": b"first"})
    with pytest.raises(InputError, match=told):
        contents(patched(data, magic, offset, form, value))


def test_it_refuses_a_bomb_before_inflating_it() -> None:
    data = zipped({"m/data/0": bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(RefusedError, match="claim to be"):
        opened(patched(data, ENTRY, 24, "<L", 0xF0000000))
    with pytest.raises(RefusedError, match="at most 100 are read"):
        opened(data).read("m/data/0", 100)


@pytest.mark.parametrize("size", [(1 << 20) - 1, (1 << 20) + 1])
def test_it_takes_exactly_the_bytes_that_a_record_says(size: int) -> None:
    data = zipped({"m/data/0": bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
    changed = patched(patched(data, ENTRY, 24, "<L", size), LOCAL, 22, "<L", size)
    with pytest.raises(DamagedError):
        opened(changed).read("m/data/0", 1 << 24)


def test_it_reads_zip64(tmp_path: Path) -> None:
    many = {f"m/{n}": b"" for n in range(70_000)}
    assert len(opened(written(tmp_path, many)).records) == 70_000
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w") as file,
        file.open(zipfile.ZipInfo("m/a"), "w", force_zip64=True) as record,
    ):
        record.write(b"large")
    assert contents(buffer.getvalue()) == {"m/a": b"large"}


def test_it_names_the_record_and_the_file() -> None:
    data = patched(zipped({"m/a": b"first"}), LOCAL, 14, "<L", 7)
    with pytest.raises(RefusedError) as told:
        contents(data)
    assert str(told.value) == (
        "its header at byte 0 disagrees with the directory, at record 'm/a', in here"
    )


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(UnsupportedError, match="known are 0"):
        opened(patched(zipped({"m/a": b"first"}), ENTRY, 10, "<H", 99))


FAITHLESS = sorted((HOSTILE / "nih-at+libzip/regress/data").glob("incons-*.zip"))


# what differs there is a date, a comment, an extra field, or a gap: no reader reads other bytes
HARMLESS = {
    "archive-comment-shorter", "central-date", "central-file-comment-utf8-ascii",
    "ef-central-size-wrong", "ef-local-dupe-utf8comment", "ef-local-dupe-utf8name",
    "ef-local-dupe-zip64-v1", "ef-local-dupe-zip64-v2", "ef-local-id", "ef-local-id-size",
    "ef-local-utf8name-ascii", "gap-before-cd", "gap-before-local", "streamed-2",
    "trailing-garbage",
}  # fmt: skip


@pytest.mark.skipif(not FAITHLESS, reason="the public corpora of hostile files are not here")
def test_it_rejects_inconsistent_archives_of_libzip() -> None:
    read = set()
    for path in [*FAITHLESS, *FAITHLESS[0].parent.glob("filename_duplicate*.zip")]:
        with suppress(InputError):
            contents(path.read_bytes())
            read.add(path.stem.removeprefix("incons-"))
    assert read == HARMLESS


@pytest.mark.skipif(not FAITHLESS, reason="the public corpora of hostile files are not here")
def test_every_archive_of_libzip_ends_in_data_or_an_error_of_ours() -> None:
    for path in FAITHLESS[0].parent.rglob("*"):
        if path.is_file():
            with suppress(InputError):
                contents(path.read_bytes())
