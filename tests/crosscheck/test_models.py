"""A run of a real model moves between frameworks, and its losses go on as if it had stayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("orbax.checkpoint")
pytest.importorskip("flax")

from crosscheck.models import flax, pytorch  # noqa: E402

import portackpt  # noqa: E402
from portackpt.errors import AmbiguousError  # noqa: E402
from portackpt.ledger import Fate  # noqa: E402

BEFORE, AFTER = 3, 4
EXACT = ("exact", "relayout", "equivalent")
# by hand, as `portackpt map` proposes it and leaves it to be checked
CNN = """
source = "torch"
target = "flax"
[layers]
"conv" = { to = "conv", kind = "conv2d" }
"bn" = { to = "bn", kind = "batch_norm" }
"up" = { to = "up", kind = "conv_transpose" }
"head" = { to = "head", kind = "flatten_linear", shape = [3, 5, 5] }
"""
RECURRENT = """
source = "torch"
target = "flax"
[layers]
"rnn.*_l0" = { to = "cell", kind = "%s" }
"head" = { to = "head", kind = "linear" }
"""


def batch(model: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(7)
    if model == "mlp":
        return rng.normal(size=(7, 6)), rng.normal(size=(7, 4))
    if model == "cnn":
        return rng.normal(size=(3, 2, 5, 5)), rng.normal(size=(3, 4))
    if model == "transformer":
        return rng.integers(0, 11, size=(3, 5)), rng.normal(size=(3, 5, 11))
    return rng.normal(size=(3, 4, 6)), rng.normal(size=(3, 4))


def go_on(stayed: Any, moved: Any, model: str) -> float:
    """The largest relative difference of the losses to come."""
    x, y = batch(model)
    pairs = [(stayed.step(x, y), moved.step(x, y)) for _ in range(AFTER)]
    return max(abs(a - b) / abs(a) for a, b in pairs)


def mapping(model: str, place: Path) -> Path | None:
    texts = {"cnn": CNN, "lstm": RECURRENT % "lstm", "gru": RECURRENT % "gru"}
    if model not in texts:
        return None
    path = place / "map.toml"
    path.write_text(texts[model])
    return path


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("model", ["mlp", "cnn", "transformer"])
def test_it_goes_on_in_flax_what_pytorch_began(model: str, optimizer: str, tmp_path: Path) -> None:
    x, y = batch(model)
    stayed = pytorch.Program(model, optimizer)
    for _ in range(BEFORE):
        stayed.step(x, y)
    source = stayed.save(tmp_path / "run.pt")
    moved = flax.Program(model, optimizer, x)
    init = moved.save(tmp_path / "init")
    ledger = portackpt.convert(
        source, tmp_path / "moved", to="orbax", like=init, map=mapping(model, tmp_path)
    )
    # of a batch norm, float32 there, with another estimate of the variance: training uses neither
    assert ledger.verdict in EXACT or model == "cnn"
    doubtful = [entry for entry in ledger.entries if entry.weight is Fate.APPROXIMATE]
    assert [e for e in doubtful if "running_" not in str(e.source)] == []
    moved.restore(tmp_path / "moved")
    assert moved.count == (BEFORE if optimizer == "adamw" else 0)  # torch's SGD keeps no count
    assert go_on(stayed, moved, model) < 1e-10


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("model", ["mlp", "cnn", "transformer"])
def test_it_goes_on_in_pytorch_what_flax_began(model: str, optimizer: str, tmp_path: Path) -> None:
    x, y = batch(model)
    stayed = flax.Program(model, optimizer, x)
    for _ in range(BEFORE):
        stayed.step(x, y)
    source = stayed.save(tmp_path / "run")
    moved = pytorch.Program(model, optimizer)
    init = moved.save(tmp_path / "init.pt")
    rules = mapping(model, tmp_path)
    if rules is not None:
        from portackpt.matching import files

        rules.write_text(files.spell(files.read(rules).inverse()))
    portackpt.convert(
        source, tmp_path / "moved.pt", like=init, map=rules, settings=flax.SETTINGS[optimizer]
    )
    moved.restore(tmp_path / "moved.pt")
    assert go_on(stayed, moved, model) < 1e-10


@pytest.mark.parametrize("model", ["lstm", "gru"])
def test_it_gives_summed_biases_a_rate_of_their_own(model: str, tmp_path: Path) -> None:
    x, y = batch(model)
    stayed = pytorch.Program(model, "adamw")
    for _ in range(BEFORE):
        stayed.step(x, y)
    source = stayed.save(tmp_path / "run.pt")
    moved = flax.Program(model, "adamw", x)
    rules = mapping(model, tmp_path)
    ledger = portackpt.convert(source, tmp_path / "moved", to="orbax", map=rules)
    assert ledger.verdict == "equivalent"
    names: dict[str, Any] = {}
    exec(ledger.resume, names)
    moved.params, moved.tx, moved.opt_state = names["params"], names["tx"], names["opt_state"]
    assert go_on(stayed, moved, model) < 1e-10


def test_it_says_what_a_template_keeps_from_going_on(tmp_path: Path) -> None:
    run = pytorch.Program("lstm", "adamw")
    x, y = batch("lstm")
    run.step(x, y)
    init = flax.Program("lstm", "adamw", x).save(tmp_path / "init")
    source = run.save(tmp_path / "run.pt")
    ledger = portackpt.convert(source, tmp_path / "moved", to="orbax", like=init)
    assert ledger.verdict == "approximate"
    told = {e.consequence for e in ledger.entries if e.fate is Fate.APPROXIMATE}
    assert any("half as fast" in text for text in told)


def test_it_asks_for_a_mapping_where_it_would_have_to_guess(tmp_path: Path) -> None:
    run = pytorch.Program("cnn", "sgd")
    x, _ = batch("cnn")
    init = flax.Program("cnn", "sgd", x).save(tmp_path / "init")
    with pytest.raises(AmbiguousError, match="write a mapping with portackpt map SRC LIKE"):
        portackpt.convert(run.save(tmp_path / "a.pt"), tmp_path / "b", to="orbax", like=init)
    assert not (tmp_path / "b").exists()
