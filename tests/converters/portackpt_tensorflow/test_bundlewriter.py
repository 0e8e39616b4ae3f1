"""Writing: whole or not at all, and never a moment without the old checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portackpt import conversion
from portackpt.bytesource import InMemory
from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import BY_NAME
from portackpt.errors import DamagedError, UsageError, WriteError
from portackpt.spelling import spell
from portackpt.storage import local
from portackpt.tensor import Strided, Tensor, contiguous, from_array, from_strings
from portackpt.tree import Object, tensors
from portackpt_tensorflow.statefile import read_state
from portackpt_tensorflow.tensorbundle import FORMAT

DATA = Path(__file__).parents[2] / "data/tensorflow"


def write(path: Path, tree: Any, *, overwrite: bool = False, **about: Any) -> None:
    checkpoint = Checkpoint(tree, about.pop("format", "npz"), **about)
    FORMAT.write(checkpoint, path, overwrite=overwrite, step=None, progress=lambda count: None)


def one(value: float) -> dict[str, Tensor]:
    return {"a": from_array(np.array([value]))}


def read(path: Path) -> Any:
    return FORMAT.open(path).tree["a"].read().tolist()


def facts(tree: Any) -> list[Any]:
    """All there is to tensors, in order."""
    return [
        (path, t.dtype.name, t.shape, dict(t.attributes), t.read().tolist())
        for path, t in tensors(tree)
    ]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Torn:
    """A source that fails in the middle."""

    nbytes = 1 << 23

    def readinto(self, offset: int, out: memoryview) -> None:
        if offset:
            raise DamagedError("torn")

    def verify(self) -> None: ...


TORN = {"a": contiguous(BY_NAME["uint8"], (Torn.nbytes,), Torn())}


def test_it_names_its_files_after_the_prefix(tmp_path: Path) -> None:
    counted: list[int] = []
    FORMAT.write(
        Checkpoint(one(1), "npz"),
        tmp_path / "new/run/ckpt",
        overwrite=False,
        step=None,
        progress=counted.append,
    )
    expected = ["checkpoint", "ckpt.data-00000-of-00001", "ckpt.index"]
    assert names(tmp_path / "new/run") == expected
    assert sum(counted) > 8
    state = read_state(tmp_path / "new/run")
    assert state is not None
    assert (state.newest, state.known) == ("ckpt", ("ckpt",))
    write(tmp_path / "other/ckpt.index", one(1))
    assert names(tmp_path / "other") == expected


def test_it_writes_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write(tmp_path / name / "ckpt", {"a": {"b": one(1)["a"]}, "c": from_strings([b"d"], (1,))})
    for name in names(tmp_path / "x"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


def test_it_replaces_only_when_asked(tmp_path: Path) -> None:
    write(tmp_path / "ckpt", one(1))
    with pytest.raises(UsageError, match="--overwrite"):
        write(tmp_path / "ckpt", one(2))
    assert read(tmp_path / "ckpt") == [1]
    write(tmp_path / "ckpt", one(2), overwrite=True)
    assert read(tmp_path / "ckpt") == [2]
    assert names(tmp_path) == [
        "checkpoint", "ckpt.data-00000-of-00002", "ckpt.data-00001-of-00002", "ckpt.index",
    ]  # fmt: skip


def test_it_lists_the_checkpoints_beside_it(tmp_path: Path) -> None:
    for name in ("ckpt-1", "ckpt-2", "ckpt-10", "ckpt-2"):
        write(tmp_path / name, one(1), overwrite=True)
    (tmp_path / "ckpt-1.index").unlink()
    write(tmp_path / "ckpt-11", one(1))
    state = read_state(tmp_path)
    assert state is not None
    assert state.newest == "ckpt-11"
    assert state.known == ("ckpt-10", "ckpt-2", "ckpt-11")
    assert FORMAT.steps(tmp_path) == (2, 10, 11)


def test_it_leaves_nothing_of_what_failed(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="torn"):
        write(tmp_path / "ckpt", TORN)
    assert names(tmp_path) == []
    write(tmp_path / "ckpt", one(1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DamagedError, match="torn"):
        write(tmp_path / "ckpt", TORN, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class Killed(BaseException):
    pass


def kill_at(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the `count`-th change of a name on the disk, or sync, nothing more happens."""
    left = count

    def watch(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left <= 0:
                raise Killed
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    watch(Path, "rename")
    watch(Path, "unlink")
    watch(local, "_renameat2")
    watch(local.os, "fsync")


def test_it_keeps_the_old_checkpoint_until_the_new_one_is_there(tmp_path: Path) -> None:
    write(tmp_path / "ckpt", one(0))
    seen = set()
    for count in range(1, 100):
        before = read(tmp_path / "ckpt")
        with pytest.MonkeyPatch.context() as monkeypatch:
            kill_at(count, monkeypatch)
            try:
                write(tmp_path / "ckpt", one(count), overwrite=True)
                finished = True
            except Killed:
                finished = False
        found = read(tmp_path / "ckpt")
        assert found in ([count], before)
        assert FORMAT.open(tmp_path).tree["a"].read().tolist() == found
        seen.add((finished, found == before))
        if finished:
            break
    assert seen == {(False, True), (False, False), (True, False)}
    assert count > 8
    write(tmp_path / "ckpt", one(-1), overwrite=True)
    assert read(tmp_path / "ckpt") == [-1]
    shards = [name for name in names(tmp_path) if name.startswith("ckpt.data")]
    assert {name.rpartition("-")[2] for name in shards} == {f"{len(shards):05}"}


def test_it_respects_files_that_are_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(b"\x83 a msgpack file")
    with pytest.raises(UsageError, match="no list of checkpoints"):
        write(tmp_path / "ckpt", one(1))
    assert names(tmp_path) == ["checkpoint"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="a prefix, such as DIR/ckpt"):
        write(tmp_path / "folder", one(1))
    with pytest.raises(UsageError, match="not steps"):
        FORMAT.write(Checkpoint({}, "npz"), tmp_path / "x", overwrite=False, step=1, progress=print)


def test_it_keeps_data_of_others(tmp_path: Path) -> None:
    for name in ("ckpt.data-00000-of-00001", "ckpt2.data-00000-of-00002"):
        (tmp_path / name).write_bytes(b"x")
    write(tmp_path / "ckpt", one(1))
    assert (tmp_path / "ckpt.data-00000-of-00001").read_bytes() == b"x"
    write(tmp_path / "ckpt", one(2), overwrite=True)
    assert names(tmp_path) == [
        "checkpoint", "ckpt.data-00000-of-00001", "ckpt.index", "ckpt2.data-00000-of-00002",
    ]  # fmt: skip
    assert read(tmp_path / "ckpt") == [2]


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"a": {"b": 1}}, "not a int, at a/b"),
        ({"a": Object("my.Thing")}, "not a Object, at a"),
        ({"a": contiguous(BY_NAME["bits8"], (1,), InMemory(b"x"))}, "dtype bits8, at a"),
        ({"\ud800": one(1)["a"]}, "not Unicode text"),
        ({".OPTIMIZER_SLOT": {"m": one(1)}, "": {".OPTIMIZER_SLOT": {"m": one(1)}}}, "two tensors"),
    ],
)
def test_it_refuses_what_it_cannot_hold(tmp_path: Path, tree: Any, told: str) -> None:
    with pytest.raises(WriteError, match=told):
        write(tmp_path / "ckpt", tree)
    assert names(tmp_path) == []


