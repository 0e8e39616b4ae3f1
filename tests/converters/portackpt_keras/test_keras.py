"""Keras files: Keras writes what is read, and loads what is written."""

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sameness import assert_same

from portackpt.checkpoint import Checkpoint
from portackpt.errors import DamagedError, InputError, UsageError
from portackpt.plugins import Probe
from portackpt.tensor import Tensor, from_array
from portackpt.tree import tensors
from portackpt_keras.keras import FORMAT

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# TensorFlow's, of itself
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
DATA = Path(__file__).parents[2] / "data/keras"
REAL = Path(__file__).parents[3] / "../shared/data/real/keras"


def write(tree: Any, path: Path, **about: Any) -> Path:
    checkpoint = Checkpoint(tree, about.pop("format", "pytorch"), **about)
    FORMAT.write(checkpoint, path, overwrite=True, step=None, progress=lambda count: None)
    return path


def convert(source: Path, target: Path) -> Path:
    checkpoint = FORMAT.open(source)
    FORMAT.write(checkpoint, target, overwrite=False, step=None, progress=lambda count: None)
    return target


@pytest.fixture
def keras() -> Iterator[Any]:
    pytest.importorskip("tensorflow")
    found = pytest.importorskip("keras")
    found.utils.set_random_seed(1)
    yield found
    found.backend.clear_session()


def trained(keras: Any, dtype: str = "float32") -> Any:
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, dtype=dtype),
            keras.layers.BatchNormalization(dtype=dtype),
        ]
    )
    model.compile("adam", "mse")
    model.fit(np.ones((4, 4)), np.ones((4, 3)), verbose=0)
    return model


def state(model: Any) -> dict[str, Any]:
    optimizer = getattr(model, "optimizer", None)
    variables = model.variables + (optimizer.variables if optimizer else [])
    return {variable.path: variable.numpy() for variable in variables}


