import errno
import os
from pathlib import Path

import pytest

from portackpt.errors import UsageError, WriteError
from portackpt.storage import local
from portackpt.storage.local import Writer, staged_directory, staged_file, write_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put(path: Path, text: str, overwrite: bool = False) -> None:
    with staged_file(path, overwrite=overwrite) as temporary:
        write_file(temporary, text.encode())


def put_directory(path: Path, text: str, overwrite: bool = False) -> None:
    with staged_directory(path, overwrite=overwrite) as temporary:
        write_file(temporary / "a", text.encode())
        (temporary / "below").mkdir()
        write_file(temporary / "below" / "b", text.encode())


@pytest.mark.parametrize("write", [put, put_directory])
def test_it_refuses_to_replace_unless_told(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path / "x", "old")
    with pytest.raises(UsageError, match=r"the target exists; use --overwrite"):
        write(tmp_path / "x", "new")
    write(tmp_path / "x", "new", overwrite=True)
    content = tmp_path / "x" if (tmp_path / "x").is_file() else tmp_path / "x" / "below" / "b"
    assert content.read_text() == "new"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("old", ["file", "directory"])
@pytest.mark.parametrize("write", [put, put_directory])
def test_it_replaces_either_kind_by_either(tmp_path: Path, old: str, write) -> None:  # type: ignore[no-untyped-def]
    (put if old == "file" else put_directory)(tmp_path / "x", "old")
    write(tmp_path / "x", "new", overwrite=True)
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").is_file() is (write is put)


def test_it_leaves_the_old_one_when_the_block_fails(tmp_path: Path) -> None:
    put_directory(tmp_path / "x", "old")
    with pytest.raises(ZeroDivisionError), staged_directory(tmp_path / "x", overwrite=True) as new:
        write_file(new / "a", b"new")
        _ = 1 / 0
    assert (tmp_path / "x" / "a").read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_it_exchanges_directories_without_a_moment_with_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_directory(tmp_path / "x", "old")
    renamed = []
    monkeypatch.setattr(Path, "rename", lambda *_: renamed.append(1))
    put_directory(tmp_path / "x", "new", overwrite=True)
    assert (tmp_path / "x" / "a").read_text() == "new"
    assert not renamed  # the two names were exchanged in one step


def test_it_steps_aside_where_the_file_system_cannot_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_renameat2", lambda *_: False)
    put_directory(tmp_path / "x", "old")
    put_directory(tmp_path / "x", "new", overwrite=True)
    assert (tmp_path / "x" / "a").read_text() == "new"
    assert names(tmp_path) == ["x"]


def test_it_says_why_it_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"cannot write: No space left on device; what was there"):
        put(tmp_path / "x", "new")
    assert names(tmp_path) == []


def test_it_says_that_a_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="Not a directory"):
        put(tmp_path / "file" / "x", "new")


def test_it_makes_the_folders_above(tmp_path: Path) -> None:
    put(tmp_path / "a" / "b" / "x", "new")
    assert (tmp_path / "a" / "b" / "x").read_text() == "new"


def test_it_pads(tmp_path: Path) -> None:
    with Writer(tmp_path / "x") as file:
        file.write(b"abc")
        file.pad(8)
        assert file.position == 8
    assert (tmp_path / "x").read_bytes() == b"abc\0\0\0\0\0"


def test_it_writes_every_byte_of_a_large_file(tmp_path: Path) -> None:
    piece = bytes(range(256)) * 4096
    with Writer(tmp_path / "x") as file:
        for _ in range(70):
            file.write(piece)
    assert (tmp_path / "x").read_bytes() == piece * 70
