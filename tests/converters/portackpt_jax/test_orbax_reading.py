"""Orbax: every layout that it writes is read, with and without it being installed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from portackpt.errors import DamagedError, InputError, UsageError
from portackpt.plugins import Probe
from portackpt.tensor import Tensor
from portackpt.tree import Object, tensors
from portackpt_jax.orbax import FORMAT, NO_CHECKSUMS

ROOT = Path(__file__).parents[3]
STORED = ROOT / "tests/data/orbax"
# Orbax gives these back where nothing tells it otherwise: dicts in the order of their names
TREE = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a/b": np.array([7], np.uint8),
    "b": {"c": np.arange(3, dtype=np.int16), "größe": np.ones((2, 2), ml_dtypes.bfloat16)},
    "empty": {"dict": {}, "list": [], "tuple": ()},
    "key": Object(
        "jax.random.key", entries={"data": np.array([0, 3], np.uint32), "impl": "threefry2x32"}
    ),
    "list": [1, 2.5, True, "text", None, np.zeros(2, np.float32)],
    "tuple": [1.0, np.ones(1)],
}
JAX = {"a", "b/größe", "list/5"}
SHARDED = {name: np.arange(64, dtype=np.float32).reshape(8, 8)
           for name in ("both", "columns", "none", "rows")}  # fmt: skip


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of every layout, made by Orbax on four devices."""
    pytest.importorskip("orbax.checkpoint")
    pytest.importorskip("zstandard")
    folder: Path = tmp_path_factory.mktemp("every")
    script = [sys.executable, "-W", "ignore", str(ROOT / "tests/data/make_orbax.py"), str(folder)]
    subprocess.run(script, check=True, capture_output=True)
    return folder


def checked(tree: Any, expected: Any) -> None:
    """The same containers, keys in the same order, values with their types, arrays with bits."""
    assert type(tree) is (Tensor if isinstance(expected, np.ndarray) else type(expected))
    if isinstance(tree, Tensor):
        assert (tree.dtype.name, tree.shape) == (expected.dtype.name, expected.shape)
        assert tree.read().tobytes() == expected.tobytes()
        assert b"".join(bytes(piece) for piece in tree.pieces(16)) == expected.tobytes()
    elif isinstance(tree, Object):
        assert tree.type == expected.type
        checked(tree.entries, expected.entries)
    elif isinstance(tree, dict):
        assert list(tree) == list(expected)
        for key, item in tree.items():
            checked(item, expected[key])
    elif isinstance(tree, (list, tuple)):
        assert len(tree) == len(expected)
        for item, value in zip(tree, expected, strict=True):
            checked(item, value)
    else:
        assert tree == expected


def needs_zstandard() -> None:
    pytest.importorskip("zstandard")


@pytest.mark.parametrize("name", ["ocdbt", "plain"])
def test_it_reads_a_stored_tree(name: str) -> None:
    needs_zstandard()
    opened = FORMAT.open(STORED / name)
    checked(opened.tree, TREE)
    assert (opened.format, opened.framework, opened.step) == ("orbax", "jax", None)
    assert opened.notes == (NO_CHECKSUMS,)
    kinds = {path for path, found in tensors(opened.tree) if "jax.class" in found.attributes}
    assert kinds == JAX


def test_it_reads_stored_shards() -> None:
    needs_zstandard()
    checked(FORMAT.open(STORED / "sharded").tree, SHARDED)


def test_it_reads_what_the_second_api_stored() -> None:
    needs_zstandard()
    opened = FORMAT.open(STORED / "second_api")
    checked(opened.tree, {k: v for k, v in TREE.items() if k not in ("key", "tuple")})
    assert opened.details["unnamed"] == "state"
    assert opened.details["indicator"] is True


def test_it_reads_the_steps_of_a_stored_root() -> None:
    needs_zstandard()
    root = STORED / "root"
    assert FORMAT.steps(root) == (2, 10)
    for step in (2, 10):
        expected = {
            "params": {"w": np.full(3, step, np.int32)},
            "progress": {"epoch": step, "best": None},
        }
        opened = FORMAT.open(root, step=step)
        assert opened.step == step
        checked(opened.tree, expected)
        assert FORMAT.open(root / str(step)).step == step
    assert FORMAT.open(root).step == 10
    with pytest.raises(UsageError, match="no complete step 3; there are 2, 10"):
        FORMAT.open(root, step=3)
    with pytest.raises(UsageError, match="not a root with step 3"):
        FORMAT.open(root / "2", step=3)
    assert FORMAT.steps(root / "2") == ()


