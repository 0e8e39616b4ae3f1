"""The pytorch format against torch itself: what torch writes is read, what we write it loads."""

from __future__ import annotations

import collections
import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sameness import assert_same as assert_same_tree
from torch_objects import assert_same

import generated
from portackpt.bytesource import InMemory
from portackpt.dtypes import BY_NAME
from portackpt.errors import UsageError
from portackpt.ledger import Fate
from portackpt.plugins import Probe
from portackpt.spelling import spell
from portackpt.tensor import Tensor, Tiled, contiguous, from_array
from portackpt.tree import Object
from portackpt_torch.pytorch import FORMAT

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(prototype|beta state|TypedStorage|quantiz).*"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental"),
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
    pytest.mark.filterwarnings("ignore:.*nested tensors.*"),
]
NUMPY = [np.ndarray, np.dtype, np._core.multiarray._reconstruct, np._core.multiarray.scalar,
         *{type(np.dtype(code)) for code in "?bhilBHILefdFD"}]  # fmt: skip


def load(path: Path, **options: Any) -> Any:
    with torch.serialization.safe_globals(NUMPY):
        return torch.load(path, weights_only=True, **options)


def write(tree: Any, path: Path, details: dict[str, str] | None = None) -> None:
    from portackpt.checkpoint import Checkpoint

    checkpoint = Checkpoint(tree, "pytorch", details=details or {})
    FORMAT.write(checkpoint, path, overwrite=True, step=None, progress=lambda count: None)


def parameter(attribute: Any = None, **options: Any) -> Any:
    made = torch.nn.Parameter(torch.randn(2, 3), **options)
    if attribute is not None:
        made.note = attribute
    return made


def with_attribute(value: Any) -> Any:
    tensor = torch.arange(3.0)
    tensor.note = value
    return tensor


def shared() -> Any:
    base = torch.arange(20.0)
    return [base[2:5], base[::3], base.view(4, 5).t(), base, base.detach(), base[20:]]


def quantized(dtype: Any) -> Any:
    return torch.quantize_per_tensor(torch.randn(3, 4), 0.1, 3, dtype)


def per_channel(dtype: Any, scales: Any) -> Any:
    return torch.quantize_per_channel(
        torch.randn(3, 5), scales, torch.tensor([0, 1, 2], dtype=torch.int64), 0, dtype
    )


def dictionaries() -> Any:
    ordered = collections.OrderedDict([("b", 1), ("a", {})])
    ordered.note = {"x": (1,)}  # type: ignore[attr-defined]
    return [
        ordered,
        collections.Counter("aab"),
        {1: {2.5: None, (1, "a"): True, None: [], b"": ()}},
    ]


TYPED = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128,
]  # fmt: skip
UNTYPED = [
    torch.uint16, torch.uint32, torch.uint64, torch.complex32, torch.float8_e4m3fn,
    torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
    torch.float4_e2m1fn_x2, torch.bits8, torch.bits16,
]  # fmt: skip


