"""DCP directories: torch.distributed.checkpoint judges what is written, and writes what is read."""

import io
import pickle
import shutil
import sys
import warnings
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
from portackpt.dtypes import BY_NAME
from portackpt.errors import DamagedError, InputError, RefusedError, UnsupportedError, UsageError
from portackpt.plugins import Probe
from portackpt.spelling import spell
from portackpt.tensor import Strided, Tensor, Tiled, contiguous, from_array
from portackpt.tree import Object, walk
from portackpt_torch import dcp_metadata
from portackpt_torch.dcp import FORMAT
from portackpt_torch.pytorch import FORMAT as PYTORCH

DATA = Path(__file__).parents[2] / "data/dcp"
REAL = Path(__file__).parents[3] / "../shared/data/real/torch-dcp/megatron_lionrock_ckpt"


def write(tree: Any, path: Path) -> None:
    checkpoint = Checkpoint(tree, "pytorch")
    FORMAT.write(checkpoint, path, overwrite=True, step=None, progress=unheard)


def unheard(count: int) -> None:
    pass


def values(tree: Any) -> dict[str, Any]:
    return {p: n.read().tolist() if isinstance(n, Tensor) else n for p, n in walk(tree)}


# reading


def test_it_reads_what_one_process_saved() -> None:
    opened = FORMAT.open(DATA / "one")
    assert values(opened.tree) == {
        "model/w": [[0, 1, 2], [3, 4, 5]],
        "model/p": [1, 1, 1],
        "terminal/0": 1,
        "terminal/1": 2,
        "terminal/2/0": 3,
        "open/0": [1],
        "open/1/x": 2,
        "open/2": 5,
        "tuple/0": 1,
        "tuple/1": [1, 1],
        "none": None,
        "numbers/0/step": 3,
        "zero": [],
        "text": "größe",
    }
    assert opened.tree["model"]["w"].dtype.name == "bfloat16"
    assert opened.tree["model"]["p"].attributes == {"requires_grad": True}
    assert isinstance(opened.tree["tuple"], tuple)
    assert isinstance(opened.tree["open"], list)


def test_it_joins_the_chunks_of_two_ranks() -> None:
    tree = FORMAT.open(DATA / "two").tree
    expected = np.arange(35, dtype=np.float32).reshape(7, 5)
    for name in ("rows", "columns", "copies"):
        assert np.array_equal(tree[name].read(), expected)
        assert b"".join(map(bytes, tree[name].pieces(24))) == expected.tobytes()
    assert isinstance(tree["rows"].layout, Tiled)
    assert isinstance(tree["copies"].layout, Strided)
    assert tree["few"].read().tolist() == [0]
    assert tree["groups"] == [{"lr": 0.1, "betas": (0.9, 0.99), "params": ["a", "b"]}]


def test_it_reads_megatrons_directory() -> None:
    if not REAL.exists():
        pytest.skip("the real files are not here")
    opened = FORMAT.open(REAL)
    tensors = [n for _, n in walk(opened.tree) if isinstance(n, Tensor)]
    assert len(tensors) == 17
    assert all(np.isfinite(tensor.read()).all() for tensor in tensors)
    assert opened.notes == ("2 other files are no part of it and are left out: common.pt, "
                            "metadata.json",)  # fmt: skip
    assert not FORMAT.recognize(Probe(REAL))  # it is more than DCP


def test_it_reads_lazily(tmp_path: Path) -> None:
    shutil.copytree(DATA / "one", tmp_path / "x")
    path = tmp_path / "x/__0_0.distcp"
    data = bytearray(path.read_bytes())
    data[data.index(bytes([0x80, 0x3F, 0x00, 0x40])) + 1] ^= 1  # an element of model/w
    path.write_bytes(data)
    tree = FORMAT.open(tmp_path / "x").tree
    with pytest.raises(DamagedError, match="checksum"):
        tree["model"]["w"].read()


def test_it_reads_a_root_of_steps(tmp_path: Path) -> None:
    for step in (5, 10):
        write({"w": from_array(np.full(2, step))}, tmp_path / f"step-{step}")
    assert FORMAT.recognize(Probe(tmp_path))
    assert FORMAT.steps(tmp_path) == (5, 10)
    assert FORMAT.open(tmp_path).step == 10
    assert FORMAT.open(tmp_path, step=5).tree["w"].read().tolist() == [5, 5]
    with pytest.raises(UsageError, match="steps are 5, 10"):
        FORMAT.open(tmp_path, step=7)


# writing


def loaded(path: Path) -> Any:
    """The state that torch restores without a template."""
    pytest.importorskip("torch.distributed.checkpoint")
    from torch.distributed.checkpoint import FileSystemReader
    from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    state: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = FileSystemReader(path)
        _load_state_dict(state, reader, planner=_EmptyStateDictLoadPlanner(), no_dist=True)
    return state


