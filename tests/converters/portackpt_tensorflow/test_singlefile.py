"""TensorFlow 1's single files: their values, and every way to damage them."""

import os
from pathlib import Path
from typing import Any

import pytest

from portackpt.errors import DamagedError, InputError, UnsupportedError
from portackpt.storage.local import Writer
from portackpt.tree import tensors
from portackpt_tensorflow.tablewriter import TableWriter
from portackpt_tensorflow.tensorbundle import FORMAT

FILE = Path(__file__).parents[2] / "data/tensorflow/v1/model.ckpt-3"
EXPECTED = {
    "bytes": ("uint8", [0, 200, 255]),
    "complex": ("complex64", [1 + 2j]),
    "double": ("float64", [0.1, -2.5]),
    "flag": ("bool", [True, False]),
    "float": ("float32", [[0, 1, 2], [3, 4, 5]]),
    "global_step": ("int64", 3),
    "half": ("float16", [1.5, -0.0]),
    "int": ("int32", [-1, 0, 1 << 30]),
    "long": ("int64", [-(1 << 62), 5]),
    "parts": ("float32", [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]),
    "text": ("string", [b"one", b"", b"three"]),
}


def values(path: Path) -> dict[str, Any]:
    return {
        name: (tensor.dtype.name, tensor.read().tolist())
        for name, tensor in tensors(FORMAT.open(path).tree)
    }


def test_it_reads_every_kind_of_value() -> None:
    assert values(FILE) == EXPECTED


def test_it_reads_in_pieces_of_any_size() -> None:
    tree = FORMAT.open(FILE).tree
    for name in EXPECTED:
        pieces = b"".join(bytes(piece) for piece in tree[name].pieces(3))
        assert pieces == b"".join(bytes(piece) for piece in tree[name].pieces())


def test_it_finds_every_flipped_bit(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt-3"
    data = FILE.read_bytes()
    path.write_bytes(data)
    with path.open("r+b", buffering=0) as file:
        for at, byte in enumerate(data):
            os.pwrite(file.fileno(), bytes((byte ^ 1 << at % 8,)), at)
            with pytest.raises(InputError):
                values(path)
            os.pwrite(file.fileno(), bytes((byte,)), at)
    for size in reversed(range(len(data))):
        os.truncate(path, size)
        with pytest.raises(InputError):
            values(path)


def test_it_refuses_a_part_of_several(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt-3-00000-of-00002"
    path.write_bytes(FILE.read_bytes())
    with pytest.raises(UnsupportedError, match="one of 2 parts"):
        FORMAT.open(path)


def test_it_refuses_values_that_the_list_does_not_name(tmp_path: Path) -> None:
    listed = bytes.fromhex("0a02 1200")
    for items in ({b"": listed, b"\0x\0\1\0": b""}, {b"": b""}, {b"a": b""}, {}):
        path = tmp_path / f"model-{len(items)}-{len(b''.join(items))}"
        with Writer(path) as file:
            table = TableWriter(file)
            for key, value in items.items():
                table.add(key, value)
            table.finish()
        with pytest.raises(DamagedError, match="list"):
            FORMAT.open(path)


def test_it_refuses_a_bundle_without_its_name(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes((FILE.parents[1] / "names/model.ckpt-5.index").read_bytes())
    with pytest.raises(DamagedError):
        FORMAT.open(path)
