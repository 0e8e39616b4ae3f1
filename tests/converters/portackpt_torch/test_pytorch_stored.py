"""Small files that torch 2.13 wrote (`tests/data/make_pytorch.py`): read where no torch is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sameness import assert_same

from portackpt.checkpoint import Checkpoint
from portackpt.errors import UnsupportedError
from portackpt.plugins import detect
from portackpt.spelling import spell
from portackpt.tensor import Strided, Tensor
from portackpt.tree import Object, tensors
from portackpt_torch.pytorch import FORMAT

FOLDER = Path(__file__).parents[2] / "data/pytorch"


def tree(name: str) -> Any:
    return FORMAT.open(FOLDER / name).tree


@pytest.mark.parametrize("name", ["run.pt", "run.legacy.pt"])
def test_it_reads_a_training_run(name: str) -> None:
    run = tree(name)
    assert run["epoch"] == 2 and run["scheduler"]["last_epoch"] == 2
    model = run["model"]
    assert model.type == "collections.OrderedDict" and list(model.entries)[:2] == [
        "0.weight",
        "0.bias",
    ]
    assert model.entries["0.weight"].shape == (3, 2)
    assert model.entries["1.num_batches_tracked"].read()[()] == 2
    assert model.state["_metadata"].entries["0"] == {"version": 1}
    assert run["optimizer"]["state"][0]["step"].read()[()] == 2.0
    assert run["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)


def test_both_kinds_of_file_hold_the_same() -> None:
    assert_same(tree("run.pt"), tree("run.legacy.pt"))


@pytest.mark.parametrize("name", ["odd.pt", "odd.protocol4.pt"])
def test_it_reads_one_of_each_kind(name: str) -> None:
    odd = tree(name)
    turned, part, base = odd["views"]
    assert turned.read().tolist() == [[0, 3], [1, 4], [2, 5]] and part.read().tolist() == [4, 5]
    assert turned.layout.source is part.layout.source is base.layout.source
    assert (turned.layout.strides, part.layout.offset) == ((4, 12), 16)
    assert odd["parameter"].attributes == {
        "torch.class": "torch.nn.parameter.Parameter", "requires_grad": False,
        "state": {"note": "x"},
    }  # fmt: skip
    assert odd["conjugate"].attributes == {"conj": True}
    assert odd["conjugate"].read().tolist() == [1 + 2j]
    assert odd["uint16"].read().tolist() == [1, 65535]
    assert odd["bfloat16"].read().astype(float).tolist() == [1.5]
    assert odd["sparse"].entries["indices"].read().tolist() == [[0, 1], [0, 1]]
    assert odd["sparse"].entries["size"] == [2, 2]
    quantized = odd["quantized"].entries
    assert quantized["int_repr"].read().tolist() == [5, 5]
    del quantized["int_repr"]
    assert list(quantized.values()) == ["quint8", "per_tensor_affine", 0.5, 3]
    assert odd["meta"].entries["shape"] == [2, 3]
    assert odd["array"].read().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert odd["array"].layout.strides == (8, 16)
    dtype, size, device, items, data, large, imaginary = odd["values"]
    assert (dtype.type, size.items, device.args) == ("torch.float32", [1, 2], ("cpu",))
    assert (items.items, data, large, imaginary) == ([1], b"\xff", 2**70, 1j)
    assert list(odd["ordered"].entries) == ["b", "a"]
    assert odd[3][:2] == (None, True) and odd[3][2] != odd[3][2]


@pytest.mark.parametrize("name", ["run.pt", "run.legacy.pt", "odd.pt", "odd.protocol4.pt"])
def test_it_gives_back_what_it_read(name: str, tmp_path: Path) -> None:
    source = FORMAT.open(FOLDER / name)
    assert FORMAT.vocabulary is not None
    spelled = spell(source.tree, FORMAT.vocabulary)
    assert_same(source.tree, spelled.tree)
    FORMAT.write(
        Checkpoint(spelled.tree, "pytorch", details=source.details), tmp_path / "a.pt",
        overwrite=False, step=None, progress=lambda count: None,
    )  # fmt: skip
    assert_same(source.tree, FORMAT.open(tmp_path / "a.pt").tree)


def test_it_carries_the_parameters_of_a_whole_module() -> None:
    module = tree("module.pt")
    assert isinstance(module, Object) and module.type == "torch.nn.modules.linear.Linear"
    found = dict(tensors(module))
    assert list(found) == ["~._parameters/weight", "~._parameters/bias"]
    assert isinstance(found["~._parameters/weight"].layout, Strided)


def test_it_says_of_a_program_that_it_is_one() -> None:
    with pytest.raises(UnsupportedError, match="TorchScript archive: a program"):
        FORMAT.open(FOLDER / "script.pt")


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_it_is_the_one_that_recognizes_them(path: Path) -> None:
    assert detect(path) is FORMAT


def test_a_tensor_is_read_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from portackpt_torch import archive

    located: list[str] = []
    locate = archive._locate

    def watched(whole: archive.Archive, record: Any) -> int:
        located.append(record.name)
        return locate(whole, record)

    monkeypatch.setattr(archive, "_locate", watched)
    run = tree("run.pt")
    assert not any("/data/" in name for name in located)
    weight: Tensor = run["model"].entries["0.weight"]
    assert weight.read().dtype == np.float32
    assert [name for name in located if "/data/" in name] == ["run/data/0"]
