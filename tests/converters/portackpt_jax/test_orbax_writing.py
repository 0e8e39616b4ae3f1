"""Orbax: what is written, `orbax.checkpoint` restores, with a target and without, by both APIs."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sameness import assert_same

import generated
from portackpt.bytesource import InMemory
from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import BY_NAME
from portackpt.errors import UsageError, WriteError
from portackpt.ledger import Fate
from portackpt.spelling import spell
from portackpt.tensor import Tensor, contiguous, from_array
from portackpt.tree import Object, walk
from portackpt_jax.orbax import FORMAT, pytree_writer
from portackpt_jax.orbax.attributes import JAX_ARRAY, NUMPY_SCALAR
from portackpt_jax.orbax.pytree_writer import chunk_shape

WORDS = FORMAT.vocabulary
assert WORDS is not None
KEY = Object(
    "jax.random.key",
    entries={"data": from_array(np.array([0, 3], np.uint32)), "impl": "threefry2x32"},
)


def write(tree: Any, path: Path, step: int | None = None, **details: Any) -> None:
    checkpoint = Checkpoint(tree, "orbax", details=details)
    FORMAT.write(checkpoint, path, overwrite=True, step=step, progress=unheard)


def unheard(count: int) -> None:
    pass


@pytest.fixture(scope="module")
def ocp() -> Any:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    return pytest.importorskip("orbax.checkpoint")


def array(*shape: int, dtype: str = "float32", attributes: Mapping[str, Any] = {}) -> Tensor:
    values = np.arange(int(np.prod(shape))).reshape(shape).astype(BY_NAME[dtype].to_numpy())
    return from_array(values, attributes)


def arrays_alike(found: Any, tensor: Tensor) -> bool:
    values = np.asarray(found)
    return (
        values.dtype == tensor.dtype.to_numpy()
        and values.shape == tensor.shape
        and values.tobytes() == tensor.read().tobytes()
    )


def alike(found: Any, tree: Any) -> bool:
    """What Orbax restored is the tree: its containers, values with their types, bits."""
    if isinstance(tree, Tensor):
        if tree.attributes == NUMPY_SCALAR:
            return isinstance(found, (int, float)) and found == tree.read().item()
        return isinstance(found, np.ndarray) != ("jax.class" in tree.attributes) and arrays_alike(
            found, tree
        )
    if isinstance(tree, Object):
        import jax

        return str(jax.random.key_impl(found)) == tree.entries["impl"] and arrays_alike(
            jax.random.key_data(found), tree.entries["data"]
        )
    if type(found) is not type(tree):
        return False
    if isinstance(tree, dict):
        return found.keys() == tree.keys() and all(alike(found[key], tree[key]) for key in tree)
    if isinstance(tree, list):
        return len(found) == len(tree) and all(map(alike, found, tree))
    return found == tree or repr(found) == repr(tree)  # nan


def second_api(path: Path) -> Any:
    from orbax.checkpoint.experimental import v1

    return v1.load_pytree(path)


READERS = {
    "standard": lambda ocp, path: ocp.StandardCheckpointer().restore(path),
    "pytree": lambda ocp, path: ocp.PyTreeCheckpointer().restore(path),
    "second API": lambda ocp, path: second_api(path),
}
TREES: dict[str, Any] = {
    "every kind of leaf": {
        "array": array(2, 3), "jax": array(2, 3, attributes=JAX_ARRAY), "int": 3, "float": 1.5,
        "bool": True, "text": "text", "none": None, "dict": {}, "list": [], "items": [1, array(2)],
        "key": KEY, "float32": array(dtype="float32", attributes=NUMPY_SCALAR),
        "large": array(dtype="uint64", attributes=NUMPY_SCALAR), "nan": float("nan"),
    },
    "shapes": {"0-d": array(), "nothing": array(0, 3), "no": array(0),
               "ten": array(1, 2, 1, 1, 2, 1, 1, 1, 2, 1)},
    "a tensor": array(3),
    "a number": -7,
    "a text": "",
    "a list": [array(1), "x", [None]],
    "an empty dict": {},
    "an empty list": [],
    "no arrays": {"a": "b", "c": [None]},
    "names": {
        name: array(number + 1)
        for number, name in enumerate(["", "a/b", "a//b", "/a", "a", ".", "..", "a/../b", "a.b",
                                       "~", "~1", "größe", "名前", " ", "a\nb", 'a"b', "\\", "%2F",
                                       "c", ".zarray", "0", "x" * 300, "None"])
    },
    "texts": {"": "a", "a.b": "c", "x/y": "z", "größe": "名前\n\"", "0": "1", "~0~1": "tilde"},
    "more than Orbax inlines": {"a": array(300), "b": array(256), "c": array(257)},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_orbax_restores_it(ocp: Any, tmp_path: Path, tree: Any, reader: Any) -> None:
    write(tree, tmp_path / "a")
    assert alike(reader(ocp, tmp_path / "a"), tree)
    assert_same(FORMAT.open(tmp_path / "a").tree, tree)


@pytest.mark.parametrize("name", sorted(WORDS.dtypes))
def test_orbax_restores_every_dtype(ocp: Any, tmp_path: Path, name: str) -> None:
    values = (np.arange(6, dtype="f4").reshape(2, 3) % 2).astype(BY_NAME[name].to_numpy())
    write({"a": from_array(values)}, tmp_path / "a")
    restored = ocp.StandardCheckpointer().restore(tmp_path / "a")["a"]
    assert restored.dtype == values.dtype
    assert restored.tobytes() == values.tobytes()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(generated.trees())
def test_orbax_restores_any_tree(ocp: Any, tmp_path_factory: Any, tree: Any) -> None:
    assert WORDS is not None
    spelling = spell({"tree": tree} if tree is None else tree, WORDS)
    path = tmp_path_factory.mktemp("any") / "a"
    write(spelling.tree, path)
    assert alike(ocp.StandardCheckpointer().restore(path), spelling.tree)
    assert {entry.target for entry in spelling.entries} >= {
        place for place, _ in walk(spelling.tree)
    }


def alone(node: Any) -> Any:
    """The tree without identities: Orbax keeps each tensor for itself."""
    if isinstance(node, Tensor):
        data = b"".join(bytes(piece) for piece in node.pieces())
        return contiguous(node.dtype, node.shape, InMemory(data), 0, node.attributes)
    if isinstance(node, dict):
        return {key: alone(item) for key, item in node.items()}
    if isinstance(node, list):
        return [alone(item) for item in node]
    if isinstance(node, Object):
        return Object(node.type, entries=alone(node.entries))
    return node


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(generated.trees())
def test_it_reads_back_any_tree(tmp_path_factory: Any, tree: Any) -> None:
    assert WORDS is not None
    spelled = spell({"tree": tree} if tree is None else tree, WORDS).tree
    path = tmp_path_factory.mktemp("any") / "a"
    write(spelled, path)
    assert_same(alone(FORMAT.open(path).tree), alone(spelled))


@pytest.mark.filterwarnings("ignore")
def test_orbax_restores_into_a_training_state(ocp: Any, tmp_path: Path) -> None:
    import jax
    import jax.numpy as jnp

    optax = pytest.importorskip("optax")
    training = pytest.importorskip("flax.training.train_state")
    params = {"dense": {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)}}
    chain = optax.chain(optax.clip(1.0), optax.adamw(optax.linear_schedule(1e-3, 0, 10)))
    state = training.TrainState.create(apply_fn=None, params=params, tx=chain)
    state = state.apply_gradients(grads=params)
    with ocp.StandardCheckpointer() as saver:
        saver.save(tmp_path / "stock", state)
    opened = FORMAT.open(tmp_path / "stock")
    FORMAT.write(opened, tmp_path / "ours", overwrite=False, step=None, progress=unheard)
    fresh = training.TrainState.create(apply_fn=None, params=params, tx=chain)
    for target in (fresh, jax.tree.map(ocp.utils.to_shape_dtype_struct, fresh)):
        restored = ocp.StandardCheckpointer().restore(tmp_path / "ours", target)
        assert jax.tree.structure(restored) == jax.tree.structure(state)
        same = jax.tree.map(lambda a, b: bool(np.all(a == b)), restored, state)
        assert jax.tree.all(same)
    plain = [ocp.StandardCheckpointer().restore(tmp_path / name) for name in ("stock", "ours")]
    assert str(plain[0]) == str(plain[1])


@pytest.mark.filterwarnings("ignore")
def test_a_manager_finds_the_steps(ocp: Any, tmp_path: Path) -> None:
    root = tmp_path / "deep/root"
    for step in (5, 7, 5):
        write({"w": array(step), "n": step}, root, step)
    assert FORMAT.steps(root) == (5, 7)
    with ocp.CheckpointManager(root) as manager:
        assert manager.all_steps() == [5, 7]
        assert alike(manager.restore(5), {"w": array(5), "n": 5})
        restored = manager.restore(7, args=ocp.args.StandardRestore({"w": np.zeros(7), "n": 0}))
        assert restored["n"] == 7
        manager.save(8, args=ocp.args.StandardSave({"n": 8}))
    assert FORMAT.open(root).tree == {"n": 8}
    with pytest.raises(UsageError, match="exists"):
        FORMAT.write(Checkpoint({"n": 1}, "x"), root, overwrite=False, step=8, progress=unheard)
    write({"n": 1}, tmp_path / "one")
    with pytest.raises(UsageError, match="this is one checkpoint, not a root of steps"):
        write({"n": 1}, tmp_path / "one", 3)


@pytest.mark.filterwarnings("ignore")
def test_a_root_keeps_its_items(ocp: Any, tmp_path: Path) -> None:
    import jax
    import jax.numpy as jnp

    items = {
        "params": ocp.args.StandardSave({"w": jnp.ones(3)}),
        "progress": ocp.args.JsonSave({"epoch": 2, "best": None}),
        "keys": ocp.args.JaxRandomKeySave(jax.random.key(4)),
        "numpy": ocp.args.NumpyRandomKeySave(np.random.RandomState(1).get_state()),
        "array": ocp.args.ArraySave(jnp.ones(2)),
    }
    with ocp.CheckpointManager(tmp_path / "stock") as manager:
        manager.save(3, args=ocp.args.Composite(**items))
    (tmp_path / "stock/3/iterator").mkdir()
    (tmp_path / "stock/3/iterator/process_0-of-1.json").write_text("{}")
    opened = FORMAT.open(tmp_path / "stock")
    FORMAT.write(opened, tmp_path / "ours", overwrite=False, step=3, progress=unheard)
    again = FORMAT.open(tmp_path / "ours")
    assert_same(again.tree, opened.tree)
    assert again.details == opened.details
    assert (tmp_path / "ours/3/iterator/process_0-of-1.json").read_text() == "{}"
    restore = ocp.args.Composite(
        params=ocp.args.StandardRestore(), progress=ocp.args.JsonRestore(),
        keys=ocp.args.JaxRandomKeyRestore(), numpy=ocp.args.NumpyRandomKeyRestore(),
        array=ocp.args.ArrayRestore(),
    )  # fmt: skip
    with ocp.CheckpointManager(tmp_path / "ours") as manager:
        restored = manager.restore(3, args=restore)
    assert restored["progress"] == {"epoch": 2, "best": None}
    assert jax.random.key_data(restored["keys"]).tolist() == [0, 4]
    assert restored["numpy"][1].tolist() == np.random.RandomState(1).get_state()[1].tolist()
    assert restored["array"].tolist() == [1, 1]
    assert restored["params"]["w"].tolist() == [1, 1, 1]
    # without a step the items are the dict at the top
    FORMAT.write(opened, tmp_path / "flat", overwrite=False, step=None, progress=unheard)
    flat = ocp.StandardCheckpointer().restore(tmp_path / "flat")
    assert flat["progress"] == {"epoch": 2, "best": None}


@pytest.mark.filterwarnings("ignore")
def test_a_program_on_other_devices_restores_it(ocp: Any, tmp_path: Path) -> None:
    """Jax arrays come back on whatever devices there are; Orbax's own would be refused."""
    tree = {"w": array(4, 4, attributes=JAX_ARRAY), "key": KEY}
    write(tree, tmp_path / "a")
    program = (
        "import sys, jax, orbax.checkpoint as ocp\n"
        "found = ocp.StandardCheckpointer().restore(sys.argv[1])\n"
        "assert len(found['w'].devices()) == 3 == len(jax.devices())\n"
        "assert found['w'].sum() == 120\n"
    )
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3", "JAX_PLATFORMS": "cpu"}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "a")],
        check=True, env={**os.environ, **flags}, capture_output=True,
    )  # fmt: skip