def of_bits(dtype: Any) -> Any:
    raw = torch.arange(16, dtype=torch.uint8)
    raw = raw % 2 if dtype is torch.bool else raw
    return torch.empty(0, dtype=dtype).set_(raw.untyped_storage())[: 16 // dtype.itemsize]


MADE: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "numbers": lambda: [0, -1, 255, 256, 65536, -70000, 2**31, 2**63, -(2**70), 1.5, float("nan"),
                        -0.0, 1 + 2j, True, False],
    "text": lambda: ["", "a/b", "größe", "名前", "x" * 300, "a" * 70_000, "\udc80"],
    "bytes": lambda: [b"", b"\x00\xff", bytes(range(256)), bytearray(b"xy"), bytearray()],
    "containers": lambda: [[], {}, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[[]]], {"": {}}],
    "sets": lambda: [set(), {1}, {"a"}],
    "dictionaries": dictionaries,
    "state dict": lambda: torch.nn.Sequential(torch.nn.Linear(3, 4),
                                              torch.nn.BatchNorm1d(4)).state_dict(),
    "shared storage": shared,
    "one tensor twice": lambda: [torch.ones(2)] * 2,
    "shapes": lambda: [torch.tensor(3.0), torch.empty(0), torch.empty(0, 3), torch.ones(1, 2, 1, 1),
                       torch.ones((1,) * 10), torch.ones(1).expand(3, 5),
                       torch.arange(24).view(2, 3, 4).permute(2, 0, 1)],
    "dtypes": lambda: [of_bits(dtype) for dtype in TYPED],
    "newer dtypes": lambda: [of_bits(dtype) for dtype in UNTYPED],
    "requires grad": lambda: torch.ones(2, requires_grad=True),
    "parameters": lambda: [parameter(), parameter(requires_grad=False), parameter("x")],
    "attributes": lambda: [with_attribute(1), with_attribute({"a": [(1, "b")]})],
    "attributes that are tensors": lambda: [with_attribute(torch.ones(2)),
                                            parameter({"t": torch.ones(1)})],
    "buffer": lambda: torch.nn.Buffer(torch.ones(2)),
    "conjugate": lambda: torch.randn(3, dtype=torch.complex64).conj(),
    "negated": lambda: torch.randn(3, dtype=torch.complex64).conj().imag,
    "sparse": lambda: [torch.eye(3).to_sparse(), torch.eye(3).to_sparse_csr(),
                       torch.eye(3).to_sparse_csc(), torch.eye(4).to_sparse_bsr((2, 2)),
                       torch.eye(4).to_sparse_bsc((2, 2)), torch.nn.Parameter(
                           torch.eye(2).to_sparse())],
    "quantized": lambda: [quantized(torch.quint8), quantized(torch.qint8), quantized(torch.qint32),
                          quantized(torch.quint8).t(),
                          per_channel(torch.qint8, torch.rand(3).double() + 0.1)],
    "packed": lambda: torch.quantize_per_channel(
        torch.randn(3, 5), torch.rand(3) + 0.1, torch.ones(3), 0, torch.quint4x2),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)]),
    "meta": lambda: [torch.empty(2, 3, device="meta").t(), torch.empty(2, device="meta",
                                                                       dtype=torch.int4)],
    "storages": lambda: [torch.ones(3).untyped_storage(), torch.ones(3).storage()],
    "values of torch": lambda: [torch.float32, torch.quint8, torch.device("cpu"),
                                torch.device("cuda:3"), torch.Size([1, 2]), torch.Size([])],
    "dtypes as keys": lambda: {torch.float16: 1, torch.device("cpu"): 2},
    "arrays": lambda: {"c": np.arange(6.0).reshape(2, 3), "f": np.asfortranarray(np.ones((2, 3))),
                       "s": np.float32(3), "b": np.arange(3, dtype=">i4"), "e": np.zeros((0, 2)),
                       "dtype": np.dtype("f4")},
    "random states": lambda: {"torch": torch.get_rng_state(),
                              "python": (3, tuple(range(625)), None)},
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_it_keeps_what_torch_wrote(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(MADE[name](), tmp_path / "a.pt")
    checkpoint = FORMAT.open(tmp_path / "a.pt")
    assert_same(checkpoint.tree, torch.load(tmp_path / "a.pt", weights_only=False))
    spelled = spell(checkpoint.tree, FORMAT.vocabulary)
    assert {entry.fate for entry in spelled.entries} <= {Fate.EXACT}
    write(spelled.tree, tmp_path / "b.pt", dict(checkpoint.details))
    assert_same(checkpoint.tree, load(tmp_path / "b.pt"))
    assert_same(checkpoint.tree, load(tmp_path / "b.pt", mmap=True))
    assert_same_tree(checkpoint.tree, FORMAT.open(tmp_path / "b.pt").tree)
    assert FORMAT.recognize(Probe(tmp_path / "a.pt"))


@pytest.mark.parametrize("name", sorted(set(MADE) - {"nested", "storages", "newer dtypes"}))
def test_it_reads_the_legacy_stream(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    made = MADE[name]()
    torch.save(made, path, _use_new_zipfile_serialization=False)
    assert FORMAT.recognize(Probe(path))
    assert_same(FORMAT.open(path).tree, torch.load(path, weights_only=False))


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_it_reads_other_protocols(protocol: int, tmp_path: Path) -> None:
    value = {"a": torch.ones(2, 3), "b": [b"x" * 300, {1, 2}, 2**80], "c": "x"}
    torch.save(value, tmp_path / "a.pt", pickle_protocol=protocol)
    assert_same(FORMAT.open(tmp_path / "a.pt").tree, torch.load(tmp_path / "a.pt",
                                                                weights_only=False))  # fmt: skip


def test_it_reads_a_file_without_checksums(tmp_path: Path) -> None:
    enabled = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(enabled)
    checkpoint = FORMAT.open(tmp_path / "a.pt")
    assert_same(checkpoint.tree, load(tmp_path / "a.pt"))
    assert checkpoint.notes == ("no checksums: a flipped bit in a tensor is not found",)


def rezipped(data: bytes, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            changed = change(name, old.read(name))
            if changed is not None:
                new.writestr(*changed)
    return buffer.getvalue()


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_it_reads_archives_without_newer_records(tmp_path: Path) -> None:
    keep = ("/data.pkl", "/version", "/data/0")
    data = rezipped(
        saved({"a": torch.ones(2)}),
        lambda name, data: (name, data) if name.endswith(keep) else None,
    )
    (tmp_path / "a.pt").write_bytes(data)
    checkpoint = FORMAT.open(tmp_path / "a.pt")
    assert checkpoint.framework_version == "1.6 to 2.0"
    assert_same(checkpoint.tree, {"a": torch.ones(2)})


def test_it_reads_big_endian_archives(tmp_path: Path) -> None:
    value = {
        "a": torch.arange(5, dtype=torch.float64),
        "b": torch.randn(3, dtype=torch.complex64),
        "c": torch.arange(3, dtype=torch.uint8),
        "d": torch.arange(4, dtype=torch.int16)[1::2],
    }
    widths = {"data/0": 8, "data/1": 4, "data/2": 1, "data/3": 2}

    def turned(name: str, data: bytes) -> tuple[str, bytes]:
        for end, width in widths.items():
            if name.endswith(end):
                data = np.frombuffer(data, f"u{width}").byteswap().tobytes()
        return name, b"big" if name.endswith("byteorder") else data

    (tmp_path / "a.pt").write_bytes(rezipped(saved(value), turned))
    checkpoint = FORMAT.open(tmp_path / "a.pt")
    assert_same(checkpoint.tree, load(tmp_path / "a.pt"))
    assert_same(checkpoint.tree, value)
    write(checkpoint.tree, tmp_path / "b.pt")
    assert_same(checkpoint.tree, load(tmp_path / "b.pt"))


def test_it_reads_tensors_in_pythons_own_pickle(tmp_path: Path) -> None:
    import pickle

    base = torch.arange(6.0)
    value = {"a": base.view(2, 3).t(), "b": base[2:], "c": torch.nn.Parameter(torch.ones(2))}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
    checkpoint = FORMAT.open(tmp_path / "a.pkl")
    assert np.array_equal(checkpoint.tree["a"].read(), value["a"].numpy())
    assert np.array_equal(checkpoint.tree["b"].read(), value["b"].numpy())
    assert checkpoint.tree["c"].attributes["requires_grad"] is True
    assert checkpoint.framework == "pytorch"


def test_it_keeps_the_device_a_tensor_was_on(tmp_path: Path) -> None:
    data = saved({"a": torch.ones(2)})
    moved = rezipped(
        data, lambda name, data: (name, data.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:1"))
    )
    (tmp_path / "a.pt").write_bytes(moved)
    tree = FORMAT.open(tmp_path / "a.pt").tree
    assert tree["a"].attributes == {"device": "cuda:1"}
    write(tree, tmp_path / "b.pt")
    assert_same({"a": contiguous(BY_NAME["float32"], (2,), tree["a"].layout.source)},
                load(tmp_path / "b.pt", map_location="cpu"))  # fmt: skip
    assert FORMAT.open(tmp_path / "b.pt").tree["a"].attributes == {"device": "cuda:1"}


def test_it_carries_the_parameters_of_a_whole_module(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    torch.save(model, tmp_path / "a.pt")
    tree = FORMAT.open(tmp_path / "a.pt").tree
    assert tree.type == "torch.nn.modules.container.Sequential"
    first = tree.state["_modules"]["0"]
    assert first.type == "torch.nn.modules.linear.Linear"
    weight = first.state["_parameters"]["weight"]
    assert np.array_equal(weight.read(), model[0].weight.detach().numpy())


def test_it_carries_the_data_of_a_distributed_tensor(tmp_path: Path) -> None:
    pytest.importorskip("torch.distributed.tensor")
    from torch.distributed.tensor import DTensor

    local = torch.ones(2)
    reduced = DTensor.__reduce_ex__  # a process group is not needed to write what it would
    assert callable(reduced)
    data = (
        b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_wrapper_subclass"
        b"\nctorch.distributed.tensor\nDTensor\n(K\x02\x85t}X\x06\x00\x00\x00_localK\x01stR."
    )

    def changed(name: str, old: bytes) -> tuple[str, bytes]:
        return name, data if name.endswith("data.pkl") else old

    (tmp_path / "a.pt").write_bytes(rezipped(saved(local), changed))
    tree = FORMAT.open(tmp_path / "a.pt").tree
    assert (tree.type, tree.args, tree.state) == (
        "torch.distributed.tensor.DTensor", ((2,),), {"_local": 1},
    )  # fmt: skip


fitting = st.sampled_from(
    [BY_NAME[name] for name in sorted(FORMAT.vocabulary.dtypes)]  # type: ignore[union-attr]
)


@given(generated.trees(generated.scalars | generated.tensors() | generated.strings()))
@settings(max_examples=120, deadline=None)
def test_it_writes_any_tree_that_fits(tree: Any) -> None:
    import tempfile

    spelled = spell(tree, FORMAT.vocabulary).tree
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pt"
        write(spelled, path)
        assert_same_tree(spelled, FORMAT.open(path).tree)
        assert_same(spelled, load(path))


@given(st.lists(generated.tied(), max_size=3))
@settings(max_examples=60, deadline=None)
def test_it_keeps_shared_storage(groups: list[list[Tensor]]) -> None:
    import tempfile

    spelled = spell(groups, FORMAT.vocabulary).tree
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pt"
        write(spelled, path)
        assert_same_tree(spelled, FORMAT.open(path).tree)
        assert_same(spelled, load(path))


def test_it_keeps_one_storage_of_several_dtypes(tmp_path: Path) -> None:
    source = InMemory(bytes(range(16)))
    tree = [
        contiguous(BY_NAME["float32"], (4,), source),
        contiguous(BY_NAME["int16"], (3,), source, 4),
        contiguous(BY_NAME["uint16"], (8,), source),
        contiguous(BY_NAME["complex128"], (1,), source),
    ]
    write(tree, tmp_path / "a.pt")
    assert_same_tree(tree, FORMAT.open(tmp_path / "a.pt").tree)
    assert_same(tree, load(tmp_path / "a.pt"))


def test_it_gives_tensors_of_other_layouts_storages_of_their_own(tmp_path: Path) -> None:
    from portackpt.box import Box

    parts = [from_array(np.arange(n * 3.0, n * 3 + 3).reshape(1, 3)) for n in range(2)]
    tiled = Tensor(
        parts[0].dtype, (2, 3), Tiled(tuple((Box((n, 0), (1, 3)), p) for n, p in enumerate(parts)))
    )
    skewed = contiguous(BY_NAME["int32"], (2,), InMemory(bytes(range(11))), 3)
    write({"tiled": tiled, "skewed": skewed, "again": tiled}, tmp_path / "a.pt")
    loaded = load(tmp_path / "a.pt")
    assert loaded["tiled"].tolist() == [[0, 1, 2], [3, 4, 5]] and loaded["again"] is loaded["tiled"]
    assert loaded["skewed"].numpy().tobytes() == bytes(range(3, 11))


def test_its_archives_have_the_layout_of_torchs(tmp_path: Path) -> None:
    """Same records at the same places: all bytes but the pickle and the identifier are equal."""
    value = [torch.arange(n, dtype=torch.float32) for n in (3, 0, 1000, 1)]
    torch.save(value, tmp_path / "archive.pt")
    theirs = zipfile.ZipFile(tmp_path / "archive.pt")
    records = {info.filename: theirs.read(info) for info in theirs.infolist()}
    from portackpt.storage.local import Writer
    from portackpt_torch.archive_writer import ArchiveWriter

    with Writer(tmp_path / "ours") as file:
        archive = ArchiveWriter(file)
        for name, data in records.items():
            archive.add(name, data)
        archive.finish()
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "archive.pt").read_bytes()


def test_torch_finds_storages_without_reading_headers(tmp_path: Path) -> None:
    value = {"a": torch.arange(5.0), "b": torch.empty(0), "c": torch.arange(70.0)}
    torch.save(value, tmp_path / "a.pt")
    write(FORMAT.open(tmp_path / "a.pt").tree, tmp_path / "b.pt")
    from torch.utils.serialization import config

    with config.patch({"load.calculate_storage_offsets": True}):
        assert_same(FORMAT.open(tmp_path / "b.pt").tree, load(tmp_path / "b.pt", mmap=True))


def test_it_writes_the_same_bytes_for_the_same_tree(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3), "b": [1, "x"]}, tmp_path / "a.pt")
    tree = FORMAT.open(tmp_path / "a.pt").tree
    write(tree, tmp_path / "b.pt")
    write(tree, tmp_path / "c.pt")
    assert (tmp_path / "b.pt").read_bytes() == (tmp_path / "c.pt").read_bytes()


def test_it_tells_the_code_that_loads_it(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    scope: dict[str, Any] = {}
    exec(FORMAT.resume(tmp_path / "a.pt", None), scope)
    assert scope["state"]["a"].tolist() == [1, 1, 1]


def test_it_has_no_steps(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    with pytest.raises(UsageError, match="no step 3"):
        FORMAT.open(tmp_path / "a.pt", step=3)
    with pytest.raises(UsageError, match="no step"):
        FORMAT.write(FORMAT.open(tmp_path / "a.pt"), tmp_path / "b.pt", overwrite=True, step=1,
                     progress=lambda count: None)  # fmt: skip


@pytest.mark.parametrize(
    "node",
    [
        Object("my.Thing", state={"a": 1}),
        Object("torch.Size", items=["a"]),
        Object("torch.device", args=(1,)),
        Object("collections.OrderedDict", args=(1,)),
        Object("torch.sparse_coo_tensor", entries={"indices": 1}),
        Object("torch.quantized_tensor", entries={"int_repr": 1}),
        Object("torch.meta_tensor", entries={}),
        Object("numpy.dtype", args=("f4",)),
        Object("builtins.frozenset", items=[1]),
        Object("torch.Tensor", args=(1,), state={}),
    ],
)
def test_it_leaves_objects_that_torch_does_not_rebuild_to_plain_data(node: Object) -> None:
    assert FORMAT.vocabulary is not None and not FORMAT.vocabulary.objects(node)


def test_no_warning_hides_here() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        FORMAT.recognize(Probe(Path(__file__)))
    assert not caught
