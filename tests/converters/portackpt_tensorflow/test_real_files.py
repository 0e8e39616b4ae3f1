"""Real and hostile files: each is read whole, or refused for a reason that a user can act on."""

from pathlib import Path

import pytest

from portackpt.errors import DamagedError, PortackptError, UnsupportedError
from portackpt.plugins import Probe
from portackpt.tree import tensors
from portackpt_tensorflow.tensorbundle import FORMAT

DATA = Path(__file__).parents[3] / "../shared/data"
BUNDLES = DATA / "real/tf-bundle"
pytestmark = pytest.mark.skipif(not BUNDLES.is_dir(), reason="the real files are not here")


def count(path: Path) -> int:
    """How many tensors there are; every byte of them is read."""
    assert FORMAT.recognize(Probe(path))
    return len([tensor.read() for _, tensor in tensors(FORMAT.open(path).tree)])


def test_it_reads_every_real_bundle_or_says_what_is_missing() -> None:
    missing = []
    found = sorted(BUNDLES.rglob("*.index"))
    for index in found:
        try:
            assert count(index.with_suffix("")) == count(index)
        except DamagedError as error:
            assert "this data shard is missing" in str(error)
            missing.append(index.parent.name)
    assert len(found) == 76
    assert missing == ["td3", "td3", "td3", "resnet50"]


@pytest.mark.parametrize(
    ("path", "tensors"),
    [
        ("tf-bundle/tfx_trainer/current/Format-Serving", 60),
        ("tf-bundle/tfx_trainer/keras/Format-Serving", 27),
        ("tf-bundle/davidecigi_models/comp", 21),
        ("tf-bundle/davidecigi_models/GP_phi", 13),
        ("tf-bundle/sonnet_conformance/mean_2x2", 3),
        ("tf-bundle/serving_testdata/tf_text_regression/01", 0),
        ("tf-bundle/serving_testdata/bad_half_plus_two/00000123", 2),
        ("tf-bundle/tf2onnx_models/regression/checkpoint", 2),
        ("tf-v1/magenta_rl_tuner/model.ckpt-1994", 9),
    ],
)
def test_it_reads(path: str, tensors: int) -> None:
    assert count(DATA / "real" / path) == tensors


def test_it_says_why_it_cannot_read() -> None:
    with pytest.raises(DamagedError, match="this data shard is missing"):
        count(DATA / "real/t5x/t5x_testdata/mtf_tiny_t5")
    with pytest.raises(UnsupportedError, match="a program only"):
        count(BUNDLES / "tf2onnx_models/saved_model_with_redundant_inputs")


def test_it_leaves_the_files_of_others_alone() -> None:
    for folder in (DATA / "real").iterdir():
        if folder.name not in ("tf-bundle", "tf-v1", "t5x"):
            claimed = [path for path in folder.rglob("*") if FORMAT.recognize(Probe(path))]
            assert not claimed


def test_it_survives_every_hostile_file() -> None:
    for path in (DATA / "hostile").rglob("*"):
        try:
            if FORMAT.recognize(Probe(path)):
                count(path)
        except PortackptError:
            continue
