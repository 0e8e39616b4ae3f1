"""Limits that no vector can show, for their size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import xxhash

from portackpt.checkpoint import Checkpoint
from portackpt.errors import RefusedError, WriteError
from portackpt.store.format import FORMAT
from portackpt.tree import Object
from portackpt.validation import validate


def test_it_refuses_a_manifest_beyond_the_limit(tmp_path: Path) -> None:
    with (tmp_path / "manifest.json").open("wb") as file:
        file.write(b'{"portackpt":[1,0]')
        file.truncate((1 << 30) + 1)
    with pytest.raises(RefusedError, match="1073741825 bytes, at most 1073741824"):
        FORMAT.open(tmp_path)
    assert [fault.code for fault in validate(tmp_path)] == ["L-1"]


def test_it_refuses_a_state_file_beyond_the_limit(tmp_path: Path) -> None:
    FORMAT.write(
        Checkpoint(1, "test"), tmp_path / "c", overwrite=False, step=None, progress=lambda n: None
    )
    path = tmp_path / "c" / "manifest.json"
    document = json.loads(path.read_text())
    del document["digest"]
    document["state"]["size"] = size = (1 << 32) + 1
    body = json.dumps(document)[:-1] + ',"digest":"xxh3-128:'
    zeros = body + "0" * 32 + '"}\n'
    path.write_text(body + xxhash.xxh3_128_hexdigest(zeros.encode()) + '"}\n')
    with (tmp_path / "c" / "state.msgpack").open("r+b") as file:
        file.truncate(size)
    with pytest.raises(RefusedError, match="4294967297 bytes, at most 4294967296"):
        FORMAT.open(tmp_path / "c")


def test_it_writes_and_reads_trees_as_deep_as_allowed(tmp_path: Path) -> None:
    tree = Object("x")
    for _ in range(255):
        tree = Object("x", items=[tree])
    FORMAT.write(
        Checkpoint(tree, "test"),
        tmp_path / "c",
        overwrite=False,
        step=None,
        progress=lambda n: None,
    )
    opened = FORMAT.open(tmp_path / "c").tree
    for _ in range(255):
        (opened,) = opened.items
    assert opened.type == "x"
    with pytest.raises(WriteError, match="nested deeper"):
        FORMAT.write(
            Checkpoint([[tree]], "test"), tmp_path / "d", overwrite=False, step=None,
            progress=lambda n: None,
        )  # fmt: skip


@pytest.mark.parametrize("step", [-1, 1 << 63])
def test_it_refuses_steps_that_it_could_not_read(step: int, tmp_path: Path) -> None:
    from portackpt.errors import UsageError

    with pytest.raises(UsageError, match=r"outside 0 to 2\^63 - 1"):
        FORMAT.write(
            Checkpoint(1, "test"), tmp_path / "r", overwrite=False, step=step,
            progress=lambda n: None,
        )  # fmt: skip