def saved(state: Any, path: Path) -> None:
    import torch.distributed.checkpoint as dcp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(state, checkpoint_id=path, no_dist=True)


def assert_equal(a: Any, b: Any) -> None:
    import torch

    assert type(a) is type(b) or isinstance(a, torch.Tensor)
    if isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.layout == b.layout
        dense = (x.to_dense() if x.is_sparse else x for x in (a, b))
        left, right = (x.resolve_conj().resolve_neg().contiguous() for x in dense)
        assert left.reshape(-1).view(torch.uint8).equal(right.reshape(-1).view(torch.uint8))
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_equal(left, right)
    else:
        assert a == b or a != a


def trained() -> Any:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "tuple": (1, torch.ones(2)),
        "empty": {},
        "tied": model[0].weight.data.t(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "lazy": torch.tensor([1 + 2j]).conj(),
        "sparse": torch.eye(2).to_sparse(),
        "step": 3,
    }


def test_it_writes_what_torch_restores_with_and_without_a_template(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    state = trained()
    torch.save(state, tmp_path / "x.pt")
    opened = PYTORCH.open(tmp_path / "x.pt")
    write(opened.tree, tmp_path / "x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp_to_torch_save(tmp_path / "x", tmp_path / "y.pt")
    found = torch.load(tmp_path / "y.pt", weights_only=True)
    assert found["sparse"].to_dense().equal(torch.eye(2))
    assert list(found["optimizer"]["state"]) == ["0", "1", "2", "3"]
    for name in ("model", "half", "tuple", "rng", "tied", "lazy", "step"):
        assert_equal(_plain(found[name]), _plain(state[name]))
    template = {
        "model": {name: torch.zeros_like(value) for name, value in state["model"].items()},
        "optimizer": {"param_groups": [{"lr": 0.0}]},
        "lazy": torch.zeros(1, dtype=torch.complex64),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(template, checkpoint_id=tmp_path / "x", no_dist=True)
    assert_equal(template["model"], dict(state["model"]))
    assert template["optimizer"]["param_groups"][0]["lr"] == 1e-3
    assert_equal(template["lazy"], state["lazy"])


def _plain(value: Any) -> Any:
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def test_it_gives_back_what_dcp_does_not_keep(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(trained(), tmp_path / "x.pt")
    opened = PYTORCH.open(tmp_path / "x.pt")
    write(opened.tree, tmp_path / "x")
    again = FORMAT.open(tmp_path / "x")
    assert_same(opened.tree, again.tree)
    PYTORCH.write(again, tmp_path / "y.pt", overwrite=False, step=None, progress=unheard)
    assert_equal(
        torch.load(tmp_path / "y.pt", weights_only=True),
        torch.load(tmp_path / "x.pt", weights_only=True),
    )


def test_it_writes_a_tree_of_dcps_own_without_a_document(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    tree = FORMAT.open(DATA / "one").tree
    write(tree, tmp_path / "x")
    assert dcp_metadata.parse((tmp_path / "x/.metadata").read_bytes()).document is None
    assert_same(_contiguous(tree), _contiguous(FORMAT.open(tmp_path / "x").tree))
    assert_equal(loaded(tmp_path / "x"), loaded(DATA / "one"))


def _contiguous(tree: Any) -> dict[str, Any]:
    return {p: leaf(n) if isinstance(n, Tensor) else n for p, n in walk(tree)}


def test_it_writes_tied_tensors_once(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    source = InMemory(bytes(range(64)))
    weight = contiguous(BY_NAME["float32"], (4, 4), source)
    tied = contiguous(BY_NAME["float32"], (4, 4), source)
    part = Tensor(BY_NAME["float32"], (2,), Strided(InMemory(bytes(range(64, 128))), 8, (8,)))
    tree = {"a": weight, "b": tied, "c": (weight,), "part": part}
    write(tree, tmp_path / "x")
    assert_same(tree, FORMAT.open(tmp_path / "x").tree)
    infos = pickle.loads((tmp_path / "x/.metadata").read_bytes()).storage_data
    places = {index.fqn: info.offset for index, info in infos.items()}
    assert places["a"] == places["b"]
    state = loaded(tmp_path / "x")
    assert state["part"].numpy().tobytes() == bytes([*range(72, 76), *range(80, 84)])


TREES = generated.trees(
    generated.scalars
    | generated.tensors()
    | generated.strings()
    | generated.tied().map(lambda tied: {"tied": tied})
)


@given(TREES)
@settings(max_examples=30, deadline=None)
def test_it_gives_back_any_tree_that_was_spelled_for_it(
    tmp_path_factory: pytest.TempPathFactory, tree: Any
) -> None:
    path = tmp_path_factory.mktemp("dcp") / "x"
    assert FORMAT.vocabulary is not None
    spelled = spell(tree, FORMAT.vocabulary).tree
    write(spelled, path)
    assert_same(spelled, FORMAT.open(path).tree)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@given(st.dictionaries(generated.names, TREES, max_size=3))
@settings(max_examples=25, deadline=None)
def test_it_is_for_torch_what_torch_would_have_saved(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]
) -> None:
    torch = pytest.importorskip("torch")
    from torch.distributed.checkpoint._nested_dict import flatten_state_dict

    folder = tmp_path_factory.mktemp("dcp")
    assert FORMAT.vocabulary is not None
    spelled = spell(tree, FORMAT.vocabulary).tree
    write(spelled, folder / "x")
    checkpoint = Checkpoint(spelled, "pytorch")
    PYTORCH.write(checkpoint, folder / "x.pt", overwrite=True, step=None, progress=unheard)
    state = torch.load(folder / "x.pt", weights_only=True)
    try:
        expected, places = flatten_state_dict(state)
    except ValueError:  # torch cannot save it: two items of one name
        return
    metadata = pickle.loads((folder / "x/.metadata").read_bytes())
    assert metadata.planner_data == places
    assert list(metadata.state_dict_metadata) == list(expected)
    found = items(folder / "x", metadata)
    for name, value in expected.items():
        assert_equal(found[name], value)


def items(path: Path, metadata: Any) -> dict[str, Any]:
    """Every item as torch's planner loads it, by its flat name."""
    import torch

    data = (path / "__0_0.distcp").read_bytes()
    found = {}
    for index, info in metadata.storage_data.items():
        part = io.BytesIO(data[info.offset : info.offset + info.length])
        found[index.fqn] = torch.load(part, weights_only=True)
    return found


# hostile and old files


def changed(tmp_path: Path, change: Any) -> Path:
    """The directory `two` with its metadata changed by `change(metadata)`."""
    pytest.importorskip("torch")
    shutil.copytree(DATA / "two", tmp_path / "x")
    metadata = pickle.loads((tmp_path / "x/.metadata").read_bytes())
    change(metadata)
    (tmp_path / "x/.metadata").write_bytes(pickle.dumps(metadata))
    return tmp_path / "x"


def place_of(metadata: Any, name: str) -> Any:
    return next(info for index, info in metadata.storage_data.items() if index.fqn == name)


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("code of a checkpoint ran",))


def _set(**fields: Any) -> Any:
    def change(metadata: Any) -> None:
        vars(place_of(metadata, "rows")).update(fields)

    return change


def _chunk(**fields: Any) -> Any:
    def change(metadata: Any) -> None:
        vars(metadata.state_dict_metadata["rows"].chunks[0]).update(fields)

    return change


def _drop_chunk(metadata: Any) -> None:
    metadata.state_dict_metadata["rows"].chunks.pop()


def _drop_place(metadata: Any) -> None:
    metadata.storage_data = {
        i: p for i, p in metadata.storage_data.items() if i.fqn != "groups.0.lr"
    }


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (_set(relative_path="../x"), RefusedError, "plain name in the directory"),
        (_set(relative_path="/etc/passwd"), RefusedError, "plain name in the directory"),
        (_set(relative_path=".metadata"), RefusedError, "plain name in the directory"),
        (_set(relative_path="gone.distcp"), DamagedError, "'gone.distcp' is missing"),
        (_set(offset=10**9), DamagedError, "outside the file"),
        (_set(length=1 << 40), DamagedError, "outside the file"),
        (_set(offset=-1), DamagedError, "an offset or length"),
        (_set(transform_descriptors=["stream.zstd/1"]), UnsupportedError, "extensions"),
        (_chunk(sizes=(3, 5)), DamagedError, "do not tile"),
        (_chunk(sizes=(5, 5)), DamagedError, "do not tile"),
        (_chunk(sizes=(8, 5)), DamagedError, "do not tile"),
        (_chunk(offsets=(1, 0)), DamagedError, "no place is given"),
        (_drop_chunk, DamagedError, "do not tile"),
        (_drop_place, DamagedError, "no place is given"),
        (lambda m: vars(m).update(storage_data=None), DamagedError, "storage_data is a dict"),
        (lambda m: vars(m).update(state_dict_metadata=[]), DamagedError, "state_dict_metadata"),
        (lambda m: m.planner_data.update(rows=("rows", 10**9)), RefusedError, "index 1000000000"),
        (lambda m: m.planner_data.update(rows=()), DamagedError, "the path of item"),
        (lambda m: m.planner_data.update(rows=("few", "x")), DamagedError, "through another item"),
        (lambda m: m.planner_data.update(rows=("few",)), DamagedError, "through another item"),
        (lambda m: m.planner_data.update(rows=("x",) * 1000), RefusedError, "1000 parts"),
        (lambda m: m.planner_data.update(rows=(Evil(),)), DamagedError, "a path of"),
        (lambda m: m.state_dict_metadata.update(rows=Evil()), DamagedError, "expected"),
    ],
)
def test_it_says_what_is_wrong_with_the_metadata(
    tmp_path: Path, change: Any, error: type[InputError], told: str, capsys: Any
) -> None:
    path = changed(tmp_path, change)
    with pytest.raises(error, match=told):
        FORMAT.open(path)
    assert capsys.readouterr().out == ""


def test_it_finds_a_chunk_that_is_not_what_the_metadata_says(tmp_path: Path) -> None:
    def swap(metadata: Any) -> None:
        few = place_of(metadata, "few")
        vars(place_of(metadata, "copies")).update(vars(few))

    tree = FORMAT.open(changed(tmp_path, swap)).tree
    with pytest.raises(DamagedError, match=r"expected a float32 tensor of shape \(7, 5\)"):
        tree["copies"].read()


def test_it_carries_out_a_conjugation_that_torch_put_off(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    saved({"a": torch.tensor([1 + 2j, 3 - 4j]).conj()}, tmp_path / "x")
    tensor = FORMAT.open(tmp_path / "x").tree["a"]
    assert tensor.read().tolist() == [1 - 2j, 3 + 4j]
    assert b"".join(map(bytes, tensor.pieces())) == np.array([1 - 2j, 3 + 4j], "c8").tobytes()


def _as_torch_2_0(metadata: Any) -> None:
    """The classes and fields of old versions of torch, and no version of the format."""
    from torch.distributed._shard.metadata import ShardMetadata
    from torch.distributed._shard.sharded_tensor.metadata import TensorProperties

    for item in metadata.state_dict_metadata.values():
        if hasattr(item, "properties"):
            item.properties = TensorProperties(dtype=item.properties.dtype)
            item.chunks = [
                ShardMetadata(list(chunk.offsets), list(chunk.sizes), "cpu")
                for chunk in item.chunks
            ]
    del metadata.version, metadata.storage_meta


def _as_python_3_13(metadata: Any) -> None:
    class PosixPath:
        pass

    PosixPath.__module__, PosixPath.__qualname__ = "pathlib._local", "PosixPath"
    local = type(pickle)("pathlib._local")
    vars(local).update(PosixPath=PosixPath)
    sys.modules["pathlib._local"] = local
    metadata.storage_meta.checkpoint_id = PosixPath()


def _without_places(metadata: Any) -> None:
    metadata.planner_data = None


@pytest.mark.parametrize("change", [_as_torch_2_0, _as_python_3_13])
def test_it_reads_what_other_versions_wrote(
    tmp_path: Path, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pathlib._local", None)
    path = changed(tmp_path, change)
    assert values(FORMAT.open(path).tree) == values(FORMAT.open(DATA / "two").tree)


def test_it_keeps_flat_names_where_no_places_are_given(tmp_path: Path) -> None:
    tree = FORMAT.open(changed(tmp_path, _without_places)).tree
    assert {"rows", "groups.0.lr", "groups.0.betas"} <= tree.keys()


def test_it_says_that_a_save_was_not_finished(tmp_path: Path) -> None:
    (tmp_path / "__0_0.distcp").touch()
    assert FORMAT.recognize(Probe(tmp_path))
    with pytest.raises(DamagedError, match=r"no \.metadata"):
        FORMAT.open(tmp_path)
    (tmp_path / ".metadata.tmp").touch()
    with pytest.raises(DamagedError, match="never finished"):
        FORMAT.open(tmp_path)
    (tmp_path / ".metadata.tmp").rename(tmp_path / "__0.metadata")
    with pytest.raises(UnsupportedError, match="every rank wrote its own metadata"):
        FORMAT.open(tmp_path)


def test_it_follows_no_link_out_of_the_directory(tmp_path: Path) -> None:
    shutil.copytree(DATA / "one", tmp_path / "x")
    (tmp_path / "x/__0_0.distcp").rename(tmp_path / "y")
    (tmp_path / "x/__0_0.distcp").symlink_to(tmp_path / "y")
    with pytest.raises(RefusedError, match="outside of the checkpoint"):
        FORMAT.open(tmp_path / "x")


def test_it_ends_in_data_or_an_error_for_every_flip(tmp_path: Path) -> None:
    source = InMemory(bytes(16))
    view = Tensor(BY_NAME["float32"], (2,), Strided(source, 4, (4,)))
    write({"a": [view, 1], 0: "x", "o": Object("collections.OrderedDict", entries={})},
          tmp_path / "x")  # fmt: skip
    path = tmp_path / "x/.metadata"
    data = path.read_bytes()
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        try:
            for _, node in walk(FORMAT.open(tmp_path / "x").tree):
                if isinstance(node, Tensor):
                    leaf(node)
        except InputError:
            continue