def test_tuples_that_orbax_recorded_survive(ocp: Any, tmp_path: Path) -> None:
    from orbax.checkpoint._src.metadata.pytree_metadata_options import PyTreeMetadataOptions

    options = PyTreeMetadataOptions(support_rich_types=True)
    rich = ocp.PyTreeCheckpointHandler(pytree_metadata_options=options)
    tree = {"a": (1, (2, {"b": 3})), "c": [4]}
    with ocp.Checkpointer(rich) as saver:
        saver.save(tmp_path / "stock", args=ocp.args.PyTreeSave(tree))
        opened = FORMAT.open(tmp_path / "stock")
        assert opened.tree == {"a": [1, [2, {"b": 3}]], "c": [4]}
        FORMAT.write(opened, tmp_path / "ours", overwrite=False, step=None, progress=unheard)
        assert saver.restore(tmp_path / "ours") == tree
    document = json.loads((tmp_path / "ours/_METADATA").read_text())
    assert document["value_metadata_tree"] == opened.details["value_metadata_tree"]
    write({"a": [1], "c": [4]}, tmp_path / "changed", **opened.details)
    assert "value_metadata_tree" not in json.loads((tmp_path / "changed/_METADATA").read_text())


CHUNKED = [(40, 3), (41, 3), (7, 5, 3), (1, 1, 97), (3, 97), (2, 3, 31), (200,), (1, 200, 1)]


