"""Cross conversion between frameworks, on generated trees, judged by the frameworks.

A tree is saved by a framework, converted, and read by the target's own reader. For every tensor of
the source the ledger names its place in the target: dtype, shape and bits there are the source's
(or the same bytes under a dtype that the ledger names).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crosscheck.judges import JUDGES, Bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import portackpt
from portackpt.ledger import Fate
from portackpt.tree import plain_name

NAMES = st.one_of(
    st.sampled_from(
        ["a", "a/b", "a.b", "0", "~", "~1", "layers.0.weight", "größe", "名前", "", ".", " "]
    ),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=8),
)
SHAPES = st.one_of(
    st.just(()), st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple),
    st.just((1, 2, 1, 1, 2, 1, 1, 1, 2, 1)),
)  # fmt: skip
TARGETS = {"pytorch": ".pt", "orbax": "", "tensorflow": "", "safetensors": ".safetensors",
           "npz": ".npz", "keras": ".weights.h5", "dcp": ".dcp",
           "flax-msgpack": ".msgpack"}  # fmt: skip
EXAMPLES = settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    nodes = st.recursive(
        leaves,
        lambda below: (
            st.dictionaries(NAMES, below, min_size=1, max_size=3)
            | st.lists(below, min_size=1, max_size=2)
        ),
        max_leaves=8,
    )
    return st.dictionaries(NAMES, nodes, min_size=1, max_size=4)


def check(source: Path, origin: str, target: str, place: Path) -> None:
    """Convert, and let both frameworks say what they hold."""
    goal = place / f"target{TARGETS[target]}"
    ledger = portackpt.convert(source, goal, to=target)
    before, after = JUDGES[origin](source), JUDGES[target](goal)
    entries = {entry.source: entry for entry in ledger.entries if entry.source in before}
    assert set(entries) == set(before)
    for path, value in before.items():
        if not isinstance(value, Bits):
            continue
        entry = entries[path]
        assert entry.target is not None, entry
        # where a format has no empty name, `~` stands for it
        held = after.get(entry.target, after.get(plain_name(entry.target) or "~"))
        assert held is not None, (entry, sorted(after))
        assert held.data == value.data, entry
        if "written as" in entry.detail:
            assert entry.fate is Fate.RELAYOUT
            assert "view as" in entry.consequence
            continue
        assert entry.fate is Fate.EXACT
        if "in one more dimension" in entry.consequence:
            continue
        assert held.shape == value.shape, entry
        assert held.dtype == value.dtype or "view them as" in entry.consequence, entry


@st.composite
def torch_tensors(draw: st.DrawFn) -> Any:
    torch = pytest.importorskip("torch")
    dtype = draw(st.sampled_from([
        torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
        torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
        torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32,
        torch.uint64, torch.bool, torch.complex64, torch.complex128,
    ]))  # fmt: skip
    shape = draw(SHAPES)
    nbytes = int(np.prod(shape, dtype=int)) * dtype.itemsize
    data = bytearray(draw(st.binary(min_size=nbytes, max_size=nbytes)))
    if dtype is torch.bool:
        data = bytearray(byte & 1 for byte in data)
    if not data:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype).reshape(shape)


def scalars() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.integers(-(1 << 63), (1 << 63) - 1), st.floats(), st.booleans(), st.text(max_size=5)
    )


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "pytorch"])
def test_it_moves_what_pytorch_saved(target: str) -> None:
    torch = pytest.importorskip("torch")

    @EXAMPLES
    @given(trees(torch_tensors() | scalars()))
    def moves(tree: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as place:
            source = Path(place) / "source.pt"
            torch.save(tree, source)
            check(source, "pytorch", target, Path(place))

    moves()


ARRAYS = st.sampled_from(
    ["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8",
     "uint16", "uint32", "uint64", "bool", "complex64", "float8_e4m3fn", "float8_e5m2"]
)  # fmt: skip


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    import ml_dtypes

    name = draw(ARRAYS)
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    shape = draw(SHAPES)
    nbytes = int(np.prod(shape, dtype=int)) * dtype.itemsize
    data = draw(st.binary(min_size=nbytes, max_size=nbytes))
    if name == "bool":
        data = bytes(byte & 1 for byte in data)
    return np.frombuffer(data, dtype).reshape(shape)


@pytest.mark.parametrize(
    "target", ["pytorch", "tensorflow", "safetensors", "npz", "dcp", "flax-msgpack"]
)
def test_it_moves_what_orbax_saved(target: str) -> None:
    pytest.importorskip("orbax.checkpoint")
    import orbax.checkpoint

    @settings(EXAMPLES, max_examples=6)
    @given(trees(arrays().filter(lambda a: a.size)))
    def moves(tree: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as place:
            source = Path(place) / "source"
            with orbax.checkpoint.StandardCheckpointer() as saver:
                saver.save(source, tree)
            check(source, "orbax", target, Path(place))

    moves()


TF_NAMES = st.sampled_from(["a", "b", "kernel", "größe", "a/b", "a.b"])


@pytest.mark.parametrize("target", ["pytorch", "orbax", "safetensors", "npz"])
def test_it_moves_what_tensorflow_saved(target: str) -> None:
    tf = pytest.importorskip("tensorflow")
    fitting = arrays().filter(lambda a: not str(a.dtype).startswith("float8"))

    @settings(EXAMPLES, max_examples=8)
    @given(st.dictionaries(TF_NAMES, st.dictionaries(TF_NAMES, fitting, min_size=1), min_size=1))
    def moves(tree: dict[str, dict[str, Any]]) -> None:
        with tempfile.TemporaryDirectory() as place:
            nodes = {}
            for name, below in tree.items():
                node = tf.train.Checkpoint()
                for key, value in below.items():
                    setattr(node, key, tf.Variable(value))
                nodes[name] = node
            root = tf.train.Checkpoint()
            for name, node in nodes.items():
                setattr(root, name, node)
            source = root.write(str(Path(place) / "source"))
            check(Path(source), "tensorflow", target, Path(place))

    moves()


@pytest.mark.parametrize("target", ["pytorch", "orbax", "tensorflow", "safetensors", "keras"])
def test_it_moves_what_numpy_saved(target: str) -> None:
    pytest.importorskip({"pytorch": "torch", "keras": "h5py"}.get(target, target))
    plain = arrays().filter(lambda a: a.dtype.isbuiltin == 1)

    @EXAMPLES
    @given(
        st.dictionaries(
            NAMES.filter(lambda n: n not in ("", ".") and "\\" not in n), plain, min_size=1
        )
    )
    def moves(tree: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as place:
            source = Path(place) / "source.npz"
            np.savez(source, **tree)
            check_flat(source, target, Path(place), tree)

    moves()


def check_flat(source: Path, target: str, place: Path, tree: dict[str, Any]) -> None:
    goal = place / f"target{TARGETS[target]}"
    ledger = portackpt.convert(source, goal, to=target)
    after = JUDGES[target](goal)
    entries = {plain_name(entry.source or ""): entry for entry in ledger.entries}
    for name, array in tree.items():
        entry = entries[name]
        held = after.get(entry.target or "", after.get(plain_name(entry.target or "")))
        assert held is not None, (entry, sorted(after))
        assert held.data == array.tobytes(), entry
