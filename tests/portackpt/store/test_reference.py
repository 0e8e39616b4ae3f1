"""References: which names become paths, and what is opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from portackpt.errors import DamagedError, RefusedError
from portackpt.store.reference import ReferencedFile, is_reference, open_reference


@pytest.mark.parametrize(
    "name", ["a", "shard-00000.safetensors", "a/b/c.d", "_x", "a" * 200, "console", "com", "a..b"]
)
def test_it_takes_plain_relative_names(name: str) -> None:
    assert is_reference(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/../b", "a/./b", "/a", "a/", "a//b", ".a", "-a", "a.", "a b", "a\\b",
     "C:a", "a\n", "a\0", "größe", "con", "Con.txt", "a/nul", "com1", "lpt9.x", "a" * 201,
     "/".join(["a"] * 501), "s3://b/a", "file:a"],
)  # fmt: skip
def test_it_takes_no_other_name(name: str, tmp_path: Path) -> None:
    assert not is_reference(name)
    with pytest.raises(RefusedError, match="no file name that a manifest may refer to"):
        open_reference(tmp_path, name)


def link_to_file(root: Path) -> str:
    (root.parent / "secret").write_text("x")
    (root / "link").symlink_to(root.parent / "secret")
    return "link"


def link_to_folder(root: Path) -> str:
    (root.parent / "folder").mkdir()
    (root.parent / "folder" / "secret").write_text("x")
    (root / "linked").symlink_to(root.parent / "folder")
    return "linked/secret"


def folder(root: Path) -> str:
    (root / "folder").mkdir()
    return "folder"


def pipe(root: Path) -> str:
    os.mkfifo(root / "pipe")
    return "pipe"


def below_a_file(root: Path) -> str:
    (root / "file").write_text("x")
    return "file/x"


@pytest.mark.parametrize("make", [link_to_file, link_to_folder, folder, pipe, below_a_file])
def test_it_opens_regular_files_only(make: Callable[[Path], str], tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(RefusedError):
        open_reference(root, make(root))


def test_it_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="the file is missing, at a/b"):
        open_reference(tmp_path, "a/b")
    with pytest.raises(DamagedError, match="not a committed checkpoint"):
        open_reference(tmp_path, "manifest.json")


def test_it_compares_the_size_before_it_reads(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert ReferencedFile(tmp_path, "f", 3).read() == b"abc"
    with pytest.raises(DamagedError, match=r"expected 1099511627776 bytes, found 3, at f"):
        ReferencedFile(tmp_path, "f", 1 << 40).read()


def test_it_notices_a_file_that_shrinks_while_it_is_open(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    file = ReferencedFile(tmp_path, "f", 3)
    file.open()
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(DamagedError, match="the file ends early"):
        file.read()