@pytest.mark.parametrize("shape", CHUNKED, ids=str)
def test_large_arrays_are_divided(
    ocp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(pytree_writer, "LARGEST_CHUNK", 64)
    monkeypatch.setattr(pytree_writer, "INLINE", 16)
    pytree_writer._divide.cache_clear()
    tree = {"a": array(*shape, dtype="int16"), "b": array(3)}
    write(tree, tmp_path / "a")
    pytree_writer._divide.cache_clear()
    assert alike(ocp.StandardCheckpointer().restore(tmp_path / "a"), tree)
    assert_same(alone(FORMAT.open(tmp_path / "a").tree), alone(tree))


@given(st.lists(st.integers(1, 1 << 20), max_size=4), st.sampled_from([1, 2, 4, 8, 16]))
def test_chunks_are_small_equal_and_in_order(shape: list[int], itemsize: int) -> None:
    chunk = chunk_shape(tuple(shape), itemsize)
    assert len(chunk) == len(shape)
    size = itemsize
    for n in chunk:
        size *= n
    assert size <= pytree_writer.LARGEST_CHUNK
    axis = next((i for i, n in enumerate(chunk) if n > 1), len(chunk))
    assert list(chunk[axis + 1 :]) == shape[axis + 1 :]


def test_a_value_that_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="None alone"):
        write(None, tmp_path / "a")
    for value, told in (
        (1 << 64, "does not fit in int64"), (b"bytes", "no leaf of type bytes"),
        (Object("my.Thing"), "no leaf of type my.Thing"), ({1: 2}, "a key of type int"),
        ({"a.b": 1, "a": {"b": 2}}, "cannot tell 'x/a/b' from 'x/a.b'"),
        ({"~": "text"}, "JSON pointer"), ({"a": "b", "a/c": "d"}, "JSON pointer"),
        ({"\ud800": 1}, "UTF-8"),
    ):  # fmt: skip
        with pytest.raises(WriteError, match=told):
            write({"x": value}, tmp_path / "a")
        assert not list(tmp_path.iterdir())


