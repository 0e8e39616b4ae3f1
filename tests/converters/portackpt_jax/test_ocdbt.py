"""OCDBT: TensorStore reads what is written and writes what is read; no flipped bit goes unseen."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portackpt.errors import DamagedError, InputError, RefusedError, UnsupportedError
from portackpt_jax.ocdbt import wire, writer
from portackpt_jax.ocdbt.node import parse_manifest, parse_node
from portackpt_jax.ocdbt.reader import MANIFEST_NAME, Database
from portackpt_jax.ocdbt.wire import MANIFEST, NODE, Cursor, encode_varint, encode_varints, frame
from portackpt_jax.ocdbt.writer import DatabaseWriter, shared_length

keys = st.text(st.characters(codec="utf-8"), max_size=8)
databases = st.dictionaries(keys, st.binary(max_size=1200), max_size=12)


def write(root: Path, values: dict[str, bytes]) -> None:
    root.mkdir()
    with DatabaseWriter(root, "a save") as database:
        for number, (key, value) in enumerate(values.items()):
            if number % 2:
                database.put(key, value)
            else:
                into = database.begin(key)
                into.write(value[:5])
                into.write(value[5:])
                database.end()


def read(root: Path) -> dict[str, bytes]:
    database = Database(root)
    found = {key: database.read(key, 1 << 20) for key in database.below("")}
    for key, value in found.items():
        source = database.source(key)
        assert source is not None
        assert value is not None
        out = bytearray(source.nbytes)
        source.readinto(0, memoryview(out))
        assert bytes(out) == value
    return found  # type: ignore[return-value]


def ordered(values: dict[str, bytes]) -> list[tuple[str, bytes]]:
    return sorted(values.items(), key=lambda item: item[0].encode())


def many(count: int, seed: int = 0) -> dict[str, bytes]:
    source = random.Random(seed)
    return {
        f"layer/{'é' * (number % 3)}/{source.randrange(1 << 40)}": source.randbytes(
            source.choice([0, 1, 40, 1500])
        )
        for number in range(count)
    }


@settings(max_examples=40, deadline=None)
@given(databases)
def test_it_reads_what_it_wrote(tmp_path_factory: Any, values: dict[str, bytes]) -> None:
    root = tmp_path_factory.mktemp("database") / "a"
    write(root, values)
    assert list(read(root).items()) == ordered(values)


@settings(max_examples=20, deadline=None)
@given(databases)
def test_tensorstore_reads_what_it_wrote(tmp_path_factory: Any, values: dict[str, bytes]) -> None:
    ts = pytest.importorskip("tensorstore")
    root = tmp_path_factory.mktemp("database") / "a"
    write(root, values)
    store = ts.KvStore.open({"driver": "ocdbt", "base": f"file://{root}/"}).result()
    assert [key.decode() for key in store.list().result()] == [key for key, _ in ordered(values)]
    for key, value in values.items():
        assert store.read(key.encode()).result().value == value


@pytest.mark.parametrize("compression", [None, {"id": "zstd", "level": 3}])
@pytest.mark.parametrize("size", [300, 100_000_000])
def test_it_reads_what_tensorstore_wrote(tmp_path: Path, compression: Any, size: int) -> None:
    ts = pytest.importorskip("tensorstore")
    pytest.importorskip("zstandard")
    values = many(60)
    config = {"compression": compression, "max_decoded_node_bytes": size,
              "max_inline_value_bytes": 100}  # fmt: skip
    store = ts.KvStore.open(
        {"driver": "ocdbt", "base": f"file://{tmp_path}/", "config": config}
    ).result()
    for key, value in values.items():  # a version for each
        store.write(key.encode(), value).result()
    assert list(read(tmp_path).items()) == ordered(values)


@pytest.mark.parametrize(("node", "file"), [(1 << 20, 1 << 30), (2000, 20_000), (300, 5000)])
def test_trees_of_any_height_over_several_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: int, file: int
) -> None:
    monkeypatch.setattr(writer, "LARGEST_NODE", node)
    monkeypatch.setattr(writer, "LARGEST_FILE", file)
    values = many(500)
    write(tmp_path / "a", values)
    assert list(read(tmp_path / "a").items()) == ordered(values)
    ts = pytest.importorskip("tensorstore")
    store = ts.KvStore.open({"driver": "ocdbt", "base": f"file://{tmp_path}/a/"}).result()
    assert len(store.list().result()) == len(values)
    for key, value in list(values.items())[::7]:
        assert store.read(key.encode()).result().value == value


def test_the_same_save_has_the_same_files(tmp_path: Path) -> None:
    write(tmp_path / "a", many(20))
    write(tmp_path / "b", many(20))
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / name / "d").iterdir()}
                     for name in "ab")  # fmt: skip
    assert first == second


def test_keys_below_a_prefix_come_without_it(tmp_path: Path) -> None:
    write(tmp_path / "a", {"a": b"", "a/b": b"", "a/b/c": b"", "b/a/b": b""})
    database = Database(tmp_path / "a")
    assert database.below("a/") == ["b", "b/c"]
    assert database.below("c") == []
    assert database.read("c", 1) is None
    assert database.source("c") is None


def test_every_flipped_bit_of_the_index_is_found(tmp_path: Path) -> None:
    """The manifest and the nodes have checksums; a value outside a node has none."""
    root = tmp_path / "a"
    write(root, {f"key/{number}": b"x" * number for number in range(12)})
    (data,) = (root / "d").iterdir()
    values_end = sum(range(0, 12, 2))  # the values that were begun are in the file
    for path, start in ((root / MANIFEST_NAME, 0), (data, values_end)):
        whole = path.read_bytes()
        for at in range(start, len(whole)):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << (at % 8)
            path.write_bytes(flipped)
            with pytest.raises(InputError):
                Database(root)
        path.write_bytes(whole)
    Database(root)


def test_every_cut_is_found(tmp_path: Path) -> None:
    root = tmp_path / "a"
    write(root, {f"key/{number}": b"x" * 30 for number in range(4)})
    (data,) = (root / "d").iterdir()
    for path in (root / MANIFEST_NAME, data):
        whole = path.read_bytes()
        for size in range(0, len(whole), 3):
            path.write_bytes(whole[:size])
            with pytest.raises(DamagedError):
                Database(root)
        path.write_bytes(whole)


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a", {"a": b"x"})
    (data,) = (tmp_path / "a/d").iterdir()
    data.unlink()
    with pytest.raises(DamagedError, match="is missing; the checkpoint is incomplete"):
        Database(tmp_path / "a")


def files(*paths: bytes) -> bytes:
    """A data file table of paths without shared prefixes and without base paths."""
    return b"".join((
        encode_varint(len(paths)), bytes(max(len(paths) - 1, 0)),
        encode_varints([len(path) for path in paths]), bytes(len(paths)), *paths,
    ))  # fmt: skip


def manifest(
    table: bytes, place: bytes = b"\0\0\x01", head: bytes = b"\0", height: int = 0
) -> bytes:
    config = bytes(16) + head + b"\x64\x64\x04\x00"
    version = b"\1\1" + bytes([height]) + place + b"\1\0\0" + bytes(8)
    return frame(MANIFEST, config + table + version + b"\0")


@pytest.mark.parametrize(
    "path", [b"../x", b"/etc/passwd", b"d/../../x", b"d//x", b"d/./x", b"", b"d/\x00", b"\xff",
             b"x" * 300, b"C:\\x", b"http://x/y"]
)  # fmt: skip
def test_a_path_that_leads_outside_is_refused(path: bytes) -> None:
    with pytest.raises(RefusedError, match="outside the checkpoint"):
        parse_manifest(manifest(files(path)), "here")


def test_a_base_path_is_put_before_the_paths_below() -> None:
    # one file: prefix "x/" of 2 bytes is base
    table = b"\1" + b"\5" + b"\2" + b"x/d/y"
    assert parse_manifest(manifest(table), "here").node is not None
    node = frame(NODE, b"\0" + files(b"d/z") + b"\1" + b"\1" + b"k" + b"\3" + b"\1" + b"\0" + b"\5")
    found = parse_node(node, "x/", "here")
    assert found.values == [("x/d/z", 5, 3)]


def leaf(body: bytes) -> bytes:
    return frame(NODE, b"\0" + b"\0" + body)


LEAVES = {
    "no entries": b"\0",
    "more entries than bytes": b"\x90\x4e",
    "a prefix longer than the key before": b"\2" + b"\5" + b"\1\1" + b"ab" + b"\0\0" + b"\0\0",
    "keys out of order": b"\2" + b"\0" + b"\1\1" + b"ba" + b"\0\0" + b"\0\0",
    "a key twice": b"\2" + b"\0" + b"\1\1" + b"aa" + b"\0\0" + b"\0\0",
    "a value kind of 2": b"\1" + b"\1" + b"a" + b"\0" + b"\2",
    "a value over the end": b"\1" + b"\1" + b"a" + b"\5" + b"\0" + b"abc",
    "bytes after the end": b"\1" + b"\1" + b"a" + b"\0" + b"\0" + b"x",
    "a file that is not in the table": b"\1" + b"\1" + b"a" + b"\1" + b"\1" + b"\0" + b"\0",
    "a number that never ends": b"\1" + b"\xff" * 11,
    "a number over 64 bits": b"\1" + b"\xff" * 9 + b"\x02",
}


@pytest.mark.parametrize("body", LEAVES.values(), ids=LEAVES)
def test_a_damaged_node_is_told(body: bytes) -> None:
    with pytest.raises(DamagedError, match=r"damaged OCDBT structure: .*, at here"):
        parse_node(leaf(body), "", "here")


def test_what_is_newer_or_unknown_is_told() -> None:
    with pytest.raises(UnsupportedError, match="numbered manifests"):
        parse_manifest(manifest(files(b"d/x"), head=b"\1"), "here")
    with pytest.raises(DamagedError, match="no manifest: expected 0cdb3a2a, found 0cdb20de"):
        parse_manifest(leaf(b""), "here")
    version = bytearray(manifest(files(b"d/x")))
    version[12] = 1
    version[-4:] = wire.crc32c(bytes(version[:-4])).to_bytes(4, "little")
    with pytest.raises(UnsupportedError, match="OCDBT version 1"):
        parse_manifest(bytes(version), "here")


def test_a_reference_outside_its_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x").write_bytes(bytes(40))
    for place in (b"\0\0\x28", b"\0\xff\x7f\x28", b"\0\0\xff\x7f", b"\0\0\1"):
        (tmp_path / MANIFEST_NAME).write_bytes(manifest(files(b"d/x"), place))
        with pytest.raises(DamagedError):
            Database(tmp_path)


def test_a_tree_that_holds_itself_ends(tmp_path: Path) -> None:
    """Heights fall on the way down, so a node that refers to itself is at a wrong height."""
    (tmp_path / "d").mkdir()
    table = files(b"d/x")
    body = b"\1" + table + b"\1" + b"\0" + b"\0" + b"\0\0"
    length = 18 + len(body) + 4
    node = frame(NODE, body + encode_varint(length) + b"\1\1\0")
    (tmp_path / "d/x").write_bytes(node)
    place = b"\0\0" + encode_varint(len(node))
    (tmp_path / MANIFEST_NAME).write_bytes(manifest(table, place, height=1))
    with pytest.raises(DamagedError):
        Database(tmp_path)


def test_a_node_that_expands_without_end_is_refused() -> None:
    zstandard = pytest.importorskip("zstandard")
    bomb = zstandard.ZstdCompressor().compress(bytes(wire.LARGEST_BODY + 1))
    body = (0x0CDB20DE).to_bytes(4, "big") + (18 + len(bomb)).to_bytes(8, "little") + b"\0\1" + bomb
    with pytest.raises(RefusedError, match="decompressed"):
        parse_node(body + wire.crc32c(body).to_bytes(4, "little"), "", "here")


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=40))
def test_numbers_survive(values: list[int]) -> None:
    cursor = Cursor(encode_varints(values) + b"x", "here")
    assert cursor.varints(len(values)) == values
    assert cursor.take(1) == b"x"
    cursor = Cursor(encode_varints(values), "here")
    assert [cursor.varint() for _ in values] == values


@given(st.binary(max_size=6), st.binary(max_size=6), st.binary(max_size=6))
def test_the_shared_length_is_that_of_the_common_prefix(a: bytes, b: bytes, c: bytes) -> None:
    length = shared_length(a + b, a + c)
    assert (a + b)[:length] == (a + c)[:length]
    assert (a + b)[length : length + 1] != (a + c)[length : length + 1] or length == min(
        len(a + b), len(a + c)
    )
