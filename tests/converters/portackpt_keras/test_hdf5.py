"""HDF5 files: h5py judges what is written, and writes what is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sameness import leaf

import generated
from portackpt.bytesource import InMemory
from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import BY_NAME, STRING
from portackpt.errors import DamagedError, RefusedError, UnsupportedError
from portackpt.spelling import spell
from portackpt.tensor import Tensor, contiguous, from_array, from_strings
from portackpt_keras.hdf5_names import FIXED, NULL, OPAQUE, link_name, spelled
from portackpt_keras.keras import FORMAT

h5py = pytest.importorskip("h5py")
DTYPES = sorted(FORMAT.vocabulary.dtypes - {"string"}) if FORMAT.vocabulary else []


def write(tree: Any, path: Path) -> Path:
    checkpoint = Checkpoint(tree, "pytorch")
    FORMAT.write(checkpoint, path, overwrite=True, step=None, progress=lambda count: None)
    return path


def read(path: Path) -> Any:
    return FORMAT.open(path).tree


def there_and_back(tree: Any, folder: Path) -> Any:
    return read(write(tree, folder / "a.h5"))


def assert_equal(a: Any, b: Any, path: str = "") -> None:
    """Same types, names, order and bits; attributes that HDF5 adds to a tensor are its own."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            assert_equal(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, Tensor):
        assert leaf(a) == leaf(b), path
    else:
        assert a == b, path


def ranged(dtype: str, shape: tuple[int, ...]) -> Tensor:
    kind = BY_NAME[dtype]
    data = bytes(range(int(np.prod(shape)) * kind.itemsize))
    return contiguous(kind, shape, InMemory(generated.legal(kind, data)))


def test_it_keeps_every_dtype(tmp_path: Path) -> None:
    tree = {name: ranged(name, (2, 3)) for name in DTYPES}
    assert_equal(there_and_back(tree, tmp_path), tree)


@pytest.mark.parametrize(
    "shape", [(), (0,), (3, 0, 2), (5,), (1, 2, 1, 1, 2, 1, 1, 1, 2, 1), (1,) * 32]
)
def test_it_keeps_every_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    tree = {"float32": ranged("float32", shape), "bfloat16": ranged("bfloat16", shape)}
    assert_equal(there_and_back(tree, tmp_path), tree)


def test_it_writes_what_h5py_reads(tmp_path: Path) -> None:
    names = ["bool", "int8", "uint16", "int64", "float16", "float32", "float64", "complex64"]
    tree = {name: ranged(name, (2, 3)) for name in names}
    tree["text"] = from_strings([b"a", "größe".encode()], (2,))
    with h5py.File(write({"group": tree}, tmp_path / "a.h5")) as file:
        for name in names:
            found = file["group"][name]
            assert (found.dtype.name, found[()].tobytes()) == (name, leaf(tree[name])[2])
            assert found.chunks is None
        assert file["group/text"].asstr()[()].tolist() == ["a", "größe"]


def test_it_spells_bfloat16_as_keras_does(tmp_path: Path) -> None:
    with h5py.File(write({"w": ranged("bfloat16", (4,))}, tmp_path / "a.h5")) as file:
        assert (file["w"].dtype, dict(file["w"].attrs)) == (np.dtype("V2"), {"dtype": "bfloat16"})


def test_it_reads_compressed_and_chunked_values(tmp_path: Path) -> None:
    values = np.arange(3000 * 7, dtype="f4").reshape(3000, 7)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        kinds: dict[str, dict[str, Any]] = {
            "gzip": {"compression": "gzip", "shuffle": True, "fletcher32": True},
            "lzf": {"compression": "lzf", "chunks": (64, 3)},
            "chunked": {"chunks": (1000, 7), "maxshape": (None, 7)},
        }
        for name, options in kinds.items():
            file.create_dataset(name, data=values, **options)
        file.create_dataset("filled", (10, 10), "i4", fillvalue=7)
        file.create_dataset("sparse", (100, 100), "i4", chunks=(10, 10), fillvalue=-1)
    tree = read(tmp_path / "a.h5")
    for name in ("gzip", "lzf", "chunked"):
        assert np.array_equal(tree[name].read(), values), name
        assert b"".join(map(bytes, tree[name].pieces(1000))) == values.tobytes()
    assert set(tree["filled"].read().ravel()) == {7}
    assert set(tree["sparse"].read().ravel()) == {-1}


