"""safetensors files: the reference library judges what is written, and writes what is read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sameness import assert_same, leaf

import generated
from portackpt.bytesource import InMemory
from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import BY_NAME, TABLE
from portackpt.errors import DamagedError, InputError, UnsupportedError, UsageError
from portackpt.plugins import Probe
from portackpt.tensor import Strided, Tensor, contiguous, from_array
from portackpt.tree import Object
from portackpt_safetensors import document
from portackpt_safetensors.safetensors import FORMAT
from portackpt_safetensors.spellings import SPELLINGS

REAL = Path(__file__).parents[3] / "../shared/data/real/hf-safetensors"
DATA = Path(__file__).parents[2] / "data/safetensors"
NATIVE = [dtype for dtype in TABLE if dtype.name in SPELLINGS]


def write(tree: Any, path: Path, **about: Any) -> None:
    checkpoint = Checkpoint(tree, about.pop("format", "pytorch"), **about)
    FORMAT.write(checkpoint, path, overwrite=True, step=None, progress=lambda count: None)


def ranged(dtype: str, shape: tuple[int, ...]) -> Tensor:
    count = int(np.prod(shape)) * BY_NAME[dtype].itemsize
    data = bytes(range(1, 1 + count)) if dtype != "bool" else bytes([1, 0] * count)[:count]
    return contiguous(BY_NAME[dtype], shape, InMemory(data))


def test_it_reads_a_stored_file_of_torchs(tmp_path: Path) -> None:
    opened = FORMAT.open(DATA / "torch.safetensors")
    assert opened.framework == "pytorch"
    names = [*(dtype.name for dtype in NATIVE), "scalar", "nothing"]
    assert sorted(opened.tree) == sorted(names)
    for dtype in NATIVE:
        found = opened.tree[dtype.name]
        assert leaf(found) == leaf(ranged(dtype.name, (2, 3)))
    FORMAT.write(opened, tmp_path / "x.safetensors", overwrite=False, step=None, progress=len_of)
    again = (tmp_path / "x.safetensors").read_bytes()
    assert again == (DATA / "torch.safetensors").read_bytes()


def test_it_reads_what_torch_wrote_and_writes_the_same_bytes(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    reference = pytest.importorskip("safetensors.torch")
    tensors = {}
    for dtype in NATIVE:
        raw = torch.tensor(list(leaf(ranged(dtype.name, (2, 3)))[2]), dtype=torch.uint8)
        tensors[dtype.name] = raw.view(getattr(torch, dtype.torch)).view(2, 3)
    tensors["scalar"] = torch.tensor(7.0)
    tensors["nothing"] = torch.zeros(0, 3)
    reference.save_file(tensors, tmp_path / "a.safetensors", {"format": "pt", "by": "us"})
    opened = FORMAT.open(tmp_path / "a.safetensors")
    assert opened.framework == "pytorch"
    for name, tensor in tensors.items():
        found = opened.tree[name]
        assert found.shape == tuple(tensor.shape)
        assert found.dtype.torch == str(tensor.dtype).removeprefix("torch.")
        assert leaf(found)[2] == tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
    FORMAT.write(opened, tmp_path / "b.safetensors", overwrite=False, step=None, progress=len_of)
    again = (tmp_path / "b.safetensors").read_bytes()
    assert again == (tmp_path / "a.safetensors").read_bytes()


def len_of(count: int) -> None:
    assert count >= 0


@given(st.dictionaries(generated.names, generated.tensors(st.sampled_from(NATIVE)), max_size=5))
@settings(max_examples=40, deadline=None)
def test_it_writes_a_flat_dict_as_an_ordinary_file(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Tensor]
) -> None:
    reference = pytest.importorskip("safetensors")
    tree = {
        name: tensor
        for name, tensor in tree.items()
        if tensor.shape or tensor.dtype.name != "float4_e2m1fn_x2"
    }
    path = tmp_path_factory.mktemp("plain") / "x.safetensors"
    write(tree, path, framework="pytorch")
    found = dict(reference.deserialize(path.read_bytes()))
    assert found.keys() == tree.keys()
    for name, tensor in tree.items():
        assert bytes(found[name]["data"]) == leaf(tensor)[2]
        assert found[name]["dtype"] == SPELLINGS[tensor.dtype.name]
    with reference.safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt"}
    assert_same(tree, FORMAT.open(path).tree)


@given(
    generated.trees(
        generated.scalars
        | generated.tensors()
        | generated.strings()
        | generated.tied().map(lambda tied: {"tied": tied})
    )
)
@settings(max_examples=60, deadline=None)
def test_it_gives_back_any_tree(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    reference = pytest.importorskip("safetensors")
    path = tmp_path_factory.mktemp("any") / "x.safetensors"
    write(tree, path, framework="jax", framework_version="1.2", step=3)
    reference.deserialize(path.read_bytes())
    opened = FORMAT.open(path)
    assert_same(tree, opened.tree)
    again = path.with_name("y.safetensors")
    FORMAT.write(opened, again, overwrite=False, step=None, progress=len_of)
    assert again.read_bytes() == path.read_bytes()


def test_it_joins_nested_names_and_keeps_the_rest_beside_them(tmp_path: Path) -> None:
    reference = pytest.importorskip("safetensors.numpy")
    weight = from_array(np.ones((2, 2), np.float32), {"requires_grad": True})
    tree = {
        "model": Object("collections.OrderedDict", entries={"a/b": weight, "tied": weight}),
        "optimizer": {"state": {0: {"exp_avg": from_array(np.zeros(3))}}, "lr": 0.1},
    }
    write(tree, tmp_path / "x.safetensors", framework="pytorch", step=7)
    found = reference.load_file(tmp_path / "x.safetensors")
    assert {name: array.shape for name, array in found.items()} == {
        "model/a/b": (2, 2),
        "optimizer/state/0/exp_avg": (3,),
    }
    opened = FORMAT.open(tmp_path / "x.safetensors")
    assert_same(tree, opened.tree)
    assert (opened.framework, opened.step) == ("pytorch", 7)


def test_it_writes_shared_storage_once(tmp_path: Path) -> None:
    source = InMemory(bytes(range(24)))
    whole = contiguous(BY_NAME["float32"], (2, 3), source)
    turned = Tensor(BY_NAME["float32"], (3, 2), Strided(source, 0, (4, 12)))
    tree = {"whole": whole, "turned": turned, "same": whole}
    write(tree, tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").read_bytes().count(bytes(range(24))) == 1
    assert_same(tree, FORMAT.open(tmp_path / "x.safetensors").tree)


def test_it_keeps_a_large_document_outside_of_the_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "INLINE", 64)
    tree = {"~document": ranged("int8", (3,)), "text": "x" * 1000}
    write(tree, tmp_path / "x.safetensors")
    assert_same(tree, FORMAT.open(tmp_path / "x.safetensors").tree)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("!", "not a document"),
        ("AAAA", "not a document"),
        ("~gone", "which is not there"),
        ("gqlwb3J0YWNrcHQC", "not a document"),
    ],
)
def test_it_refuses_a_damaged_document(tmp_path: Path, entry: str, told: str) -> None:
    reference = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    reference.save_file({"a": np.zeros(2)}, path, {"portackpt": entry})
    with pytest.raises(DamagedError, match=told):
        FORMAT.open(path)


def test_it_refuses_a_document_of_a_newer_version(tmp_path: Path) -> None:
    reference = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    reference.save_file({"a": np.zeros(2)}, path, {"portackpt": "galwb3J0YWNrcHQC"})
    with pytest.raises(UnsupportedError, match="needs a newer portackpt"):
        FORMAT.open(path)


def test_it_ends_in_a_tree_or_an_error_for_every_flip_of_a_document(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    source = InMemory(bytes(16))
    view = Tensor(BY_NAME["float32"], (2,), Strided(source, 4, (4,)))
    write({"a": [view, 1, "two"], "c": from_array(np.zeros(1, complex))}, path)
    data = bytearray(path.read_bytes())
    for at in range(8, data.index(b'"}', 30)):
        original = data[at]
        data[at] ^= 1 << at % 8
        path.write_bytes(data)
        data[at] = original
        try:
            FORMAT.open(path)
        except InputError:
            continue


@pytest.mark.parametrize(
    ("format", "framework"),
    [("pt", "pytorch"), ("flax", "jax"), ("tf", "tensorflow"), ("np", "pytorch")],
)
def test_it_tells_the_framework_from_the_metadata(
    tmp_path: Path, format: str, framework: str
) -> None:
    reference = pytest.importorskip("safetensors.numpy")
    reference.save_file({"a": np.zeros(2)}, tmp_path / "x.safetensors", {"format": format})
    opened = FORMAT.open(tmp_path / "x.safetensors")
    assert opened.framework == framework
    FORMAT.write(opened, tmp_path / "y.safetensors", overwrite=False, step=None, progress=len_of)
    header = json.loads((tmp_path / "y.safetensors").read_bytes()[8:].split(b"}}")[0] + b"}}")
    assert header["__metadata__"] == {"format": format}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x02\0\0\0\0\0\0\0{}", True),
        (b'\xff\xff\xff\xff\xff\xff\xff\xff{"a":{', True),
        (b'\x10\0\0\0\0\0\0\0  {"a":{}}', True),
        (b"", True),
        (b"\x80\x02}q\x00.", True),  # too short to tell, but called .safetensors
        (b"PK\x03\x04" + bytes(30), False),
        (b'{"weight_map": {}}       ', False),
    ],
)
def test_it_recognizes_its_own(tmp_path: Path, data: bytes, expected: bool) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    assert FORMAT.recognize(Probe(path)) is expected


def test_it_keeps_no_steps(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no steps"):
        FORMAT.open(tmp_path / "x.safetensors", step=1)


@pytest.mark.parametrize("path", sorted(REAL.rglob("*.safetensors")), ids=lambda p: p.parent.name)
def test_it_round_trips_real_files(tmp_path: Path, path: Path) -> None:
    reference = pytest.importorskip("safetensors")
    opened = FORMAT.open(path)
    FORMAT.write(opened, tmp_path / "x.safetensors", overwrite=False, step=None, progress=len_of)
    expected = dict(reference.deserialize(path.read_bytes()))
    found = dict(reference.deserialize((tmp_path / "x.safetensors").read_bytes()))
    assert found == expected
    with (
        reference.safe_open(path, "np") as a,
        reference.safe_open(tmp_path / "x.safetensors", "np") as b,
    ):
        assert a.metadata() == b.metadata()
