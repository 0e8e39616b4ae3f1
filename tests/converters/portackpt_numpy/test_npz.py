"""npz and npy: numpy.load judges what is written, numpy.save and numpy.savez write what is read."""

import io
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sameness import assert_same, leaf

import generated
from portackpt.bytesource import InMemory
from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import BY_NAME
from portackpt.errors import (
    DamagedError,
    InputError,
    RefusedError,
    UnsupportedError,
    UsageError,
    WriteError,
)
from portackpt.plugins import Probe
from portackpt.spelling import spell
from portackpt.tensor import PIECE, Strided, Tensor, from_array, from_strings
from portackpt_numpy.npy import SPELLINGS
from portackpt_numpy.npz import FORMAT

DATA = Path(__file__).parents[3] / "../shared/data"
REAL = sorted((DATA / "real").rglob("*.npz"))
NATIVE = [BY_NAME[name] for name in SPELLINGS]


def write(tree: Any, path: Path) -> None:
    checkpoint = Checkpoint(tree, "pytorch")
    FORMAT.write(checkpoint, path, overwrite=True, step=None, progress=unheard)


def unheard(count: int) -> None:
    pass


def saved(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


PLAIN = {
    **{name: np.arange(6).reshape(2, 3).astype(name) for name in SPELLINGS if name != "bfloat16"},
    "bfloat16": np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16),
    "0-d": np.array(2.5),
    "zero size": np.zeros((0, 3), np.int8),
    "ten dimensions": np.arange(4.0).reshape(1, 2, 1, 1, 2, 1, 1, 1, 1, 1),
    "Fortran order": np.asfortranarray(np.arange(24, dtype=np.int32).reshape(2, 3, 4)),
}
REMEMBERED = {
    "big-endian": np.arange(6, dtype=">f4").reshape(2, 3),
    "big-endian complex": np.array([1 + 2j], ">c16"),
    "dates": np.array(["2020-02-29", "NaT"], "M8[D]"),
    "durations": np.array([1, 2], ">m8[ns]"),
    "bytes": np.array([b"ab", b"", b"abc"]),
    "wide bytes": np.array([b"ab"], "S9"),
    "text": np.array([["größe", "名前"], ["", "😀"]]),
    "big-endian text": np.array(["ab", "é"], ">U4"),
    "0-d text": np.array("adam"),
    "void": np.array([b"abc", b"d\0\0"], "V3"),
    "records": np.array([(1.5, [1, 2]), (2, [3, 4])], [("a", "<f4"), ("b", ">i2", (2,))]),
    "nested records": np.zeros((2, 1), [("a", [("b", "u1"), ("c", "S3")]), ("d é", "?")]),
    "long double": np.array([1.5, 2.5], "g"),
}


@pytest.mark.parametrize("array", PLAIN.values(), ids=PLAIN)
def test_it_reads_and_writes_what_numpy_saves(tmp_path: Path, array: Any) -> None:
    (tmp_path / "a.npy").write_bytes(saved(array))
    opened = FORMAT.open(tmp_path / "a.npy")
    tensor = opened.tree
    assert (tensor.dtype.name, tensor.shape) == (array.dtype.name, array.shape)
    assert tensor.read().tobytes() == array.tobytes()
    assert not tensor.attributes
    write(tensor, tmp_path / "b.npy")
    assert (tmp_path / "b.npy").read_bytes() == saved(array)


@pytest.mark.parametrize("array", REMEMBERED.values(), ids=REMEMBERED)
def test_it_remembers_dtypes_that_are_only_numpys(tmp_path: Path, array: Any) -> None:
    (tmp_path / "a.npy").write_bytes(saved(array))
    write(FORMAT.open(tmp_path / "a.npy").tree, tmp_path / "b.npy")
    assert (tmp_path / "b.npy").read_bytes() == saved(array)


