"""Bundles: the values of stored files, and damage of every kind."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portackpt.errors import DamagedError, InputError, RefusedError, UnsupportedError
from portackpt.storage.local import Writer
from portackpt.tree import tensors
from portackpt_tensorflow.checksum import extend, mask
from portackpt_tensorflow.entry import Extent, Header, encode_entry, encode_header
from portackpt_tensorflow.orderedcode import slice_key
from portackpt_tensorflow.tablewriter import TableWriter
from portackpt_tensorflow.tensorbundle import FORMAT
from portackpt_tensorflow.wire import put_bytes, put_varint

DATA = Path(__file__).parents[2] / "data/tensorflow"


def values(prefix: Path) -> dict[str, Any]:
    """Everything in a checkpoint, read."""
    return {path: tensor.read() for path, tensor in tensors(FORMAT.open(prefix).tree)}


def bundle(
    prefix: Path, entries: Mapping[bytes, bytes], *shards: bytes, header: Header | None = None
) -> Path:
    """A bundle with these entries and these data shards."""
    prefix.parent.mkdir(exist_ok=True)
    with Writer(prefix.with_name(f"{prefix.name}.index")) as file:
        table = TableWriter(file)
        table.add(b"", encode_header(header or Header(len(shards), big_endian=False)))
        for key in sorted(entries):
            table.add(key, entries[key])
        table.finish()
    for number, data in enumerate(shards):
        path = prefix.with_name(f"{prefix.name}.data-{number:05}-of-{len(shards):05}")
        path.write_bytes(data)
    return prefix


FOUR = bytes(range(4))
FLOAT = encode_entry(1, (1,), 0, 4, extend(FOUR, 0))


def test_it_reads_objects() -> None:
    found = values(DATA / "objects/ckpt-2")
    assert list(found) == [
        "save_counter",
        "model/kernel",
        "model/label",
        "model/layers/0",
        "model/layers/1/a~1b",
        "model/layers/1/c.d",
        "optimizer/beta1_power",
        "optimizer/beta2_power",
        "optimizer/.OPTIMIZER_SLOT/m/model/kernel",
        "optimizer/.OPTIMIZER_SLOT/v/model/kernel",
    ]
    assert found["model/label"].tolist() == [b"zero", b"\xff\x00", b""]
    assert found["model/layers/0"] == 7
    assert found["model/layers/1/a~1b"].tolist() == [True]
    checkpoint = FORMAT.open(DATA / "objects/ckpt-2")
    assert (checkpoint.format, checkpoint.framework) == ("tensorflow", "tensorflow")
    assert b"a/b" in checkpoint.details["graph"]


def test_it_reads_plain_names() -> None:
    found = values(DATA / "names/model.ckpt-5")
    assert {name: value.tolist() for name, value in found.items()} == {
        "dense~1kernel": [[1.0, 2.0]],
        "dense~1kernel~1Adam": [[0.5, 0.25]],
        "global_step": 5,
    }


def test_it_reads_every_dtype() -> None:
    found = values(DATA / "dtypes/all")
    assert found.pop("deep").shape == (1, 2, 1, 1, 2, 1, 1, 1, 1, 1)
    assert found.pop("empty").shape == (0, 3)
    assert found.pop("text").tolist() == [[b"a" * 200, b""], [b"b", "é".encode()]]
    opened = FORMAT.open(DATA / "dtypes/all").tree
    for name, value in found.items():
        assert opened[name].dtype.name == name
        last = 3 if name.startswith("q") else 1
        assert value.astype("c16").tolist() == [1, 0, last], name


def test_it_reads_several_shards() -> None:
    found = values(DATA / "shards/merged")
    assert [found[f"variable_{i}"].tolist() for i in range(3)] == [[0], [1, 1], [2, 2, 2]]
    assert [found[f"text_{i}"].item() for i in range(3)] == [b"t"] * 3


@pytest.mark.parametrize("name", ["rows", "columns", "both"])
def test_it_joins_slices(name: str) -> None:
    tensor = FORMAT.open(DATA / "slices/part").tree[name]
    whole = np.arange(24, dtype="f4").reshape(4, 6)
    assert np.array_equal(tensor.read(), whole)
    assert b"".join(bytes(piece) for piece in tensor.pieces(16)) == whole.tobytes()
    found = values(DATA / "slices/part")
    assert found.keys() == {"rows", "columns", "both", "long", "plain"}
    assert found["long"].tolist() == [0] * 200 + [1] * 100


def test_it_reads_big_endian_bundles(tmp_path: Path) -> None:
    arrays = {
        b"a": (1, np.array([1.5, -2], ">f4")),
        b"b": (18, np.array([1 + 2j], ">c16")),
        b"c": (14, np.array([0x3F80], ">u2")),
        b"d": (6, np.array([-3], "i1")),
    }
    data = b""
    entries = {}
    for key, (number, array) in arrays.items():
        part = array.tobytes()
        entries[key] = encode_entry(number, array.shape, len(data), len(part), extend(part, 0))
        data += part
    lengths = (3).to_bytes(4, "big") + (200).to_bytes(4, "big")
    checksum = mask(extend(lengths, 0)).to_bytes(4, "big")
    crc = extend(checksum + b"one" + b"x" * 200, extend(lengths, 0))
    text = b"\x03\xc8\x01" + checksum + b"one" + b"x" * 200
    entries[b"e"] = encode_entry(7, (2,), len(data), len(text), crc)
    prefix = bundle(tmp_path / "b", entries, data + text, header=Header(1, big_endian=True))
    found = values(prefix)
    assert found["a"].tolist() == [1.5, -2]
    assert found["b"].tolist() == [1 + 2j]
    assert found["c"].astype(float).tolist() == [1.0]
    assert found["d"].tolist() == [-3]
    assert found["e"].tolist() == [b"one", b"x" * 200]


def test_it_finds_every_flipped_bit_of_an_index(tmp_path: Path) -> None:
    prefix = copied(DATA / "dtypes/all", tmp_path)
    index = tmp_path / "all.index"
    for at, byte in enumerate(index.read_bytes()):
        for bit in (1 << at % 8, 0xFF):
            patch(index, at, byte ^ bit)
            with pytest.raises(InputError):
                FORMAT.open(prefix)
        patch(index, at, byte)
    assert len(values(prefix)) == 33


@pytest.mark.parametrize("name", ["dtypes/all", "variant/ckpt", "slices/part", "objects/ckpt-1"])
def test_it_finds_every_flipped_bit_of_the_data(tmp_path: Path, name: str) -> None:
    prefix = copied(DATA / name, tmp_path)
    data = next(tmp_path.glob("*.data*"))
    for at, byte in enumerate(data.read_bytes()):
        patch(data, at, byte ^ 1 << at % 8)
        with pytest.raises(DamagedError):
            values(prefix)
        patch(data, at, byte)
    assert values(prefix)


def test_it_says_which_tensor_is_damaged(tmp_path: Path) -> None:
    prefix = bundle(tmp_path / "b", {b"w": FLOAT}, b"\0\1\2\7")
    with pytest.raises(DamagedError, match=r"checksum .* at w, .*b.data-00000-of-00001 at 0"):
        values(prefix)


def copied(prefix: Path, folder: Path) -> Path:
    for path in prefix.parent.glob(f"{prefix.name}.*"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / prefix.name


def patch(path: Path, at: int, byte: int) -> None:
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), bytes((byte,)), at)


SHAPE = b"\x12\x04\x12\x02\x08\x01"
HUGE = put_varint((1 << 63) - 1)
CASES: dict[str, tuple[dict[bytes, bytes], bytes, type[InputError], str]] = {
    "a shard that is out of range": (
        {b"a": b"\x08\x01" + SHAPE + b"\x18\x01\x28\x04"}, FOUR, DamagedError,
        "lies in data shard 1, but the bundle has 1"),
    "a negative shard": (
        {b"a": b"\x08\x01" + SHAPE + b"\x18" + b"\xff" * 9 + b"\x01\x28\x04"}, FOUR, DamagedError,
        "lies in data shard"),
    "a size that does not fit the shape": (
        {b"a": encode_entry(1, (2,), 0, 4, 0)}, FOUR, DamagedError, "takes 8 bytes, found 4"),
    "data that ends early": (
        {b"a": encode_entry(1, (2,), 0, 8, 0)}, FOUR, DamagedError,
        "needs 8 bytes of data, found 4"),
    "an offset beyond the data": (
        {b"a": encode_entry(1, (1,), 1 << 62, 4, 0)}, FOUR, DamagedError, "bytes of data, found 4"),
    "a shape that overflows": (
        {b"a": encode_entry(1, (1 << 32, 1 << 31), 0, 4, 0)}, FOUR, DamagedError,
        "impossible shape"),
    "an empty shape that overflows": (
        {b"a": encode_entry(1, (0, 1 << 32, 1 << 31), 0, 0, 0)}, FOUR, DamagedError,
        "impossible shape"),
    "a negative dimension": (
        {b"a": b"\x08\x01" + put_bytes(2, put_bytes(2, b"\x08" + b"\xff" * 9 + b"\x01"))}, FOUR,
        DamagedError, "impossible shape"),
    "an unknown rank": (
        {b"a": b"\x08\x01\x12\x02\x18\x01"}, FOUR, DamagedError, "unknown rank"),
    "too many dimensions": (
        {b"a": encode_entry(1, (1,) * 65, 0, 4, 0)}, FOUR, RefusedError, "65 dimensions"),
    "an unknown dtype": (
        {b"a": encode_entry(77, (1,), 0, 4, 0)}, FOUR, UnsupportedError, "dtype number 77"),
    "an entry that is no message": (
        {b"a": b"\x12\x7f"}, FOUR, DamagedError, "ends inside a field, at entry b'a'"),
    "a name that is not text": (
        {b"\xff": FLOAT}, FOUR, UnsupportedError, "not UTF-8"),
    "tensors that overlap": (
        {b"a": FLOAT, b"b": FLOAT}, FOUR, RefusedError, "overlap"),
    "more strings than bytes": (
        {b"a": encode_entry(7, (1 << 40,), 0, 4, 0)}, FOUR, DamagedError, "cannot hold"),
    "a string longer than the data": (
        {b"a": encode_entry(7, (1,), 0, 8, 0)}, b"\xff\xff\x03" + bytes(5), DamagedError,
        "cannot hold the stated strings"),
    "a string of impossible length": (
        {b"a": encode_entry(7, (1,), 0, 20, 0)}, b"\xff" * 12 + bytes(8), DamagedError,
        "end early"),
    "a variant of impossible size": (
        {b"a": encode_entry(21, (1,), 0, 20, 0)}, b"\xff" * 12 + bytes(8), DamagedError,
        "impossible size"),
    "fewer variants than stated": (
        {b"a": encode_entry(21, (9,), 0, 4, 0)}, FOUR, DamagedError, "variant"),
}  # fmt: skip


@pytest.mark.parametrize(("entries", "data", "kind", "told"), CASES.values(), ids=CASES)
def test_it_refuses(
    tmp_path: Path, entries: dict[bytes, bytes], data: bytes, kind: type[InputError], told: str
) -> None:
    prefix = bundle(tmp_path / "b", entries, data)
    with pytest.raises(kind, match=told):
        values(prefix)


@pytest.mark.parametrize(
    ("header", "kind", "told"),
    [
        (b"\x08\x00", DamagedError, "0 data shards"),
        (b"\x08" + HUGE, DamagedError, "data shards"),
        (b"\x08\x01\x10\x02", DamagedError, "byte order 2"),
        (b"\x08\x01\x1a\x02\x10\x09", UnsupportedError, "readers of version 9"),
        (b"\x08", DamagedError, "ends inside a field"),
    ],
)
def test_it_refuses_headers(
    tmp_path: Path, header: bytes, kind: type[InputError], told: str
) -> None:
    with Writer(tmp_path / "b.index") as file:
        table = TableWriter(file)
        table.add(b"", header)
        table.finish()
    with pytest.raises(kind, match=told):
        FORMAT.open(tmp_path / "b")


def test_it_refuses_an_index_without_a_header(tmp_path: Path) -> None:
    for items in ({}, {b"a": FLOAT}):
        with Writer(tmp_path / f"{len(items)}.index") as file:
            table = TableWriter(file)
            for key, value in items.items():
                table.add(key, value)
            table.finish()
        with pytest.raises(DamagedError, match="header"):
            FORMAT.open(tmp_path / str(len(items)))


def test_it_tells_a_pointer_of_git_lfs_from_data(tmp_path: Path) -> None:
    prefix = bundle(tmp_path / "b", {b"a": encode_entry(1, (100,), 0, 400, 0)}, b"")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 400\n"
    (tmp_path / "b.data-00000-of-00001").write_bytes(pointer)
    with pytest.raises(DamagedError, match="git lfs pull"):
        FORMAT.open(prefix)


def test_it_says_which_shard_is_missing(tmp_path: Path) -> None:
    prefix = copied(DATA / "shards/merged", tmp_path)
    (tmp_path / "merged.data-00001-of-00003").unlink()
    with pytest.raises(DamagedError, match=r"missing.*merged.data-00001-of-00003"):
        FORMAT.open(prefix)
    (tmp_path / "merged.data-00001-of-00003").mkdir()
    with pytest.raises(DamagedError, match="missing"):
        FORMAT.open(prefix)


def sliced(name: str, shape: tuple[int, ...], *slices: tuple[Extent, ...]) -> dict[bytes, bytes]:
    """A partitioned variable of zeros, its slices one after the other in the data."""
    told = b"\x08\x06" + put_bytes(
        2, b"".join(put_bytes(2, b"\x08" + put_varint(n)) for n in shape)
    )
    entries = {}
    at = 0
    for extents in slices:
        parts = b""
        lengths = []
        for extent, n in zip(extents, shape, strict=True):
            length = n if extent.length is None else extent.length
            number = b"" if extent.length is None else b"\x10" + put_varint(extent.length)
            parts += put_bytes(1, b"\x08" + put_varint(extent.start) + number)
            lengths.append(length)
        told += put_bytes(7, parts)
        size = int(np.prod(lengths))
        entries[slice_key(name, extents)] = encode_entry(
            6, tuple(lengths), at, size, extend(bytes(size), 0)
        )
        at += size
    return {name.encode(): told, **entries}


@pytest.mark.parametrize(
    ("slices", "told"),
    [
        ([(Extent(0, 1),), (Extent(2, 2),)], "do not tile"),
        ([(Extent(0, 3),), (Extent(2, 2),)], "do not tile"),
        ([(Extent(0, 2),), (Extent(3, 2),)], "do not tile"),
        ([(Extent(0, 2),), (Extent(0, 2),)], "do not tile"),
    ],
)
def test_it_refuses_slices_that_do_not_tile(
    tmp_path: Path, slices: list[tuple[Extent, ...]], told: str
) -> None:
    prefix = bundle(tmp_path / "b", sliced("v", (4,), *slices), bytes(16))
    with pytest.raises(DamagedError, match=told):
        FORMAT.open(prefix)


def test_it_refuses_a_slice_that_is_missing_or_other_than_told(tmp_path: Path) -> None:
    entries = sliced("v", (4,), (Extent(0, 2),), (Extent(2, 2),))
    key = slice_key("v", (Extent(2, 2),))
    for number, other in enumerate((None, encode_entry(4, (2,), 2, 2, 0), FLOAT)):
        changed = {k: v for k, v in entries.items() if k != key}
        if other is not None:
            changed[key] = other
        prefix = bundle(tmp_path / str(number), changed, bytes(16))
        with pytest.raises(DamagedError, match="slice"):
            FORMAT.open(prefix)


def test_it_joins_very_many_slices_along_any_one_dimension(tmp_path: Path) -> None:
    for axis in (0, 1):
        shape = (3000, 2) if axis == 0 else (2, 3000)
        rows = [
            tuple(Extent(i, 1) if d == axis else Extent(0, None) for d in (0, 1))
            for i in range(3000)
        ]
        prefix = bundle(tmp_path / str(axis), sliced("v", shape, *rows), bytes(6000))
        assert FORMAT.open(prefix).tree["v"].read().shape == shape


def test_it_refuses_very_many_slices_along_several_dimensions(tmp_path: Path) -> None:
    grid = [(Extent(i, 1), Extent(j, 1)) for i in range(40) for j in range(40)]
    prefix = bundle(tmp_path / "b", sliced("v", (40, 40), *grid), bytes(1600))
    with pytest.raises(RefusedError, match="1600 slices"):
        FORMAT.open(prefix)
