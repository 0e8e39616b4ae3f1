"""TensorFlow as the judge: it reads what we write, and we read what it writes."""

import filecmp
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import generated
from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import BY_NAME, STRING
from portackpt.errors import InputError
from portackpt.spelling import spell
from portackpt.tensor import Tensor, from_array, from_strings
from portackpt.tree import tensors
from portackpt_tensorflow.leaves import spell_leaves
from portackpt_tensorflow.naming import GRAPH
from portackpt_tensorflow.tensorbundle import FORMAT

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's, of itself
DATA = Path(__file__).parents[2] / "data/tensorflow"
REAL = Path(__file__).parents[3] / "../shared/data/real"
WORDS = FORMAT.vocabulary
assert WORDS is not None


@pytest.fixture(scope="module")
def tf() -> Iterator[Any]:
    yield pytest.importorskip("tensorflow")


def write(checkpoint: Checkpoint, prefix: Path, overwrite: bool = False) -> Path:
    FORMAT.write(checkpoint, prefix, overwrite=overwrite, step=None, progress=lambda count: None)
    return prefix


def assert_reads(tf: Any, prefix: Path, checkpoint: Checkpoint, written: Path) -> None:
    """TensorFlow finds in `written` what it finds at `prefix`, and that is what we read there."""
    ours = {
        one.key.decode(): one.tensor for one in spell_leaves(checkpoint.tree, checkpoint.details)
    }
    before, after = map(tf.train.load_checkpoint, map(str, (prefix, written)))
    kinds = before.get_variable_to_dtype_map()
    assert after.get_variable_to_dtype_map() == kinds
    assert after.get_variable_to_shape_map() == before.get_variable_to_shape_map()
    assert ours.keys() == kinds.keys()
    for key, kind in kinds.items():
        if kind == tf.variant:
            continue
        theirs = bits(before.get_tensor(key))
        assert bits(after.get_tensor(key)) == theirs, key
        assert bits(ours[key].read()) == theirs, key


def bits(value: Any) -> bytes:
    array = np.array(value, object) if isinstance(value, bytes) else np.asarray(value)
    return repr(array.tolist()).encode() if array.dtype == object else array.tobytes()


def prefixes() -> list[Path]:
    folders = [DATA, REAL / "tf-bundle", REAL / "t5x"]
    found = [path for folder in folders for path in sorted(folder.rglob("*.index"))]
    return [path.with_suffix("") for path in found]


def test_it_gives_back_every_stored_bundle(tf: Any, tmp_path: Path) -> None:
    read = 0
    for number, prefix in enumerate(prefixes()):
        try:
            checkpoint = FORMAT.open(prefix)
        except InputError as error:
            assert "shard" in str(error), prefix
            continue
        written = write(checkpoint, tmp_path / str(number) / "ckpt")
        assert_reads(tf, prefix, checkpoint, written)
        read += 1
    assert read >= 8


def test_it_reads_the_single_files_of_tensorflow_1(tf: Any, tmp_path: Path) -> None:
    files = [DATA / "v1/model.ckpt-3", REAL / "tf-v1/magenta_rl_tuner/model.ckpt-1994"]
    for path in filter(Path.exists, files):
        checkpoint = FORMAT.open(path)
        written = write(checkpoint, tmp_path / path.name)
        before, after = map(tf.train.load_checkpoint, map(str, (path, written)))
        kinds = before.get_variable_to_dtype_map()
        assert after.get_variable_to_dtype_map() == kinds
        for key in kinds.keys() - {"complex", "half", "parts"}:  # beyond the judge in V1 files
            assert bits(after.get_tensor(key)) == bits(before.get_tensor(key)), key


def test_it_writes_the_bytes_that_tensorflow_writes(tmp_path: Path) -> None:
    for name in ("dtypes/all", "names/model.ckpt-5", "variant/ckpt"):
        written = write(FORMAT.open(DATA / name), tmp_path / name)
        for suffix in (".index", ".data-00000-of-00001"):
            assert filecmp.cmp(f"{DATA / name}{suffix}", f"{written}{suffix}", shallow=False)


