"""The packs make what Hugging Face's own conversions made (see tests/data/make_hf_packs.py)."""

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portackpt.errors import UsageError
from portackpt.layouts.dialects import Dialect
from portackpt.matching import packs
from portackpt.matching.files import parse, spell
from portackpt.tensor import from_array

DATA = Path(__file__).parents[1] / "data/packs"
CASES = {
    ("gpt2", "flax"): "gpt2-flax",
    ("gpt2", "tf"): "gpt2-tf",
    ("gpt2-bare", "flax"): "gpt2-flax",
    ("gpt2-bare", "tf"): "gpt2-tf",
    ("bert", "flax"): "bert-flax",
    ("bert", "tf"): "bert-tf",
    ("bert-classifier", "flax"): "bert-flax",
    ("bert-classifier", "tf"): "bert-tf",
    ("bert-bare", "flax"): "bert-flax",
    ("bert-bare", "tf"): "bert-tf",
    ("llama", "flax"): "llama-flax",
    ("t5", "flax"): "t5-flax",
    ("t5", "tf"): "t5-tf",
    ("t5-gated", "flax"): "t5-flax",
    ("t5-gated", "tf"): "t5-tf",
    ("vit", "flax"): "vit-flax",
    ("vit", "tf"): "vit-tf",
    ("resnet", "flax"): "resnet-flax",
    ("resnet", "tf"): "resnet-tf",
    ("resnet-basic", "tf"): "resnet-tf",
}
DIALECTS = {"flax": Dialect.FLAX, "tf": Dialect.KERAS}


def document(model: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / f"{model}.json").read_text())
    return found


def source(found: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in found["torch"].items()}


def template(leaves: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf["shape"]) for name, leaf in leaves.items()}


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(name.encode())).random(shape, np.float32)


@pytest.mark.parametrize(("model", "kind"), CASES)
def test_it_converts_as_hugging_face_does(model: str, kind: str) -> None:
    found = document(model)
    shapes = source(found)
    mapping = packs.load(CASES[model, kind])
    resolution = mapping.resolve(shapes, template(found[kind]), found["ties"])
    made = set()
    for assignment in resolution.assignments:
        tensors = [
            from_array(values(found["ties"].get(name, name), shapes[name]))
            for name in assignment.sources
        ]
        for name, tensor in zip(assignment.targets, assignment.apply(tensors), strict=True):
            expected = found[kind][name]
            array = tensor.read()
            assert list(array.shape) == expected["shape"], name
            assert hashlib.sha256(array.tobytes()).hexdigest()[:16] == expected["sha256"], name
            made.add(name)
    assert made == set(found[kind])
    accounted = [name for a in resolution.assignments for name in a.sources]
    accounted += [name for name, _ in (*resolution.dropped, *resolution.tied_sources)]
    assert sorted(accounted) == sorted(shapes)
    assert set(resolution.tied_sources) <= set(found["ties"].items())


@pytest.mark.parametrize(("model", "kind"), CASES)
def test_it_goes_back(model: str, kind: str) -> None:
    found = document(model)
    shapes = source(found)
    mapping = packs.load(CASES[model, kind]).inverse()
    resolution = mapping.resolve(template(found[kind]), shapes)
    assert sorted(resolution.targets) == sorted(shapes)
    assert set(resolution.tied_targets) == set(found["ties"].items())
    counts = [name for name in shapes if name.endswith("num_batches_tracked")]
    assert sorted(resolution.zeros) == sorted(counts)


@pytest.mark.parametrize(("model", "kind"), CASES)
def test_it_finds_the_pack(model: str, kind: str) -> None:
    found = document(model)
    there = template(found[kind])
    name, _ = packs.find(source(found), there, Dialect.TORCH, DIALECTS[kind]) or ("", None)
    assert name == CASES[model, kind]
    back, _ = packs.find(there, source(found), DIALECTS[kind], Dialect.TORCH) or ("", None)
    assert back == name


@pytest.mark.parametrize(
    ("model", "kind"), [c for c in CASES if c[1] == "flax" and c[0] != "resnet"]
)  # a template shows whether parameters stand under `params`
def test_it_needs_no_template(model: str, kind: str) -> None:
    found = document(model)
    mapping = packs.load(CASES[model, kind])
    resolution = mapping.resolve(source(found), None, found["ties"])
    assert sorted(resolution.targets) == sorted(found[kind])


@pytest.mark.parametrize("name", packs.names())
def test_it_is_a_mapping_file(name: str) -> None:
    pack = packs.load(name)
    assert pack.title
    assert parse(spell(pack)) == pack
    assert pack.inverse().inverse() == pack


def test_it_maps_resnets_of_basic_blocks() -> None:
    shapes = {
        "resnet.encoder.stages.0.layers.1.layer.0.convolution.weight": (4, 4, 3, 3),
        "resnet.encoder.stages.0.layers.1.layer.0.normalization.running_var": (4,),
    }
    resolution = packs.load("resnet-basic-flax").resolve(shapes)
    assert resolution.targets == (
        "resnet/encoder/stages/0/layers/1/layer/layer_0/convolution/kernel",
        "batch_stats/resnet/encoder/stages/0/layers/1/layer/layer_0/normalization/var",
    )


def test_it_finds_no_pack_for_another_model() -> None:
    assert (
        packs.find({"a.weight": (2, 3)}, {"a/kernel": (3, 2)}, Dialect.TORCH, Dialect.FLAX) is None
    )


def test_it_names_the_packs_it_knows() -> None:
    with pytest.raises(UsageError, match="unknown pack 'gpt9'; known are bert-flax, bert-tf, gpt2"):
        packs.load("gpt9")