def test_it_reads_large_chunked_values_in_any_order(tmp_path: Path) -> None:
    values = np.arange(3 << 20, dtype="i4").reshape(3, 1024, 1024)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("w", data=values, chunks=(1, 100, 1024), compression="gzip",
                            compression_opts=1)  # fmt: skip
    source = read(tmp_path / "a.h5")["w"].layout.source
    for start in (11_000_000, 4_000_001, 4_000_000, 0):
        out = bytearray(999)
        source.readinto(start, memoryview(out))
        assert bytes(out) == values.tobytes()[start : start + 999]


def test_it_reads_big_endian_values(tmp_path: Path) -> None:
    values = {
        "f": np.arange(6, dtype=">f4"),
        "i": np.arange(6, dtype=">i8"),
        "c": (np.arange(3) + 1j).astype(">c8"),
    }
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in values.items():
            file[name] = array
            file.attrs[name] = array
    tree = read(tmp_path / "a.h5")
    for name, array in values.items():
        assert tree[name].read().tolist() == array.tolist()
        assert tree[f"@{name}"].read().tolist() == array.tolist()


def test_it_reads_strings_of_every_kind(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["text"] = "größe"
        file["fixed"] = np.bytes_(b"abc")
        file["texts"] = np.array(["a", "bc", ""], h5py.string_dtype())
        file["fixeds"] = np.array([b"a", b"bc", b""])
        file.attrs["texts"] = ["x", "yz"]
        file.attrs["fixeds"] = [b"x", b"yz"]
        file.attrs["empty"] = h5py.Empty("f4")
    tree = read(tmp_path / "a.h5")
    assert (tree["text"], tree["fixed"]) == ("größe", b"abc")
    for name, values in {"texts": [b"a", b"bc", b""], "fixeds": [b"a", b"bc", b""],
                         "@texts": [b"x", b"yz"], "@fixeds": [b"x", b"yz"]}.items():  # fmt: skip
        assert tree[name].dtype is STRING
        assert tree[name].read().tolist() == values, name
    assert tree["fixeds"].attributes == {FIXED: 2}
    assert tree["@empty"].attributes == {NULL: True}
    again = there_and_back(tree, tmp_path / "sub")
    assert_equal(again, tree)
    assert again["fixeds"].attributes == {FIXED: 2}


def test_it_keeps_opaque_values_without_a_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["three"] = np.frombuffer(b"abcdef", "V3")
        file["two"] = np.frombuffer(b"abcdef", "V2")
        file["named"] = np.frombuffer(b"abc", "V1")
        file["named"].attrs["dtype"] = "float8_e4m3fn"
    opened = FORMAT.open(tmp_path / "a.h5")
    assert (opened.tree["three"].shape, opened.tree["three"].attributes) == ((2, 3), {OPAQUE: 3})
    assert opened.tree["two"].dtype.name == "bfloat16"
    assert opened.tree["named"].dtype.name == "float8_e4m3fn"
    assert "1 datasets of two opaque bytes" in opened.notes[1]
    with h5py.File(write(opened.tree, tmp_path / "b.h5")) as file:
        assert file["three"][()].tobytes() == b"abcdef"
        assert (file["three"].dtype, file["two"].dtype) == (np.dtype("V3"), np.dtype("V2"))
        assert dict(file["two"].attrs) == {}


def test_it_keeps_two_names_of_one_dataset(tmp_path: Path) -> None:
    tied = from_array(np.arange(3.0))
    tree = {"a": tied, "b": {"c": tied, "d": from_array(np.arange(3.0))}}
    again = there_and_back(tree, tmp_path)
    assert again["a"] is again["b"]["c"]
    assert again["a"] is not again["b"]["d"]
    assert_equal(again, tree)


NAMES = ["@x", "", ".", "..", "a/b", "a", "a~1b", "@", "./@x", "./x", "~", "x\0y", "größe", " ",
         "\ud800", "a/", "/a", "x" * 2000]  # fmt: skip


def test_it_keeps_names_that_hdf5_cannot_hold(tmp_path: Path) -> None:
    tree = {name: ranged("int8", (3,)) for name in NAMES}
    assert_equal(there_and_back(tree, tmp_path), tree)
    nested: dict[str, Any] = {name: {"inner": ranged("int8", (3,))} for name in NAMES}
    assert_equal(there_and_back(nested, tmp_path), nested)


def test_it_keeps_plain_names_as_they_are(tmp_path: Path) -> None:
    tree = {name: ranged("int8", (3,)) for name in ("kernel:0", "a~b", "größe", "0")}
    with h5py.File(write(tree, tmp_path / "a.h5")) as file:
        assert set(file) == set(tree)
        assert all(not file[name].attrs for name in file)


def test_it_finds_a_link_unlike_those_taken() -> None:
    assert spelled("a/b", set()) == b"a~1b"
    assert spelled("a/b", {b"a~1b"}) == b"a~1b~1"
    assert spelled("@x", set()) == b"x~1"
    assert link_name("./@x") == b"@x"


SCALARS = ["", "text", "größe", "a\0b", "\ud800", b"", b"abc", b"\0", b"ab\0", bytes(range(256))]


def test_it_keeps_text_and_bytes(tmp_path: Path) -> None:
    tree: dict[str, Any] = {str(number): value for number, value in enumerate(SCALARS)}
    tree |= {f"@{number}": value for number, value in enumerate(SCALARS)}
    again = there_and_back(tree, tmp_path)
    assert_equal({key: again[key] for key in tree}, tree)
    assert len(again) == len(tree)


def test_it_keeps_strings_apart_from_text(tmp_path: Path) -> None:
    tree = {
        "one": from_strings([b"text"], ()),
        "nul": from_strings([b"a\0b", b"", b"\0"], (3,)),
        "none": from_strings([], (0, 2)),
        "large": from_strings([b"x" * 100_000, bytes(range(256)) * 500], (1, 2)),
        "@large": from_strings([b"x" * 100_000], (1,)),
    }
    assert_equal(there_and_back(tree, tmp_path), tree)


def test_it_keeps_the_order_of_names(tmp_path: Path) -> None:
    tree: dict[str, Any] = {"z": {"2": ranged("int8", (1,)), "10": {}}, "a": {}, "m": {}}
    assert list(there_and_back(tree, tmp_path)) == ["z", "a", "m"]


@settings(max_examples=12, deadline=None)
@given(st.dictionaries(generated.keys, generated.trees(), max_size=3))
def test_it_keeps_any_tree_in_its_vocabulary(
    tmp_path_factory: pytest.TempPathFactory, tree: Any
) -> None:
    assert FORMAT.vocabulary is not None
    fitting = spell(tree, FORMAT.vocabulary).tree
    again = there_and_back(fitting, tmp_path_factory.mktemp("tree"))
    # attributes of a group come first
    assert_equal(again, _attributes_first(fitting))


def _attributes_first(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    from portackpt_keras.hdf5_names import attribute_name

    names = {key: attribute_name(key, value) for key, value in node.items()}
    order = sorted((key for key in node if names[key]), key=lambda key: names[key] or b"")
    order += [key for key in node if names[key] is None]
    return {key: _attributes_first(node[key]) for key in order}


def test_it_refuses_what_leads_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 80)
    makers: dict[str, Callable[[Any], object]] = {
        "a soft link": lambda file: file.__setitem__("x", h5py.SoftLink("/y")),
        "a link to another file": lambda file: file.__setitem__(
            "x", h5py.ExternalLink(str(secret), "/")
        ),
        "values lie in another file": lambda file: file.create_dataset(
            "x", (10,), "f8", external=[(str(secret), 0, 80)]
        ),
        "a virtual dataset": _virtual,
        "a loop, or a bomb": lambda file: file.create_group("x").__setitem__("y", file["/"]),
    }
    for name, make in makers.items():
        with h5py.File(path, "w") as file:
            make(file)
        with pytest.raises(RefusedError, match=f"/x.*{name}"):
            read(path)


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "w", (4,))
    file.create_virtual_dataset("x", layout)