def test_it_carries_what_numpy_means(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **REMEMBERED)
    tree = FORMAT.open(tmp_path / "a.npz").tree
    assert tree["big-endian"].read().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tree["dates"].dtype.name == "int64"
    assert tree["text"].read().tolist() == [["größe".encode(), "名前".encode()],
                                            [b"", "😀".encode()]]  # fmt: skip
    records = tree["records"].read().view(REMEMBERED["records"].dtype)[:, 0]
    assert records["a"].tolist() == [1.5, 2]
    assert records["b"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_it_reads_archives_in_order(tmp_path: Path, save: Any) -> None:
    arrays = {"W": np.ones((100, 100)), "w": np.zeros(3), "a/b": np.arange(5), "": np.array(1)}
    save(tmp_path / "a.npz", **arrays)
    opened = FORMAT.open(tmp_path / "a.npz")
    assert list(opened.tree) == list(arrays)
    for name, array in arrays.items():
        assert np.array_equal(opened.tree[name].read(), array)
        assert np.array_equal(opened.tree[name].read(), array)  # a second time, too
        assert b"".join(bytes(p) for p in opened.tree[name].pieces(64)) == array.tobytes()
    write(opened.tree, tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as found:
        assert all(np.array_equal(found[name], array) for name, array in arrays.items())


@given(
    generated.trees(
        generated.scalars
        | generated.tensors()
        | generated.strings()
        | generated.tied().map(lambda tied: {"tied": tied})
    )
)
@settings(max_examples=60, deadline=None)
def test_it_writes_any_tree_that_was_spelled_for_it(
    tmp_path_factory: pytest.TempPathFactory, tree: Any
) -> None:
    path = tmp_path_factory.mktemp("npz") / "x.npz"
    assert FORMAT.vocabulary is not None
    spelled = spell(tree, FORMAT.vocabulary).tree
    write(spelled, path)
    with np.load(path) as found:
        assert all(found[name].shape is not None for name in found)
    again = FORMAT.open(path).tree
    expected = _leaves(spelled)
    if isinstance(spelled, Tensor):
        expected = {"value": expected[""]}
    assert {name: leaf(tensor) for name, tensor in again.items()} == expected


def _leaves(tree: Any) -> dict[str, Any]:
    from portackpt.tree import plain_name, tensors

    found = list(tensors(tree))
    distinct = len({plain_name(path) for path, _ in found}) == len(found)
    return {plain_name(path) if distinct else path: leaf(tensor) for path, tensor in found}


@pytest.mark.parametrize(
    ("values", "shape"),
    [([b"a\0", b""], (2,)), ([b"\0"], ()), ([b"x" * (1 << 20)] + [b""] * 999, (10, 100))],
)
def test_it_keeps_strings_that_no_fixed_width_holds(
    tmp_path: Path, values: list[bytes], shape: tuple[int, ...]
) -> None:
    tensor = from_strings(values, shape)
    write({"s": tensor}, tmp_path / "x.npz")
    assert (tmp_path / "x.npz").stat().st_size < 3 << 20
    with np.load(tmp_path / "x.npz") as found:
        record = found["s"]
        assert tuple(record["shape"]) == shape
        assert bytes(record["data"]) == b"".join(values)
    assert_same({"s": tensor}, FORMAT.open(tmp_path / "x.npz").tree)


def test_it_keeps_large_text_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portackpt_numpy.arrays.EAGER", 8)
    array = np.array([["größe", "x"]], ">U5", order="F")
    (tmp_path / "a.npy").write_bytes(saved(array))
    tensor = FORMAT.open(tmp_path / "a.npy").tree
    assert (tensor.dtype.name, tensor.shape) == ("uint8", (1, 2, 20))
    write(tensor, tmp_path / "b.npy")
    assert np.load(tmp_path / "b.npy").tolist() == array.tolist()


def test_it_writes_a_large_array_with_its_checksum(tmp_path: Path) -> None:
    array = np.arange(PIECE // 4 + 1000, dtype=np.int32)
    tree = {"small": from_array(np.ones(3)), "large": from_array(array), "last": from_array(array)}
    write(tree, tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert archive.testzip() is None
    assert_same(tree, FORMAT.open(tmp_path / "x.npz").tree)


def test_it_writes_views_apart(tmp_path: Path) -> None:
    source = InMemory(bytes(range(24)))
    row = Tensor(BY_NAME["float32"], (3,), Strided(source, 12, (4,)))
    turned = Tensor(BY_NAME["float32"], (3, 2), Strided(source, 0, (4, 12)))
    write({"row": row, "turned": turned}, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as found:
        assert found["row"].tobytes() == bytes(range(12, 24))
        assert found["turned"].T.tobytes() == bytes(range(24))


def test_it_names_members_apart(tmp_path: Path) -> None:
    one, two = from_array(np.zeros(1)), from_array(np.ones(1))
    write({"a/b": one, "a": {"b": two}}, tmp_path / "x.npz")
    assert sorted(FORMAT.open(tmp_path / "x.npz").tree) == ["a/b", "a~1b"]
    with pytest.raises(WriteError, match="rename that leaf"):
        write({"a\0b": one}, tmp_path / "y.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_it_reads_members_that_are_no_arrays_as_bytes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", saved(np.ones(2)))
        archive.writestr("note", b"hello")
        archive.writestr("unnamed", saved(np.zeros(1)))
    tree = FORMAT.open(tmp_path / "x.npz").tree
    assert tree["note"] == b"hello"
    assert tree["unnamed"].read().tolist() == [0]
    assert FORMAT.recognize(Probe(tmp_path / "x.npz"))


def test_it_writes_one_array_alone_only_where_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds one array"):
        write({"a": from_array(np.ones(2))}, tmp_path / "x.npy")
    write(from_array(np.ones(2)), tmp_path / "x.npz")
    assert list(FORMAT.open(tmp_path / "x.npz").tree) == ["value"]


def header(text: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode() + data


OK = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"


@pytest.mark.parametrize(
    ("data", "error", "told"),
    [
        (b"\x93NUMPY", DamagedError, "at least 10 bytes"),
        (header(OK, bytes(8), b"\4\0"), UnsupportedError, "version 4"),
        (header(OK, bytes(7)), DamagedError, "cut short"),
        (header(OK, bytes(9)), DamagedError, "belong to no element"),
        (header(OK)[:30], DamagedError, "claims"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff", RefusedError, "at most"),
        (header(OK.replace("(2,)", "(-2,)")), DamagedError, "a tuple of sizes"),
        (header(OK.replace("(2,)", "(True,)")), DamagedError, "a tuple of sizes"),
        (header(OK.replace("(2,)", f"({2**62}, 4)")), RefusedError, "beyond"),
        (header(OK.replace("(2,)", "(1,) * 3")), DamagedError, "expected"),
        (header(OK.replace("(2,)", str((1,) * 65))), RefusedError, "beyond"),
        (header(OK.replace("'<f4'", "'|O'")), UnsupportedError, "Python objects"),
        (header(OK.replace("'<f4'", "'O'")), UnsupportedError, "Python objects"),
        (header(OK.replace("'<f4'", "[('a', '|O')]")), UnsupportedError, "Python objects"),
        (header(OK.replace("'<f4'", "'<f3'")), DamagedError, "no dtype"),
        (header(OK.replace("'<f4'", "[('a',)]")), DamagedError, "a field is"),
        (header(OK.replace("'<f4'", "[('a', 'V9', (2, 999999999))]")), RefusedError, "an element"),
        (header(OK.replace("'<f4'", "3")), DamagedError, "descr is"),
        (header(OK.replace("False", "0")), DamagedError, "fortran_order"),
        (header("{'descr': '<f4'}"), DamagedError, "the header has"),
        (header(OK.replace("'<f4'", "'<U2'"), b"\xff" * 16), DamagedError, "not text"),
    ],
)
def test_it_says_what_is_wrong_with_an_array(
    tmp_path: Path, data: bytes, error: type[InputError], told: str
) -> None:
    (tmp_path / "x.npy").write_bytes(data)
    assert FORMAT.recognize(Probe(tmp_path / "x.npy"))
    with pytest.raises(error, match=told):
        FORMAT.open(tmp_path / "x.npy")


def test_it_finds_a_flipped_bit_in_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.arange(100))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[400] ^= 1
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(DamagedError, match="checksum"):
        FORMAT.open(tmp_path / "x.npz").tree["a"].read()


def test_it_recognizes_a_cut_archive_and_says_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.arange(100))
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:300])
    assert FORMAT.recognize(Probe(tmp_path / "x.npz"))
    with pytest.raises(DamagedError, match="cut short"):
        FORMAT.open(tmp_path / "x.npz")


def test_it_does_not_claim_other_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
        archive.writestr("archive/x.npy", b"")
    assert not FORMAT.recognize(Probe(tmp_path / "x.zip"))
    assert not FORMAT.recognize(Probe(tmp_path))


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_it_round_trips_real_files(tmp_path: Path, path: Path) -> None:
    opened = FORMAT.open(path)
    assert FORMAT.recognize(Probe(path))
    write(opened.tree, tmp_path / "x.npz")
    with np.load(path) as expected, np.load(tmp_path / "x.npz") as found:
        assert list(found) == list(expected)
        for name in expected:
            assert found[name].dtype == expected[name].dtype
            assert np.array_equal(found[name], expected[name], equal_nan=True)


def test_it_refuses_the_public_exploits() -> None:
    paths = [path for path in (DATA / "hostile").rglob("*.np[yz]") if "int_" not in path.name]
    if not paths:
        pytest.skip("the corpus is not here")
    for path in paths:
        with pytest.raises(UnsupportedError, match="Python objects"):
            FORMAT.open(path)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_it_ends_in_data_or_an_error_for_every_change(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = bytearray(saved(np.zeros(2, [("a", "<f4"), ("b", "U2")])))
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("flip") / "x.npy"
    path.write_bytes(text)
    try:
        FORMAT.open(path).tree.read()
    except InputError:
        return