@pytest.mark.parametrize("head", [b"\1" + bytes(7), bytes(8) + b"\xff" * 8, bytes(8)])
def test_it_refuses_strings_whose_offsets_lie(tmp_path: Path, head: bytes) -> None:
    tensor = Tensor(BY_NAME["string"], (1,), Strided(InMemory(head.ljust(20, b"\0"))))
    with pytest.raises(DamagedError, match="do not fit"):
        write(tmp_path / "ckpt", {"a": tensor})
    assert names(tmp_path) == []


def test_it_refuses_variants_that_are_none(tmp_path: Path) -> None:
    attributes = {"tensorflow.dtype": "variant", "tensorflow.shape": []}
    for data in (b"\x01x\0\0\0\0", b"\x01", b""):
        tensor = Tensor(
            BY_NAME["uint8"], (len(data),), Strided(InMemory(data), 0, (1,)), attributes
        )
        with pytest.raises(DamagedError):
            write(tmp_path / "ckpt", {"a": tensor})


@pytest.mark.parametrize("name", ["objects/ckpt-2", "variant/ckpt", "dtypes/all", "shards/merged"])
def test_it_gives_back_what_was_read(tmp_path: Path, name: str) -> None:
    first = FORMAT.open(DATA / name)
    write(tmp_path / "ckpt", first.tree, format="tensorflow", details=first.details)
    again = FORMAT.open(tmp_path / "ckpt")
    assert facts(again.tree) == facts(first.tree)
    assert again.details == first.details


def test_it_makes_a_new_graph_where_the_names_have_changed(tmp_path: Path) -> None:
    first = FORMAT.open(DATA / "objects/ckpt-2")
    tree = dict(first.tree)
    tree["epoch"] = tree.pop("save_counter")
    write(tmp_path / "ckpt", tree, format="tensorflow", details=first.details)
    graph = FORMAT.open(tmp_path / "ckpt").details["graph"]
    assert b"epoch/.ATTRIBUTES/VARIABLE_VALUE" in graph
    assert b"save_counter/.ATTRIBUTES" not in graph
    assert b"model/kernel/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE" in graph


def test_it_is_found_by_the_command(tmp_path: Path) -> None:
    ledger = conversion.convert(DATA / "objects", tmp_path / "ckpt", to="tensorflow", step=1)
    assert ledger.verdict == "exact"
    assert FORMAT.open(tmp_path / "ckpt").tree["save_counter"].read() == 1
    assert "tf.train.Checkpoint" in ledger.resume
    compile(ledger.resume, "resume", "exec")


def test_it_gives_other_names_to_what_is_no_text(tmp_path: Path) -> None:
    tree = {
        "\ud800": one(1)["a"],
        "\\ud800": one(2)["a"],
        "x": {"\udfff/": {"\ud801": one(3)["a"]}},
    }
    spelling = spell(tree, FORMAT.vocabulary)
    write(tmp_path / "ckpt", spelling.tree)
    found = {path: t.read().tolist() for path, t in tensors(FORMAT.open(tmp_path / "ckpt").tree)}
    assert found == {"\\ud800~0": [1], "\\ud800": [2], "x/\\udfff~1/\\ud801": [3]}
    assert [entry.target for entry in spelling.entries] == list(found)
    assert "renamed: TensorFlow's names are Unicode text" in spelling.entries[0].detail