NAMES = [
    ({"a.b": 1, "a": {"b": 2}}, {"a.b": 1, "a": {"b_2": 2}}),
    ({"a": {"b": 2}, "a.b": 1}, {"a": {"b": 2}, "a_b": 1}),
    ({"": {"": 1}, ".": 2}, {"": {"": 1}, "_": 2}),
    ({"a": [1], "a.0": 2}, {"a": [1], "a_0": 2}),
    ({"a.0": 2, "a": [1]}, {"a.0": 2, "a_2": [1]}),
    ([[1], {"x": 2}], [[1], {"x": 2}]),
    ({"a": 1, "a/": 2, "/": 3, "": 4}, {"a": 1, "a_": 2, "/": 3, "_": 4}),
    ({"~": "t"}, {"~0": "t"}),
    ({"~": {"a": "t", "b": 1}}, {"~0": {"a": "t", "b": 1}}),
    ({"~": 1}, {"~": 1}),
    ({"a": "t", "a/b": "u"}, {"a": "t", "a_b": "u"}),
    ({"a/b": "u", "a": "t"}, {"a/b": "u", "a_2": "t"}),
    ({"~1": "t", "/": "u"}, {"~1": "t", "/": "u"}),
    ({"\ud800": 1}, {"\\ud800": 1}),
]


