"""Real files that other people's runs wrote: read, compared with torch, written, compared again."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_objects import assert_same

from portackpt.checkpoint import Checkpoint
from portackpt.errors import UnsupportedError
from portackpt.plugins import Probe
from portackpt.spelling import spell
from portackpt.tree import tensors, walk
from portackpt_torch.pytorch import FORMAT

ROOT = (Path(__file__).parents[3] / "../shared/data/real").resolve()
FOLDERS = ("torch-plain", "torch-legacy", "torch-odd", "torch-train", "lightning", "hf-trainer")


def _files(*folders: str) -> list[str]:
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file() and Probe(path).head[:1] in (b"P", b"\x80")
    ]
    return found or ["the real files are not here"]


def _is_program(name: str) -> bool:
    return ".scripted." in name or ".traced." in name or ".package.pt" in name


CHECKPOINTS = [name for name in _files(*FOLDERS) if not _is_program(name)]
PROGRAMS = [name for name in _files("torchscript", "torch-odd") if _is_program(name)
            or name.startswith("torchscript")]  # fmt: skip


def here(name: str) -> Path:
    path = ROOT / name
    if not path.is_file():
        pytest.skip("the real files are not here")
    return path


@functools.cache
def _load(path: Path) -> Any:
    """What torch gives, where it reads the file with its own restricted unpickler."""
    torch = pytest.importorskip("torch")
    made = np._core.multiarray._reconstruct
    allowed = [np.ndarray, np.dtype, np._core.multiarray.scalar, made]
    allowed += [(made, "numpy.core.multiarray._reconstruct")]
    allowed += {type(np.dtype(code)) for code in "?bhilBHILefdOUMV"}
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        return error


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.filterwarnings("ignore")
def test_it_reads_what_torch_reads(name: str) -> None:
    path = here(name)
    assert FORMAT.recognize(Probe(path))
    checkpoint = FORMAT.open(path)
    for _, tensor in tensors(checkpoint.tree):
        assert tensor.read().shape == tensor.shape
    loaded = _load(path)
    if not isinstance(loaded, Exception):
        assert_same(checkpoint.tree, loaded)


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.filterwarnings("ignore")
def test_it_gives_back_what_it_read(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = here(name)
    checkpoint = FORMAT.open(path)
    assert FORMAT.vocabulary is not None
    spelled = spell(checkpoint.tree, FORMAT.vocabulary)
    target = tmp_path / "again.pt"
    FORMAT.write(
        Checkpoint(spelled.tree, "pytorch", details=checkpoint.details), target,
        overwrite=False, step=None, progress=lambda count: None,
    )  # fmt: skip
    again = _load(target)
    assert not isinstance(again, Exception), again
    assert_same(spelled.tree, again)
    if not isinstance(_load(path), Exception):
        assert_same(checkpoint.tree, again)
    assert len(list(walk(spelled.tree))) == len(list(walk(FORMAT.open(target).tree)))


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_says_of_a_program_that_it_is_one(name: str) -> None:
    path = here(name)
    assert FORMAT.recognize(Probe(path))
    with pytest.raises(UnsupportedError, match="a program, not a checkpoint"):
        FORMAT.open(path)


def test_it_names_the_parameters_of_a_whole_module() -> None:
    path = here("torch-plain/mace_training/mace_swa.model")
    found = [name for name, _ in tensors(FORMAT.open(path).tree)]
    assert "~._modules/node_embedding/~._modules/linear/~._parameters/weight" in found


def test_it_lists_what_is_in_a_bare_pickle() -> None:
    path = here("torch-legacy/skorch_net_cuda/net_cuda.pkl")
    checkpoint = FORMAT.open(path)
    assert checkpoint.tree.type == "skorch.classifier.NeuralNetClassifier"
    assert len(list(tensors(checkpoint.tree))) == 23
