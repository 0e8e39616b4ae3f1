"""flax-msgpack: flax.serialization judges what is written, and writes what is read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from sameness import assert_same, leaf

import generated
from portackpt.checkpoint import Checkpoint
from portackpt.errors import DamagedError, InputError, UnsupportedError, UsageError, WriteError
from portackpt.plugins import Probe
from portackpt.spelling import spell
from portackpt.tensor import Tensor, from_array
from portackpt_jax import flax_spelling
from portackpt_jax.flax_msgpack import FORMAT

DATA = Path(__file__).parents[2] / "data/flax"
REAL = Path(__file__).parents[3] / "../shared/data/real"


def write(tree: Any, path: Path, **about: Any) -> None:
    checkpoint = Checkpoint(tree, about.pop("format", "pytorch"), **about)
    FORMAT.write(checkpoint, path, overwrite=True, step=None, progress=unheard)


def unheard(count: int) -> None:
    pass


def arrays(tree: Any) -> Any:
    """The tree as `msgpack_restore` gives it."""
    if isinstance(tree, Tensor):
        values = tree.read()
        return values[()] if tree.attributes else values
    if isinstance(tree, dict):
        return {key: arrays(part) for key, part in tree.items()}
    return [arrays(part) for part in tree] if isinstance(tree, list) else tree


def assert_equal(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_equal(left, right)
    elif isinstance(a, (np.ndarray, np.generic)):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()
    else:
        assert a == b or a != a


def make_tree() -> dict[str, Any]:
    import ml_dtypes

    return {
        "params": {"w/x": np.arange(6, dtype=np.float32).reshape(2, 3), "größe": np.ones((0, 2))},
        "half": np.ones(3, ml_dtypes.bfloat16),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "scalar": np.float32(2.5),
        "zero_d": np.array(7, np.int8),
        "numbers": {"int": -(2**40), "big": 2**63 - 1, "float": 0.1, "bool": True, "none": None},
        "complex": 1 - 2j,
        "text": "größe",
        "bytes": b"\x00\xff" * 200,
        "empty": {},
        "list": [1, {"a": np.zeros(2)}, []],
    }


@pytest.mark.parametrize("name", ["tree", "state", "chunked"])
def test_it_writes_a_stored_file_of_flaxs_again(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flax_spelling, "MOST", 100)
    opened = FORMAT.open(DATA / f"{name}.msgpack")
    FORMAT.write(opened, tmp_path / "x", overwrite=False, step=None, progress=unheard)
    assert (tmp_path / "x").read_bytes() == (DATA / f"{name}.msgpack").read_bytes()


def test_it_reads_stored_files_of_flaxs() -> None:
    chunked = FORMAT.open(DATA / "chunked.msgpack").tree
    assert chunked["a"].read().tolist() == np.arange(60).reshape(2, 30).tolist()
    state = FORMAT.open(DATA / "state.msgpack")
    assert state.step == 1
    assert state.tree["opt_state"]["0"]["mu"]["dense"]["kernel"].shape == (2, 3)
    tree = FORMAT.open(DATA / "tree.msgpack").tree
    assert tree["half"].dtype.name == "bfloat16"
    assert tree["scalar"].attributes == {"numpy.class": "numpy.scalar"}
    assert tree["list"][0] == 1
    assert tree["complex"] == 1 - 2j


def test_it_reads_what_flax_writes_and_writes_the_same_bytes(tmp_path: Path) -> None:
    serialization = pytest.importorskip("flax.serialization")
    data = serialization.msgpack_serialize(make_tree())
    (tmp_path / "a.msgpack").write_bytes(data)
    assert FORMAT.recognize(Probe(tmp_path / "a.msgpack"))
    opened = FORMAT.open(tmp_path / "a.msgpack")
    assert_equal(arrays(opened.tree), serialization.msgpack_restore(data))
    FORMAT.write(opened, tmp_path / "b.msgpack", overwrite=False, step=None, progress=unheard)
    assert (tmp_path / "b.msgpack").read_bytes() == data


def test_it_carries_a_train_state(tmp_path: Path) -> None:
    flax = pytest.importorskip("flax")
    optax = pytest.importorskip("optax")
    from flax import serialization
    from flax.training.train_state import TrainState

    params = {"dense": {"kernel": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float32)}}
    state = TrainState.create(apply_fn=None, params=params, tx=optax.adamw(1e-3))
    state = state.apply_gradients(grads=params)
    data = serialization.to_bytes(state)
    (tmp_path / "a.msgpack").write_bytes(data)
    opened = FORMAT.open(tmp_path / "a.msgpack")
    assert opened.step == 1
    write(opened.tree, tmp_path / "b.msgpack")
    assert (tmp_path / "b.msgpack").read_bytes() == data
    restored = serialization.from_bytes(state, (tmp_path / "b.msgpack").read_bytes())
    assert restored.opt_state[0].count == 1
    assert flax.core.unfreeze(restored.params)["dense"]["kernel"].tolist() == (
        np.asarray(state.params["dense"]["kernel"]).tolist()
    )


def test_it_spells_lists_as_flax_does(tmp_path: Path) -> None:
    serialization = pytest.importorskip("flax.serialization")
    tree = {"layers": [from_array(np.ones(1)), {"a": 1}]}
    write(tree, tmp_path / "a.msgpack")
    template = {"layers": [np.zeros(1), {"a": 0}]}
    found = serialization.from_bytes(template, (tmp_path / "a.msgpack").read_bytes())
    assert_equal(found, {"layers": [np.ones(1), {"a": 1}]})


def test_it_splits_large_arrays_as_flax_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serialization = pytest.importorskip("flax.serialization")
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 100)
    monkeypatch.setattr(flax_spelling, "MOST", 100)
    large = np.arange(300, dtype=np.int32).reshape(10, 30)
    data = serialization.msgpack_serialize({"a": large, "b": np.ones(3), "c": {"d": large.T}})
    (tmp_path / "a.msgpack").write_bytes(data)
    opened = FORMAT.open(tmp_path / "a.msgpack")
    assert_equal(arrays(opened.tree), {"a": large, "b": np.ones(3), "c": {"d": large.T.copy()}})
    write(opened.tree, tmp_path / "b.msgpack")
    assert (tmp_path / "b.msgpack").read_bytes() == data


def test_it_streams_pieces_that_end_between_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serialization = pytest.importorskip("flax.serialization")
    monkeypatch.setattr(flax_spelling, "MOST", 5_000_008)
    large = np.arange(1 << 21)
    write({"a": from_array(large), "b": from_array(large[:3])}, tmp_path / "a.msgpack")
    found = serialization.msgpack_restore((tmp_path / "a.msgpack").read_bytes())
    assert_equal(found, {"a": large, "b": large[:3]})


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
    serialization = pytest.importorskip("flax.serialization")
    path = tmp_path_factory.mktemp("flax") / "x.msgpack"
    assert FORMAT.vocabulary is not None
    spelled = spell(tree, FORMAT.vocabulary).tree
    write(spelled, path)
    found = serialization.msgpack_restore(path.read_bytes())
    assert_equal(found, arrays(_numbered(spelled)))
    opened = FORMAT.open(path)
    again = path.with_name("y.msgpack")
    FORMAT.write(opened, again, overwrite=False, step=None, progress=unheard)
    assert again.read_bytes() == path.read_bytes()


def _numbered(tree: Any) -> Any:
    """Lists as dicts by number, as flax spells them."""
    if isinstance(tree, list):
        return {str(index): _numbered(part) for index, part in enumerate(tree)}
    return {k: _numbered(part) for k, part in tree.items()} if isinstance(tree, dict) else tree


def test_it_keeps_lists_of_a_file_through_the_details(tmp_path: Path) -> None:
    serialization = pytest.importorskip("flax.serialization")
    data = serialization.msgpack_serialize({"a": {"b": [1, [2]], "0": 3}, "c": []})
    (tmp_path / "a.msgpack").write_bytes(data)
    opened = FORMAT.open(tmp_path / "a.msgpack")
    details = {**opened.details, "portackpt": {"source": "flax-msgpack"}}
    write(opened.tree, tmp_path / "b.msgpack", format="portackpt", details=details)
    assert (tmp_path / "b.msgpack").read_bytes() == data


def test_it_reads_a_root_of_steps(tmp_path: Path) -> None:
    serialization = pytest.importorskip("flax.serialization")
    for step in (5, 10):
        data = serialization.msgpack_serialize({"w": np.full(2, step)})
        (tmp_path / f"checkpoint_{step}").write_bytes(data)
    assert FORMAT.recognize(Probe(tmp_path))
    assert FORMAT.steps(tmp_path) == (5, 10)
    assert FORMAT.open(tmp_path).step == 10
    assert FORMAT.open(tmp_path, step=5).tree["w"].read().tolist() == [5, 5]
    with pytest.raises(UsageError, match="steps are 5, 10"):
        FORMAT.open(tmp_path, step=7)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x81\xa1a\x01", True),
        (b"\x81\xa1a\xc5\xff", True),  # cut short
        (b"\xde\x00\x10\xd9\x28" + b"params" * 10, True),
        (b"\xc7\x11\x01\x93\x90\xa5int64\xc4\x08" + bytes(8), True),
        (b"\x81\x00\x01", True),
        (b"\x80", True),
        (b"\x91\x01", True),
        (b"\x80\x02}q\x00.", False),  # a pickle
        (b"\x93NUMPY\x01\x00", False),
        (b"\x89HDF\r\n\x1a\n", False),
        (b"\x81\xa4\xff\xff\xff\xff", False),
        (b"", False),
        (b"\x01", False),
    ],
)
def test_it_recognizes_its_own(tmp_path: Path, data: bytes, expected: bool) -> None:
    (tmp_path / "x").write_bytes(data)
    assert FORMAT.recognize(Probe(tmp_path / "x")) is expected


@pytest.mark.parametrize(
    "path", ["orbax/orbax_testing_aggregate_old/aggregate_all.checkpoint/checkpoint"]
)
def test_it_reads_real_files(tmp_path: Path, path: str) -> None:
    serialization = pytest.importorskip("flax.serialization")
    if not (REAL / path).exists():
        pytest.skip("the real files are not here")
    opened = FORMAT.open(REAL / path)
    data = (REAL / path).read_bytes()
    assert_equal(arrays(opened.tree), serialization.msgpack_restore(data))
    write(opened.tree, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == data


@pytest.mark.parametrize(
    "path",
    ["t5x/t5x_testdata/tiny_t5/checkpoint_1/checkpoint", "t5x/t5x_testdata/tiny_orbax/1/checkpoint",
     "orbax/orbax_testing_aggregate_old/aggregate_some.checkpoint/checkpoint"],
)  # fmt: skip
def test_it_says_that_a_file_is_the_index_of_a_directory(path: str) -> None:
    if not (REAL / path).exists():
        pytest.skip("the real files are not here")
    with pytest.raises(UnsupportedError, match="the index of the directory"):
        FORMAT.open(REAL / path)


def test_it_refuses_what_msgpack_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="msgpack cannot hold"):
        write({"a": "\ud800"}, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_it_ends_in_data_or_an_error_for_every_cut_and_flip(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write({"a": from_array(np.ones((2, 2), np.float32)), "b": [1, 2j, "text", {"c": 0.5}]}, path)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(DamagedError):
            FORMAT.open(path)
    for at in range(len(data)):
        for bit in (0, 3, 7):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            path.write_bytes(changed)
            FORMAT.recognize(Probe(path))
            try:
                tree = FORMAT.open(path).tree
            except InputError:
                continue
            if isinstance(tree, dict) and isinstance(tree.get("a"), Tensor):
                leaf(tree["a"])


def test_it_is_itself_again_after_its_own_tree(tmp_path: Path) -> None:
    tree = {"a": from_array(np.ones(2)), "n": from_array(np.array(1.5), SCALAR), 3: None}
    write(tree, tmp_path / "x")
    assert_same(tree, FORMAT.open(tmp_path / "x").tree)


SCALAR = {"numpy.class": "numpy.scalar"}