@pytest.mark.parametrize(("tree", "expected"), NAMES, ids=repr)
def test_names_that_meet_are_changed_and_the_ledger_says_so(tree: Any, expected: Any) -> None:
    assert WORDS is not None
    spelling = spell(tree, WORDS)
    assert spelling.tree == expected
    changed = [entry for entry in spelling.entries if "renamed" in entry.detail]
    assert bool(changed) == (tree != expected)
    assert all(entry.fate is Fate.EXACT for entry in spelling.entries)
    assert {entry.target for entry in spelling.entries} == {path for path, _ in walk(expected)}


def test_the_same_save_has_the_same_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTACKPT_SAVE_ID", "fixed")
    for name in "ab":
        write(TREES["every kind of leaf"], tmp_path / name)
    first, second = ({path.relative_to(tmp_path / name): path.read_bytes()
                      for path in (tmp_path / name).rglob("*") if path.is_file()}
                     for name in "ab")  # fmt: skip
    times = {Path("_CHECKPOINT_METADATA"), Path("manifest.ocdbt")}
    assert first.keys() == second.keys()
    assert {path for path in first if first[path] != second[path]} <= times


def test_a_target_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write({"a": 1}, tmp_path / "a")
    with pytest.raises(UsageError, match="exists"):
        FORMAT.write(
            Checkpoint({"a": 2}, "x"), tmp_path / "a", overwrite=False, step=None, progress=unheard
        )
    with pytest.raises(WriteError):
        write({"a": b""}, tmp_path / "a")
    assert FORMAT.open(tmp_path / "a").tree == {"a": 1}
    write({"a": 2}, tmp_path / "a")
    assert FORMAT.open(tmp_path / "a").tree == {"a": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("step", [None, 4])
def test_the_code_it_prints_restores_it(ocp: Any, tmp_path: Path, step: int | None) -> None:
    tree = {"w": array(2), "n": 3}
    write(tree, tmp_path / "a", step)
    names: dict[str, Any] = {}
    exec(FORMAT.resume(tmp_path / "a", step), names)
    assert alike(names["state"], tree)