def assert_equal(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert a[name].tobytes() == b[name].tobytes(), name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_it_gives_keras_the_same_model(tmp_path: Path, keras: Any, dtype: str) -> None:
    model = trained(keras, dtype)
    model.save(tmp_path / "a.keras")
    model.save_weights(tmp_path / "a.weights.h5")
    expected = state(keras.saving.load_model(tmp_path / "a.keras"))
    again = keras.saving.load_model(convert(tmp_path / "a.keras", tmp_path / "b.keras"))
    assert_equal(state(again), expected)
    for variable in again.variables + again.optimizer.variables:
        variable.assign(np.zeros(variable.shape))
    again.load_weights(convert(tmp_path / "a.weights.h5", tmp_path / "b.weights.h5"))
    assert_equal(state(again), expected)


def test_it_keeps_the_files_of_layers(tmp_path: Path, keras: Any) -> None:
    layer = keras.layers.TextVectorization()
    layer.adapt(["b a", "b c"])
    model = keras.Sequential([keras.Input((1,), dtype="string"), layer])
    model.save(tmp_path / "a.keras")
    again = keras.saving.load_model(convert(tmp_path / "a.keras", tmp_path / "b.keras"))
    assert again.layers[0].get_vocabulary() == layer.get_vocabulary()
    with zipfile.ZipFile(tmp_path / "a.keras") as a, zipfile.ZipFile(tmp_path / "b.keras") as b:
        assert set(a.namelist()) == set(b.namelist())
        for name in a.namelist():
            assert name == "model.weights.h5" or a.read(name) == b.read(name)


def test_it_reads_quantized_layers(tmp_path: Path, keras: Any) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.layers[0].quantize("int8")
    model.save(tmp_path / "a.keras")
    kernel = FORMAT.open(tmp_path / "a.keras").tree["layers"]["dense"]["vars"]["0"]
    assert kernel.dtype.name == "int8"
    again = keras.saving.load_model(convert(tmp_path / "a.keras", tmp_path / "b.keras"))
    assert_equal(state(again), state(keras.saving.load_model(tmp_path / "a.keras")))


@pytest.mark.filterwarnings("ignore")
def test_it_gives_the_legacy_loader_the_same_model(tmp_path: Path, keras: Any) -> None:
    model = trained(keras)
    model.save(tmp_path / "a.h5")
    convert(tmp_path / "a.h5", tmp_path / "b.h5")
    loaded = [keras.saving.load_model(tmp_path / name, compile=False) for name in ("a.h5", "b.h5")]
    assert_equal(state(loaded[1]), state(loaded[0]))
    assert_same_hdf5(tmp_path / "a.h5", tmp_path / "b.h5")


def test_it_reads_both_spellings_of_one_model_alike(tmp_path: Path, keras: Any) -> None:
    model = trained(keras)
    model.save(tmp_path / "a.keras")
    model.save_weights(tmp_path / "a.weights.h5")
    whole, weights = (FORMAT.open(tmp_path / name).tree for name in ("a.keras", "a.weights.h5"))
    assert_same({k: v for k, v in whole.items() if not k.endswith(".json")}, weights)


def test_it_loads_weights_from_another_framework(tmp_path: Path, keras: Any) -> None:
    kernel, bias = np.arange(12, dtype="f4").reshape(4, 3), np.ones(3, "f4")
    layer = {"vars": {"0": from_array(kernel), "1": from_array(bias)}}
    path = write({"layers": {"dense": layer}, "extra": {}}, tmp_path / "a.weights.h5")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.load_weights(path)
    assert np.array_equal(model.layers[0].kernel.numpy(), kernel)
    assert np.array_equal(model.layers[0].bias.numpy(), bias)


def assert_same_hdf5(a: Path, b: Path) -> None:
    """Both files have the same groups, values and attributes in h5py's eyes."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(a) as left, h5py.File(b) as right:
        names: list[list[str]] = [[], []]
        left.visit(names[0].append)
        right.visit(names[1].append)
        assert names[0] == names[1]
        for name in ["/", *names[0]]:
            one, two = left[name], right[name]
            assert list(one.attrs) == list(two.attrs), name
            for key in one.attrs:
                assert repr(one.attrs[key]) == repr(two.attrs[key]), (name, key)
            if isinstance(one, h5py.Dataset):
                assert (one.dtype, one.shape) == (two.dtype, two.shape), name
                assert one[()].tobytes() == two[()].tobytes(), name


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")
@pytest.mark.parametrize("name", ["deepcut_lite/model_lite.h5",
                                  "deepcut_weight/cnn_without_ne_ab.h5"])  # fmt: skip
def test_it_writes_old_files_back_equal(tmp_path: Path, name: str) -> None:
    assert_same_hdf5(REAL / name, convert(REAL / name, tmp_path / "b.h5"))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")
def test_it_writes_real_archives_back_equal(tmp_path: Path) -> None:
    paths = sorted(REAL.rglob("*.keras"))
    assert len(paths) == 3
    for number, path in enumerate(paths):
        again = convert(path, tmp_path / f"{number}.keras")
        assert_same(FORMAT.open(again).tree, FORMAT.open(path).tree)
        for source, name in ((path, f"{number}a.h5"), (again, f"{number}b.h5")):
            with zipfile.ZipFile(source) as file:
                assert file.testzip() is None
                (tmp_path / name).write_bytes(file.read("model.weights.h5"))
        assert_same_hdf5(tmp_path / f"{number}a.h5", tmp_path / f"{number}b.h5")


@pytest.mark.parametrize("path", sorted(DATA.iterdir()), ids=lambda path: path.name)
def test_it_reads_stored_files(tmp_path: Path, path: Path) -> None:
    pytest.importorskip("h5py")
    assert FORMAT.recognize(Probe(path))
    opened = FORMAT.open(path)
    assert (opened.framework, opened.framework_version is None) == (
        "tensorflow",
        path.name.endswith(".weights.h5"),
    )
    found = dict(tensors(opened.tree))
    kernels = [tensor for tensor in found.values() if tensor.shape == (2, 3)]
    assert {tensor.dtype.name for tensor in kernels} == (
        {path.name.partition(".")[0]} if "legacy" not in path.name else {"float32"}
    )
    assert all(np.isfinite(tensor.read().astype("f8")).all() for tensor in kernels)
    suffix = "".join(path.suffixes)
    assert_same(FORMAT.open(convert(path, tmp_path / f"again{suffix}")).tree, opened.tree)


def test_it_writes_equal_bytes_for_equal_trees(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    for suffix in (".keras", ".h5"):
        for name in ("a", "b"):
            convert(DATA / "float32.keras", tmp_path / f"{name}{suffix}")
        a, b = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("a", "b"))
        assert a == b


def test_it_finds_every_flipped_byte_of_an_archive(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    source = DATA / "float32.keras"
    expected = FORMAT.open(source)
    whole = source.read_bytes()
    path = tmp_path / "a.keras"
    for position in range(0, len(whole), 239):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        try:
            opened = FORMAT.open(path)
            for _, tensor in tensors(opened.tree):
                tensor.read()
        except InputError:
            continue
        assert_same(opened.tree, expected.tree)  # a time, an attribute


def test_it_checks_a_large_archive_when_a_value_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("h5py")
    monkeypatch.setattr("portackpt_keras.archive._CHECKED_AT_ONCE", 0)
    path = tmp_path / "a.keras"
    kernel = FORMAT.open(DATA / "float32.keras").tree["layers"]["dense"]["vars"]["0"]
    whole = (DATA / "float32.keras").read_bytes()
    position = whole.index(kernel.read().tobytes())
    path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    opened = FORMAT.open(path)
    with pytest.raises(DamagedError, match=r"checksum does not match.*model\.weights\.h5"):
        opened.tree["layers"]["dense_1"]["vars"]["0"].read()


def test_it_reads_archives_that_were_compressed_again(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    with (
        zipfile.ZipFile(DATA / "float32.keras") as source,
        zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    opened = FORMAT.open(tmp_path / "a.keras")
    assert_same(opened.tree, FORMAT.open(DATA / "float32.keras").tree)


def test_it_says_that_an_archive_needs_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "a.keras"
    with pytest.raises(UsageError, match=r"needs metadata\.json.*\.weights\.h5 instead"):
        write({"w": from_array(np.zeros(3))}, path)
    assert not path.exists()


def test_it_makes_an_archive_of_weights_that_carry_one(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    weights = convert(DATA / "float32.keras", tmp_path / "a.weights.h5")
    archive = convert(weights, tmp_path / "b.keras")
    expected = FORMAT.open(DATA / "float32.keras").tree
    assert_same(
        FORMAT.open(archive).tree, {key: expected[key] for key in FORMAT.open(archive).tree}
    )
    assert set(FORMAT.open(archive).tree) == set(expected)


def test_it_interprets_no_class_of_a_configuration(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    path = tmp_path / "a.keras"
    evil = {"module": "os", "class_name": "system", "config": {"command": "touch /tmp/pwned"}}
    with zipfile.ZipFile(DATA / "float32.keras") as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = json.dumps(evil) if name == "config.json" else source.read(name)
            target.writestr(name, data)
    opened = FORMAT.open(path)
    assert json.loads(opened.tree["config.json"]) == evil
    assert isinstance(opened.tree["layers"]["dense"]["vars"]["0"], Tensor)


def test_it_recognizes_its_files_even_cut_short(tmp_path: Path) -> None:
    for source in DATA.iterdir():
        for length in (100, 5000):
            path = tmp_path / source.name
            path.write_bytes(source.read_bytes()[:length])
            assert FORMAT.recognize(Probe(path))
            with pytest.raises(DamagedError):
                FORMAT.open(path)
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("metadata.json.npy", b"")
    assert not FORMAT.recognize(Probe(other))
    assert not FORMAT.recognize(Probe(tmp_path))


def test_it_holds_no_steps(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--step"):
        FORMAT.open(DATA / "float32.keras", step=3)
    assert FORMAT.steps(DATA / "float32.keras") == ()
    assert "load_model" in FORMAT.resume(tmp_path / "a.keras", None)
    assert "load_weights" in FORMAT.resume(tmp_path / "a.weights.h5", None)