def test_it_reads_every_layout(every: Path) -> None:
    found = {path.name for path in every.iterdir()}
    assert len(found) == 15
    for name in sorted(found - {"root"}):
        opened = FORMAT.open(every / name)
        if name.startswith("tree"):
            checked(opened.tree, TREE)
        else:
            checked(opened.tree, SHARDED)
        assert FORMAT.recognize(Probe(every / name)), name


def test_it_reads_every_kind_of_item(every: Path) -> None:
    opened = FORMAT.open(every / "root", step=2)
    state = np.random.RandomState(2).get_state()
    checked(
        opened.tree,
        {
            "array": np.ones(2, np.float32),
            "keys": {
                "jax_random_key": np.array([0, 2], np.uint32),
                "jax_random_key_metadata": {"typed": True},
            },
            "numpy": {
                "np_random_key": [state[0], np.array(state[1]), *state[2:]],
                "np_random_key_metadata": {"legacy": True},
            },
            "params": {"w": np.full(3, 2, np.int32)},
            "progress": {"epoch": 2, "best": None},
        },
    )


def test_it_reads_items_of_other_handlers_as_files(tmp_path: Path) -> None:
    item = tmp_path / "data_iterator"
    item.mkdir()
    (item / "process_0-of-2.json").write_text('{"at": 1}')
    (item / "process_1-of-2.json").write_text("{}")
    (tmp_path / "_CHECKPOINT_METADATA").write_text('{"item_handlers": {"data_iterator": "x.Y"}}')
    tree = FORMAT.open(tmp_path).tree
    assert list(tree) == ["data_iterator"]
    assert list(tree["data_iterator"]) == ["process_0-of-2.json", "process_1-of-2.json"]
    assert tree["data_iterator"]["process_0-of-2.json"].read().tobytes() == b'{"at": 1}'


def test_it_reads_numbers_that_are_none_in_json(tmp_path: Path) -> None:
    """Python's writer spells NaN and infinities in metrics and custom metadata."""
    needs_zstandard()
    shutil.copytree(STORED / "ocdbt", tmp_path / "a/params")
    (tmp_path / "a/metrics").mkdir()
    (tmp_path / "a/metrics/metrics").write_text('{"loss": NaN, "best": -Infinity}')
    path = tmp_path / "a/params/_METADATA"
    document = json.loads(path.read_text())
    document["custom_metadata"] = {"loss": float("nan")}
    path.write_text(json.dumps(document))
    opened = FORMAT.open(tmp_path / "a")
    assert repr(opened.tree["metrics"]) == "{'loss': nan, 'best': -inf}"
    assert repr(opened.details["items"]["params"]["custom_metadata"]) == "{'loss': nan}"


def test_it_leaves_out_an_item_that_is_being_deleted(tmp_path: Path) -> None:
    needs_zstandard()
    shutil.copytree(STORED / "root/2", tmp_path / "a")
    (tmp_path / "a/_CHECKPOINT_DELETION").write_text('{"checkpointable_name": "params"}')
    opened = FORMAT.open(tmp_path / "a")
    assert list(opened.tree) == ["progress"]
    assert "item 'params' is being deleted, and left out" in opened.notes


def test_it_says_what_it_leaves_out(tmp_path: Path) -> None:
    needs_zstandard()
    shutil.copytree(STORED / "root/2", tmp_path / "a")
    (tmp_path / "a/README").write_text("mine")
    notes = FORMAT.open(tmp_path / "a").notes
    assert "the file 'README' belongs to no item, and is left out" in notes


def copied(name: str, target: Path, **changes: Any) -> Path:
    """A stored checkpoint with changes to its `_METADATA`."""
    needs_zstandard()
    shutil.copytree(STORED / name, target)
    path = target / "_METADATA"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return target


@pytest.mark.parametrize("name", ["ocdbt", "plain"])
def test_it_reads_names_where_the_metadata_are_missing(tmp_path: Path, name: str) -> None:
    path = copied(name, tmp_path / "a")
    (path / "_METADATA").unlink()
    opened = FORMAT.open(path)
    assert opened.notes[1].startswith("_METADATA is missing: names are split at their dots")
    found = {place: found.read().tolist() for place, found in tensors(opened.tree)}
    assert found["b/c"] == [0, 1, 2]
    assert found["a~1b"] == [7]
    assert found["list/0"] == 1
    assert opened.tree["list"]["3"] == "text"