def test_it_refuses_claims_beyond_what_is_stored(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip")
    with pytest.raises(RefusedError, match="/x: claims 4398046511104 bytes, 0 are stored"):
        read(tmp_path / "a.h5")


def test_it_names_types_that_no_checkpoint_holds(tmp_path: Path) -> None:
    for value, told in {
        "record": (np.zeros(2, [("a", "i4"), ("b", "f4")]), r"records of fields \[b'a', b'b'\]"),
        "enumeration": (
            np.zeros(2, h5py.enum_dtype({"RED": 0, "GREEN": 1}, basetype="i1")),
            "an enumeration",
        ),
        "long double": (np.zeros(2, np.longdouble), "floating-point numbers of 16 bytes"),
    }.values():
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["x"] = value
        with pytest.raises(UnsupportedError, match=f"/x: {told}"):
            read(tmp_path / "a.h5")


def test_it_refuses_deep_nesting(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("/".join("g" * 300))
    with pytest.raises(RefusedError, match="groups deeper than 256"):
        read(tmp_path / "a.h5")


def test_it_reports_a_file_that_is_cut_short(tmp_path: Path) -> None:
    whole = write({"w": ranged("float32", (60,))}, tmp_path / "a.h5").read_bytes()
    for length in range(8, len(whole), len(whole) // 6):
        (tmp_path / "b.h5").write_bytes(whole[:length])
        with pytest.raises(DamagedError, match=r"b\.h5"):
            read(tmp_path / "b.h5")
