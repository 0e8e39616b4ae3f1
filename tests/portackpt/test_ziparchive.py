"""Zip archives: what Python's zipfile writes is read, what readers disagree about is refused."""

import io
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portackpt.errors import DamagedError, InputError, RefusedError, UnsupportedError
from portackpt.ziparchive import (
    Archive,
    Written,
    central_directory,
    local_header,
    open_archive,
)

CORPUS = Path(__file__).parents[2] / "../shared/data/hostile/nih-at+libzip/regress/data"
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00/\\"), min_size=1, max_size=8)
# odd in what changes no name and no byte: gaps, times, comments, fields for other readers
HARMLESS = {
    "incons-central-date.zip",
    "incons-central-file-comment-utf8-ascii.zip",
    "incons-ef-central-size-wrong.zip",
    "incons-ef-local-dupe-utf8comment.zip",
    "incons-ef-local-dupe-utf8name.zip",
    "incons-ef-local-id-size.zip",
    "incons-ef-local-id.zip",
    "incons-ef-local-utf8name-ascii.zip",
    "incons-eocd64-gap.zip",
    "incons-gap-before-cd.zip",
    "incons-gap-before-local.zip",
    "incons-streamed-2.zip",
    "incons-streamed.zip",
    "incons-trailing-garbage.zip",
}


def read_all(archive: Archive) -> dict[str, bytes]:
    return {name: archive.read(name, 1 << 26) for name in archive.members}


def make(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def write(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    written = []
    for name, data in members.items():
        written.append(Written(name, len(data), out.tell(), zlib.crc32(data)))
        out.write(local_header(written[-1]) + data)
    out.write(central_directory(written, out.tell()))
    return out.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_it_reads_what_zipfile_writes(tmp_path: Path, method: int) -> None:
    members = {"a/b": b"x" * 100_000, "empty": b"", "größe": bytes(range(256)) * 9}
    assert read_all(open_archive(make(tmp_path / "a.zip", members, method))) == members


def test_it_reads_streamed_archives_and_zip64(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        data = b""

        def writable(self) -> bool:
            return True

        def write(self, part: object) -> int:
            data = bytes(part)  # type: ignore[call-overload]
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as file:
        file.writestr("streamed", b"with a descriptor")
        with file.open("large", "w", force_zip64=True) as member:
            member.write(b"zip64")
    path = tmp_path / "a.zip"
    path.write_bytes(pipe.data)
    assert read_all(open_archive(path)) == {"streamed": b"with a descriptor", "large": b"zip64"}


def test_it_reads_from_the_middle_of_a_deflated_member(tmp_path: Path) -> None:
    data = bytes(i * 7 % 251 for i in range(300_000))
    archive = open_archive(make(tmp_path / "a.zip", {"m": data}, zipfile.ZIP_DEFLATED))
    out = bytearray(1000)
    archive.source("m").readinto(123_456, memoryview(out))
    assert bytes(out) == data[123_456:124_456]


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=99), max_size=5))
def test_it_writes_what_zipfile_reads(members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(io.BytesIO(write(members))) as file:
        assert file.testzip() is None
        assert {name: file.read(name) for name in file.namelist()} == members


def test_it_writes_large_members_as_zip64() -> None:
    large = Written("large", 5 << 30, 6 << 30, 7)
    tail = central_directory([large], 11 << 30)
    head = local_header(large)
    assert int.from_bytes(head[-16:-8], "little") == 5 << 30
    assert (5 << 30).to_bytes(8, "little") in tail
    assert (6 << 30).to_bytes(8, "little") in tail
    assert (11 << 30).to_bytes(8, "little") in tail


def test_it_finds_every_flipped_byte(tmp_path: Path) -> None:
    members = {"a": b"some bytes", "b": b"others"}
    path = make(tmp_path / "a.zip", members)
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x20]) + whole[position + 1 :])
        try:
            found = read_all(open_archive(path))
        except InputError:
            continue
        assert found == members, position  # times, attributes


def test_it_refuses_every_prefix(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zip", {"a": b"some bytes"})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError):
            open_archive(path)


def test_it_keeps_names_apart_that_differ_in_case(tmp_path: Path) -> None:
    members = {"w": b"1", "W": b"2"}
    assert read_all(open_archive(make(tmp_path / "a.zip", members))) == members


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_it_refuses_two_members_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", "1")
        file.writestr("a", "2")
    with pytest.raises(RefusedError, match="two members are called"):
        open_archive(path)


def test_it_refuses_members_that_overlap(tmp_path: Path) -> None:
    first, data = Written("a", 4, 0, zlib.crc32(b"data")), b"data"
    body = local_header(first) + data
    path = tmp_path / "a.zip"
    path.write_bytes(body + central_directory([first, Written("b", 4, 0, first.crc)], len(body)))
    with pytest.raises(RefusedError, match="overlaps"):
        open_archive(path)


def test_it_refuses_claims_beyond_deflate(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zip", {"a": b"x" * 1000}, zipfile.ZIP_DEFLATED)
    whole = path.read_bytes()
    path.write_bytes(whole.replace((1000).to_bytes(4, "little"), (1 << 30).to_bytes(4, "little")))
    with pytest.raises(RefusedError, match="claims 1073741824 bytes"):
        open_archive(path)


def test_it_names_other_methods(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zip", {"a": b"x"}, zipfile.ZIP_LZMA)
    with pytest.raises(UnsupportedError, match="compressed by method 14"):
        open_archive(path)


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of odd archives is not here")
def test_it_agrees_with_zipfile_or_says_what_is_wrong() -> None:
    for path in sorted(CORPUS.iterdir()):
        try:
            found = read_all(open_archive(path))
        except InputError:
            continue
        assert not path.name.startswith("incons-") or path.name in HARMLESS, path.name
        # zipfile wants sound extra fields, too
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as file:
            names = [name for name in file.namelist() if not name.endswith("/")]
            assert found == {name: file.read(name) for name in names}, path.name