def test_it_reads_every_value_of_every_dtype(tf: Any, tmp_path: Path) -> None:
    tree = {
        name: from_strings([b"\xff\x00", b"", b"a" * 300], (3, 1))
        if name == STRING.name
        else generated_values(name)
        for name in sorted(WORDS.dtypes)
    }
    written = write(Checkpoint(tree, "npz"), tmp_path / "ckpt")
    reader = tf.train.load_checkpoint(str(written))
    for name, tensor in tree.items():
        key = f"{name.replace('.', '..')}/.ATTRIBUTES/VARIABLE_VALUE"
        assert reader.get_variable_to_dtype_map()[key].as_datatype_enum == BY_NAME[name].tensorflow
        assert bits(reader.get_tensor(key)) == bits(tensor.read()), name


def generated_values(name: str) -> Tensor:
    dtype = BY_NAME[name]
    data = generated.legal(dtype, bytes(range(48)))
    array = np.frombuffer(data, dtype.to_numpy()).reshape(3, -1)
    tensor = from_array(array) if dtype.exact else from_array(array.view(f"u{dtype.itemsize}"))
    return Tensor(dtype, tensor.shape, tensor.layout)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tree=generated.trees(), data=st.data())
def test_it_writes_any_tree_for_tensorflow(
    tf: Any, tmp_path_factory: pytest.TempPathFactory, tree: Any, data: st.DataObject
) -> None:
    spelled = spell(tree, WORDS).tree
    prefix = write(Checkpoint(spelled, "pytorch"), tmp_path_factory.mktemp("any") / "ckpt")
    again = FORMAT.open(prefix)
    assert dict_of(again.tree) == dict_of(spelled)
    reader = tf.train.load_checkpoint(str(prefix))
    leaves = spell_leaves(spelled, {})
    assert reader.get_variable_to_dtype_map().keys() == {one.key.decode() for one in leaves}
    for one in leaves:
        key = one.key.decode()
        if key != GRAPH:
            assert bits(reader.get_tensor(key)) == bits(one.tensor.read()), key


def dict_of(tree: Any) -> dict[str, Any]:
    return {path: (t.dtype.name, t.shape, bits(t.read())) for path, t in tensors(tree)}


def module(tf: Any, scale: float) -> Any:
    """Objects whose attributes have the names of `TREE`."""
    made = tf.Module()
    made.kernel = tf.Variable([[scale, scale]])
    made.blocks = [tf.Variable(scale), {"a/b": tf.Variable([scale]), "c.d": tf.Variable(scale)}]
    made.text = tf.Variable("x")
    return made


TREE = {
    "model": {
        "kernel": from_array(np.array([[1, 2]], "f4")),
        "blocks": {
            "0": from_array(np.array(3, "f4")),
            "1": {"a/b": from_array(np.array([4], "f4")), "c.d": from_array(np.array(5, "f4"))},
        },
        "text": from_strings([b"hello"], ()),
    },
    "step": from_array(np.array(7)),
}


@pytest.mark.parametrize("method", ["restore", "read"])
@pytest.mark.parametrize("first", [True, False], ids=["objects first", "objects later"])
def test_it_restores_objects_and_consumes_all(
    tf: Any, tmp_path: Path, method: str, first: bool
) -> None:
    prefix = write(Checkpoint(TREE, "pytorch"), tmp_path / "ckpt")
    model, step = module(tf, 0.0), tf.Variable(np.int64(0))
    checkpoint = tf.train.Checkpoint(**({"model": model, "step": step} if first else {}))
    status = getattr(checkpoint, method)(str(prefix))
    if not first:
        checkpoint.model, checkpoint.step = model, step
    status.assert_consumed()
    assert model.kernel.numpy().tolist() == [[1, 2]]
    assert model.blocks[1]["a/b"].numpy().tolist() == [4]
    assert [model.blocks[0].numpy(), model.blocks[1]["c.d"].numpy(), step.numpy()] == [3, 5, 7]
    assert model.text.numpy() == b"hello"
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(prefix)
    assert checkpoint.save(str(tmp_path / "next")).endswith("next-1")