def test_a_missing_chunk_is_the_fill_value_only_in_older_checkpoints(tmp_path: Path) -> None:
    flag = "store_array_data_equal_to_fill_value"
    path = copied("plain", tmp_path / "a", **{flag: False})
    (path / "a/0.0").unlink()
    opened = FORMAT.open(path)
    checked(opened.tree["a"], np.zeros((2, 3), np.float32))
    assert "1 chunks are absent and read as the fill value" in opened.notes[1]
    path = copied("plain", tmp_path / "b", **{flag: True})
    (path / "a/0.0").unlink()
    with pytest.raises(DamagedError, match="1 of 1 chunks are missing"):
        FORMAT.open(path)


def leaf(*path: tuple[str, int], value_type: str = "None", **more: Any) -> dict[str, Any]:
    return {
        "key_metadata": [{"key": key, "key_type": kind} for key, kind in path],
        "value_metadata": {"value_type": value_type, "skip_deserialize": True, **more},
    }


def described(path: Path, *leaves: dict[str, Any], **more: Any) -> Any:
    """The tree of a checkpoint that has these leaves and no arrays."""
    path.mkdir(exist_ok=True)
    document = {"tree_metadata": dict(zip("abcdef", leaves, strict=False)), **more}
    (path / "_METADATA").write_text(json.dumps(document))
    return FORMAT.open(path).tree


def test_it_builds_trees_in_the_order_of_the_file(tmp_path: Path) -> None:
    tree = described(
        tmp_path / "a", leaf(("z", 2), ("1", 1)), leaf(("a", 2), value_type="Tuple"),
        leaf(("z", 2), ("0", 1), ("x", 2), value_type="Dict"), leaf(("", 2), value_type="List"),
    )  # fmt: skip
    assert tree == {"z": [{"x": {}}, None], "a": (), "": []}
    assert list(tree) == ["z", "a", ""]


def test_an_empty_container_gives_way_to_what_is_in_it(tmp_path: Path) -> None:
    """A partial save leaves both."""
    inner, outer = leaf(("a", 2), ("b", 2)), leaf(("a", 2), value_type="Dict")
    assert described(tmp_path / "a", outer, inner) == {"a": {"b": None}}
    assert described(tmp_path / "b", inner, outer) == {"a": {"b": None}}


def test_a_root_that_is_a_leaf_is_read(tmp_path: Path) -> None:
    assert described(tmp_path / "a", leaf(value_type="Dict")) == {}
    assert described(tmp_path / "b", leaf(value_type="Tuple")) == ()


BAD_TREES = {
    "no leaf": [],
    "two leaves at one place": [leaf(("a", 2), value_type="List"), leaf(("a", 2), ("b", 2)),
                                leaf(("a", 2), ("b", 2), ("c", 2)), leaf(("a", 2), ("0", 1))],
    "a list and a dict at one place": [leaf(("a", 2), ("0", 1)), leaf(("a", 2), ("b", 2))],
    "a gap in a list": [leaf(("1", 1))],
    "a place that is no number": [leaf(("x", 1))],
    "a negative place": [leaf(("-1", 1))],
    "a place beyond lists": [leaf(("9" * 30, 1))],
    "an unknown type of key": [leaf(("a", 3))],
    "a leaf too deep": [leaf(*[("a", 2)] * 300)],
    "text that is nowhere": [leaf(("a", 2), value_type="string")],
    "an array that is nowhere": [leaf(("a", 2), value_type="jax.Array")],
    "a name that leads outside": [leaf(("../../etc", 2), value_type="np.ndarray")],
    "a name that is absolute": [leaf(("/etc", 2), value_type="np.ndarray")],
    "a name with NUL": [leaf(("a\0b", 2), value_type="np.ndarray")],
}  # fmt: skip


@pytest.mark.parametrize("leaves", BAD_TREES.values(), ids=BAD_TREES)
def test_a_tree_that_cannot_be_is_told(tmp_path: Path, leaves: list[Any]) -> None:
    (tmp_path / "_strings.json").write_text("{}")
    with pytest.raises(InputError):
        described(tmp_path, *leaves, use_ocdbt=False)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"tree_metadata": 1}', '{"tree_metadata": {"a": {}}}', "[" * 100_000,
     '{"tree_metadata": {}}', '{"tree_metadata": {"a": {"key_metadata": 1, "value_metadata": 2}}}'],
)  # fmt: skip
def test_damaged_metadata_are_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "_METADATA").write_text(text)
    with pytest.raises(DamagedError, match="_METADATA"):
        FORMAT.open(tmp_path)
