"""What is written is read again: every tree, bit for bit, with identity and shared storage."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from treesameness import same

from generated import objects, scalars, strings, tensors, tied, trees
from portackpt.box import Box
from portackpt.bytesource import InMemory
from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import BY_NAME
from portackpt.errors import DamagedError, InputError, WriteError
from portackpt.store.format import FORMAT
from portackpt.store.reader import read_checkpoint
from portackpt.store.writer import write_checkpoint
from portackpt.tensor import Strided, Tensor, Tiled, contiguous, from_array, from_strings
from portackpt.tree import Object
from portackpt.validation import validate

F32 = BY_NAME["float32"]
U8 = BY_NAME["uint8"]


@st.composite
def attributed(draw: st.DrawFn) -> Tensor:
    """A tensor with attributes, one of which may be a tensor."""
    tensor = draw(tensors())
    attributes = draw(
        st.dictionaries(st.text(max_size=4), scalars | objects(scalars) | tensors(), max_size=2)
    )
    return Tensor(tensor.dtype, tensor.shape, tensor.layout, attributes)


@st.composite
def checkpoints(draw: st.DrawFn) -> Any:
    """Trees whose tensors stand in several places, share storage, and have attributes."""
    pool = [*draw(tied()), *draw(st.lists(tensors() | strings() | attributed(), max_size=3))]
    return draw(trees(scalars | st.sampled_from(pool)))


def saved(tree: Any, path: Path, **more: Any) -> Checkpoint:
    checkpoint = Checkpoint(tree, "test", **more)
    FORMAT.write(checkpoint, path, overwrite=False, step=None, progress=lambda count: None)
    return FORMAT.open(path)


@settings(max_examples=60, deadline=None)
@given(checkpoints())
def test_it_gives_back_every_tree(tree: Any) -> None:
    with TemporaryDirectory() as folder:
        opened = saved(tree, Path(folder, "c"))
        assert same(tree, opened.tree)
        assert validate(Path(folder, "c")) == ()


@settings(max_examples=25, deadline=None)
@given(checkpoints(), st.integers(1, 40))
def test_it_gives_back_every_tree_from_small_shards(tree: Any, size: int) -> None:
    with TemporaryDirectory() as folder:
        write_checkpoint(
            Path(folder), Checkpoint(tree, "test"), step=None, progress=lambda n: None,
            shard_size=size,
        )  # fmt: skip
        assert same(tree, read_checkpoint(Path(folder)).tree)
        assert validate(folder) == ()


@settings(max_examples=25, deadline=None)
@given(checkpoints())
def test_it_writes_the_same_bytes_for_the_same_input(tree: Any) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTACKPT_SAVE_ID", "0" * 32)
        again = saved(saved(tree, Path(folder, "a")).tree, Path(folder, "b"))
        saved(again.tree, Path(folder, "c"))
        for name in ("manifest.json", "state.msgpack", "shard-00000.safetensors"):
            first, second = Path(folder, "a", name), Path(folder, "b", name)
            assert first.exists() == second.exists()
            if first.exists():
                assert first.read_bytes() == second.read_bytes()


def test_it_keeps_what_is_known_about_a_checkpoint(tmp_path: Path) -> None:
    opened = saved(
        {"a": 1}, tmp_path / "a", framework="pytorch", framework_version="2.1", step=5,
        details={"prefix": "archive", "raw": b"\0", "pair": (1, 2)}, notes=("no checksums",),
    )  # fmt: skip
    assert (opened.framework, opened.framework_version, opened.step) == ("pytorch", "2.1", 5)
    assert opened.notes == ("test: no checksums",)
    assert {k: v for k, v in opened.details.items() if k != "portackpt"} == {
        "prefix": "archive",
        "raw": b"\0",
        "pair": (1, 2),
    }
    assert opened.details_for("test") == opened.details
    FORMAT.write(opened, tmp_path / "b", overwrite=False, step=None, progress=lambda n: None)
    again = FORMAT.open(tmp_path / "b")
    assert (again.details, again.notes) == (opened.details, opened.notes)


def test_it_keeps_members_that_it_does_not_know(tmp_path: Path) -> None:
    spec = Path(__file__).parents[3] / "spec" / "vectors" / "valid"
    for name in ("members-that-nobody-knows", "a-role", "step-source-notes-and-sections"):
        path = spec / name / "checkpoint"
        FORMAT.write(
            FORMAT.open(path), tmp_path / name, overwrite=False, step=None, progress=lambda n: None
        )
        old = json.loads((path / "manifest.json").read_text())
        new = json.loads((tmp_path / name / "manifest.json").read_text())
        assert new.get("later") == old.get("later")
        for key in ("later", "role"):
            assert new["tensors"][0].get(key) == old["tensors"][0].get(key)
        assert new.get("sections", []) == old.get("sections", [])


def test_it_spells_sections_after_the_top_of_the_tree(tmp_path: Path) -> None:
    saved({"model": {"w": 1}, "a/b": [1], "step": 3, "none": {}}, tmp_path / "c")
    document = json.loads((tmp_path / "c" / "manifest.json").read_text())
    assert document["sections"] == [{"item": "model"}, {"item": "a~1b"}]


def test_it_writes_shards_that_safetensors_opens(tmp_path: Path) -> None:
    w = np.arange(6, dtype=np.float32).reshape(2, 3)
    saved(
        {"w": from_array(w), "s": from_strings([b"ab"], ()), "b": from_array(np.array([True]))},
        tmp_path / "c",
    )
    path = tmp_path / "c" / "shard-00000.safetensors"
    with safe_open(path, framework="numpy") as file:
        assert np.array_equal(file.get_tensor("w"), w)
        assert file.get_tensor("b").tolist() == [True]
        assert file.get_tensor("s").tobytes()[-2:] == b"ab"
    assert int.from_bytes(path.read_bytes()[:8], "little") % 4096 == 4088


def test_it_puts_aligned_tensors_first(tmp_path: Path) -> None:
    saved(
        [
            from_array(np.zeros(3, np.uint8)),
            from_array(np.zeros(3, np.float32)),
            from_array(np.zeros(64, np.uint8)),
            from_array(np.zeros(3, np.complex128)),
        ],
        tmp_path / "c",
    )
    document = json.loads((tmp_path / "c" / "manifest.json").read_text())
    offsets = {t["name"]: t["boxes"][0]["offset"] - 4096 for t in document["tensors"]}
    assert offsets == {"2": 0, "3": 64, "1": 112, "0": 124}


def test_it_reads_only_the_chunks_that_are_asked_for(tmp_path: Path) -> None:
    values = np.arange(1 << 20, dtype=np.float32).reshape(1024, 1024)
    opened = saved({"w": from_array(values)}, tmp_path / "c")
    path = tmp_path / "c" / "shard-00000.safetensors"
    with path.open("r+b") as file:
        file.seek(4096 + (3 << 20))  # in the fourth and last chunk
        file.write(b"\xff")
    tensor = opened.tree["w"]
    box = Box((100, 7), (300, 5))
    assert np.array_equal(tensor.read(box), values[100:400, 7:12])
    with pytest.raises(DamagedError, match="offset 3149824, in tensor 'w', in shard-00000"):
        tensor.read(Box((900, 0), (1, 1)))
    with pytest.raises(DamagedError, match="digest does not match"):
        tensor.read()


def test_it_reads_any_range_of_a_tensor(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, (3 << 20) + 5, dtype=np.uint8)
    tensor = saved([from_array(data)], tmp_path / "c").tree[0]
    mib = 1 << 20
    for start, count in [(0, 1), (5, 2 * mib), (mib - 1, 2), (mib, mib), (0, len(data)),
                         (3 * mib - 1, 6), (2 * mib + 9, mib - 4)]:  # fmt: skip
        assert np.array_equal(tensor.read(Box((start,), (count,))), data[start : start + count])


def test_it_gathers_tiles_into_one_tensor(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    left, right = from_array(values[:, :1].copy()), from_array(values[:, 1:].copy())
    tiled = Tensor(F32, (3, 4), Tiled(((Box((0, 0), (3, 1)), left), (Box((0, 1), (3, 3)), right))))
    opened = saved({"w": tiled, "v": tiled}, tmp_path / "c")
    assert np.array_equal(opened.tree["w"].read(), values)
    assert opened.tree["w"] is opened.tree["v"]


def test_it_cuts_a_tensor_that_is_larger_than_a_shard(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.float32).reshape(6, 10)
    whole = from_array(values)
    assert isinstance(whole.layout, Strided)
    turned = Tensor(F32, (10, 6), Strided(whole.layout.source, 0, (4, 40)))
    checkpoint = Checkpoint({"w": whole, "t": turned, "x": from_array(values[0])}, "test")
    write_checkpoint(tmp_path, checkpoint, step=None, progress=lambda n: None, shard_size=100)
    document = json.loads((tmp_path / "manifest.json").read_text())
    assert [box["shape"] for box in document["tensors"][0]["boxes"]] == [[2, 10]] * 3
    assert len(document["shards"]) == 4
    opened = read_checkpoint(tmp_path)
    assert np.array_equal(opened.tree["w"].read(), values)
    assert np.array_equal(opened.tree["t"].read(), values.T)
    assert opened.tree["w"].layout.source is opened.tree["t"].layout.source
    assert validate(tmp_path) == ()


def test_it_tells_its_progress(tmp_path: Path) -> None:
    counts: list[int] = []
    checkpoint = Checkpoint([from_array(np.zeros(5 << 20, np.uint8)), from_array(np.zeros(3))], "x")
    FORMAT.write(checkpoint, tmp_path / "c", overwrite=False, step=None, progress=counts.append)
    assert sum(counts) == (5 << 20) + 24
    assert len(counts) > 5


def test_it_refuses_to_write_what_is_no_part_of_a_tree(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="a set is no part of a tree"):
        saved({"a": {1}}, tmp_path / "c")
    assert not list(tmp_path.iterdir())


def test_it_passes_on_damage_of_the_source(tmp_path: Path) -> None:
    class Broken:
        nbytes = 4

        def readinto(self, offset: int, out: memoryview) -> None:
            raise DamagedError("the source is damaged")

        def verify(self) -> None:
            pass

    with pytest.raises(DamagedError, match="the source is damaged"):
        saved({"a": contiguous(U8, (4,), Broken())}, tmp_path / "c")
    assert not list(tmp_path.iterdir())


def test_it_finds_every_flipped_byte(tmp_path: Path) -> None:
    source = InMemory(b"abcdefgh")
    tree = {
        "w": contiguous(U8, (8,), source),
        "v": contiguous(U8, (2,), source, 3),
        "s": from_strings([b"x"], ()),
        "o": Object("a.B", state={"k": (1.5, None)}),
    }
    saved(tree, tmp_path / "c", details={"d": 1})
    for path in sorted((tmp_path / "c").iterdir()):
        data = path.read_bytes()
        for at in range(len(data)):
            # the header of a shard is mostly padding
            if path.suffix == ".safetensors" and 400 < at < 4000 and at % 100:
                continue
            path.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
            assert validate(tmp_path / "c"), (path.name, at)
            with pytest.raises(InputError):
                for leaf in FORMAT.open(tmp_path / "c").tree.values():
                    if isinstance(leaf, Tensor):
                        leaf.read()
        path.write_bytes(data)
    assert validate(tmp_path / "c") == ()
