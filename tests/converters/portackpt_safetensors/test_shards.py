"""Sharded directories: what Hugging Face's tools read and write, and indexes that lie."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sameness import assert_same

from portackpt.checkpoint import Checkpoint
from portackpt.errors import DamagedError, InputError, RefusedError, UnknownFormatError
from portackpt.plugins import Probe
from portackpt.tensor import Tensor, from_array
from portackpt_safetensors import shards
from portackpt_safetensors.safetensors import FORMAT

INDEX = "model.safetensors.index.json"


def unheard(count: int) -> None:
    pass


def write(tree: Any, path: Path, **about: Any) -> None:
    checkpoint = Checkpoint(tree, about.pop("format", "pytorch"), **about)
    FORMAT.write(checkpoint, path, overwrite=True, step=None, progress=unheard)


def tensors(*names: str) -> dict[str, Tensor]:
    return {name: from_array(np.full(4, i, np.float32)) for i, name in enumerate(names)}


def make(
    directory: Path, parts: dict[str, list[str]], weight_map: dict[str, str] | None = None
) -> Path:
    """A directory of shards as its makers write it."""
    reference = pytest.importorskip("safetensors.numpy")
    directory.mkdir()
    for shard, names in parts.items():
        arrays = {name: np.full(2, len(name), np.float32) for name in names}
        reference.save_file(arrays, directory / shard, {"format": "pt"})
    spread = {name: shard for shard, names in parts.items() for name in names}
    total = 8 * len(spread)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map or spread}
    (directory / INDEX).write_text(json.dumps(index))
    return directory


TWO = {"model-00001-of-00002.safetensors": ["a", "b"], "model-00002-of-00002.safetensors": ["c"]}


def test_it_writes_shards_that_the_index_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = pytest.importorskip("safetensors.numpy")
    monkeypatch.setattr(shards.assign, "__defaults__", (32,))
    tree = tensors("a", "b", "c")
    write(tree, tmp_path / "out", framework="pytorch")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        INDEX,
    ]
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    assert index["metadata"] == {"total_size": 48}
    for name, shard in index["weight_map"].items():
        found = reference.load_file(tmp_path / "out" / shard)
        assert found[name].tolist() == tree[name].read().tolist()
    assert_same(tree, FORMAT.open(tmp_path / "out").tree)


def test_it_keeps_trees_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards.assign, "__defaults__", (16,))
    tree = {"model": tensors("a", "b"), "step": 3, "names": ("x", None)}
    write(tree, tmp_path / "out", framework="jax", step=3)
    opened = FORMAT.open(tmp_path / "out")
    assert_same(tree, opened.tree)
    assert (opened.framework, opened.step) == ("jax", 3)


def test_it_writes_the_same_directory_again(tmp_path: Path) -> None:
    source = make(tmp_path / "in", TWO)
    opened = FORMAT.open(source)
    FORMAT.write(opened, tmp_path / "out", overwrite=False, step=None, progress=unheard)
    for path in source.glob("*.safetensors"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert json.loads((tmp_path / "out" / INDEX).read_text()) == json.loads(
        (source / INDEX).read_text()
    )
    FORMAT.write(opened, tmp_path / "x.safetensors", overwrite=False, step=None, progress=unheard)
    assert_same(opened.tree, FORMAT.open(tmp_path / "x.safetensors").tree)


def test_it_reads_an_index_given_by_itself(tmp_path: Path) -> None:
    source = make(tmp_path / "in", TWO)
    assert list(FORMAT.open(source / INDEX).tree) == ["a", "b", "c"]
    assert FORMAT.recognize(Probe(source / INDEX))


@pytest.mark.parametrize(
    "shard", ["../x.safetensors", "/etc/passwd", "..\\x", "a/b.safetensors", "", ".", "..", "x\0y"]
)
def test_it_refuses_shards_elsewhere(tmp_path: Path, shard: str) -> None:
    outside = make(tmp_path / "outside", {"x.safetensors": ["a"]})
    outside.joinpath("x.safetensors").rename(tmp_path / "x.safetensors")
    source = make(tmp_path / "in", TWO, {"a": shard})
    with pytest.raises(RefusedError, match="the plain name of a file beside the index"):
        FORMAT.open(source)


def test_it_follows_links_only_within_the_checkpoint(tmp_path: Path) -> None:
    source = make(tmp_path / "in", TWO)
    shard = source / "model-00002-of-00002.safetensors"
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedError, match="outside of the checkpoint"):
        FORMAT.open(source)


def test_it_follows_the_links_of_the_hugging_face_cache(tmp_path: Path) -> None:
    snapshots = tmp_path / "models--who--what" / "snapshots"
    snapshots.mkdir(parents=True)
    source = make(snapshots / "0123abcd", TWO)
    blobs = tmp_path / "models--who--what" / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(source.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(Path("../../blobs") / str(number))
    assert list(FORMAT.open(source).tree) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("weight_map", "error", "told"),
    [
        ({"a": "gone.safetensors"}, DamagedError, "which is absent"),
        ({"z": "model-00002-of-00002.safetensors"}, DamagedError, "which it does not"),
        ({"a": 1}, RefusedError, "plain name"),
        ({"a": "model.safetensors.index.json"}, InputError, "header"),
    ],
)
def test_it_says_how_an_index_lies(
    tmp_path: Path, weight_map: dict[str, str], error: type[InputError], told: str
) -> None:
    source = make(tmp_path / "in", TWO, weight_map)
    with pytest.raises(error, match=told):
        FORMAT.open(source)


def test_it_refuses_a_tensor_in_two_shards(tmp_path: Path) -> None:
    source = make(tmp_path / "in", {"x.safetensors": ["a", "b"], "y.safetensors": ["b", "c"]})
    with pytest.raises(RefusedError, match="stands in two shards"):
        FORMAT.open(source)


def test_it_carries_tensors_that_the_index_forgot_and_says_so(tmp_path: Path) -> None:
    names = {"a": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"}
    opened = FORMAT.open(make(tmp_path / "in", TWO, names))
    assert sorted(opened.tree) == ["a", "b", "c"]
    assert any("in another shard than the index says: 1" in note for note in opened.notes)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"weight_map": []}', "[" * 100_000, '{"weight_map": {}, "weight_map": {}}'],
)
def test_it_refuses_what_is_no_index(tmp_path: Path, text: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / INDEX).write_text(text)
    with pytest.raises(InputError):
        FORMAT.open(tmp_path / "in")


def test_it_recognizes_an_index_with_its_shards_and_nothing_else(tmp_path: Path) -> None:
    source = make(tmp_path / "in", TWO)
    assert FORMAT.recognize(Probe(source))
    (source / "model-00002-of-00002.safetensors").unlink()
    assert FORMAT.recognize(Probe(source))  # damaged
    (source / "consolidated.safetensors").touch()
    assert not FORMAT.recognize(Probe(source))
    (source / "consolidated.safetensors").rename(source / "config.json")
    assert not FORMAT.recognize(Probe(source))
    assert not FORMAT.recognize(Probe(tmp_path))


def test_it_says_what_a_directory_lacks(tmp_path: Path) -> None:
    with pytest.raises(UnknownFormatError, match="found none"):
        FORMAT.open(tmp_path)