def test_it_restores_slots_of_a_tree_without_a_graph(tf: Any, tmp_path: Path) -> None:
    slots = {
        name: {"model": {"w": from_array(np.array([x], "f4"))}}
        for name, x in (("m", 2.0), ("v", 3.0))
    }
    tree = {
        "model": {"w": from_array(np.array([1], "f4"))},
        "optimizer": {
            ".OPTIMIZER_SLOT": slots,
            "beta1_power": from_array(np.array(0.5, "f4")),
            "beta2_power": from_array(np.array(0.25, "f4")),
        },
    }
    prefix = write(Checkpoint(tree, "npz"), tmp_path / "ckpt")
    model = tf.Module()
    model.w = tf.Variable([0.0])
    optimizer = tf.compat.v1.train.AdamOptimizer(0.1)
    status = tf.train.Checkpoint(model=model, optimizer=optimizer).restore(str(prefix))
    optimizer.apply_gradients([(tf.constant([0.0]), model.w)])
    status.assert_consumed()
    assert optimizer.get_slot(model.w, "m").numpy() == pytest.approx([1.8])
    assert dict_of(FORMAT.open(prefix).tree) == dict_of(tree)


def test_it_keeps_the_object_graph_of_a_trained_keras_model(tf: Any, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(1)

    def build() -> Any:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        return model

    x, y = np.ones((8, 4), "f4"), np.ones((8, 1), "f4")
    model = build()
    model.fit(x, y, verbose=0)
    saved = Path(
        tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(str(tmp_path / "k"))
    )
    opened = FORMAT.open(saved)
    written = write(opened, tmp_path / "out" / "ckpt")
    assert_reads(tf, saved, opened, written)

    again = build()
    again.fit(x, y, verbose=0)
    status = tf.train.Checkpoint(model=again, optimizer=again.optimizer).restore(str(written))
    status.assert_consumed()
    assert [np.asarray(v).tolist() for v in again.optimizer.variables] == [
        np.asarray(v).tolist() for v in model.optimizer.variables
    ]
    model.fit(x, y, verbose=0)
    again.fit(x, y, verbose=0)
    for a, b in zip(model.weights, again.weights, strict=True):
        assert np.array_equal(a, b)


def test_it_carries_what_only_tensorflow_can_decode(tf: Any, tmp_path: Path) -> None:
    written = write(FORMAT.open(DATA / "variant/ckpt"), tmp_path / "ckpt")
    iterator = iter(tf.data.Dataset.range(10))
    tf.train.Checkpoint(iterator=iterator).read(str(written)).assert_consumed()
    assert [int(value) for value in iterator] == list(range(3, 10))


def test_it_replaces_a_checkpoint_with_one_of_another_number_of_shards(
    tf: Any, tmp_path: Path
) -> None:
    prefix = tmp_path / "ckpt"
    key = "a/.ATTRIBUTES/VARIABLE_VALUE"
    for value, shards in ((1.0, 1), (2.0, 2), (3.0, 1)):
        tree = {"a": from_array(np.array(value))}
        write(Checkpoint(tree, "npz"), prefix, overwrite=True)
        assert tf.train.load_checkpoint(str(prefix)).get_tensor(key) == value
        variable = tf.Variable(np.float64(0))
        tf.train.Checkpoint(a=variable).restore(str(prefix)).assert_consumed()
        assert variable.numpy() == value
        names = sorted(path.name for path in tmp_path.glob("ckpt.data*"))
        assert names == [f"ckpt.data-{i:05}-of-{shards:05}" for i in range(shards)]


def test_it_writes_many_blocks_as_tensorflow_does(tf: Any, tmp_path: Path) -> None:
    names = [f"layer_{i // 7}/block_{i % 7}/weight_with_a_long_name_{i}" for i in range(7000)]
    values = [tf.constant([float(i)]) for i in range(len(names))]
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "a"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=values,
    )
    written = write(FORMAT.open(tmp_path / "a"), tmp_path / "b" / "a")
    assert (tmp_path / "a.index").stat().st_size > 256 << 10
    assert filecmp.cmp(tmp_path / "a.index", f"{written}.index", shallow=False)
