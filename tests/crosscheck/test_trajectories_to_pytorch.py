"""Runs that move to PyTorch go on as if they had not: the parameters after 13 more steps."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import portackpt
from portackpt.errors import AmbiguousError
from portackpt.ledger import Fate, Ledger

pytest.importorskip("torch")
BEFORE, AFTER = 7, 13
EXACT = 1e-10
FROM_JAX = (
    "sgd", "sgd momentum", "sgd nesterov", "sgd momentum l2", "adam", "adamw", "adam l2",
    "amsgrad", "nadam", "radam", "rmsprop", "rmsprop outside", "rmsprop momentum",
    "rmsprop centered", "adagrad", "adadelta", "lion decay",
)  # fmt: skip
FROM_KERAS = ("adadelta", "lion", "lamb", "ftrl")


def side(name: str) -> Any:
    pytest.importorskip({"jax": "optax", "keras": "keras"}.get(name, "torch"))
    return importlib.import_module(f"crosscheck.sides.{name}").Side()


def moved(
    source: Any, spec: str, schedule: str | None, path: Path, **more: str
) -> tuple[float, Ledger]:
    """How far the run that moved is from the one that did not, and the ledger of its move."""
    target = side("pytorch")
    random = np.random.default_rng(0)
    start = {"weight": random.normal(size=(4, 3)), "bias": random.normal(size=3)}
    gradients = [
        {name: random.normal(size=array.shape) * 1e-2 for name, array in start.items()}
        for _ in range(BEFORE + AFTER)
    ]
    stays = source.start(spec, start, schedule)
    for gradient in gradients[:BEFORE]:
        source.step(stays, gradient)
    saved = source.save(stays, path / "before")
    settings = {**source.settings(spec, schedule), **more}
    ledger = portackpt.convert(saved, path / "after.pt", settings=settings)
    goes = target.resume(ledger.resume, path / "after.pt")
    then = source.params(stays)
    for gradient in gradients[BEFORE:]:
        source.step(stays, gradient)
        target.step(goes, gradient)
    one, other = source.params(stays), target.params(goes)
    way = max(np.abs(one[name] - then[name]).max() for name in one)
    return max(np.abs(one[name] - other[name]).max() for name in one) / way, ledger


@pytest.mark.parametrize("spec", FROM_JAX)
def test_it_goes_on_from_optax(spec: str, tmp_path: Path) -> None:
    difference, ledger = moved(side("jax"), spec, None, tmp_path)
    assert difference <= EXACT
    assert ledger.verdict is Fate.EQUIVALENT


@pytest.mark.parametrize("spec", FROM_KERAS)
def test_it_goes_on_from_keras(spec: str, tmp_path: Path) -> None:
    difference, ledger = moved(side("keras"), spec, None, tmp_path)
    assert difference <= EXACT
    assert ledger.verdict is Fate.EQUIVALENT


def test_it_says_that_a_schedule_of_optax_is_not_in_the_file(tmp_path: Path) -> None:
    _, ledger = moved(side("jax"), "adamw", "cosine", tmp_path)
    assert ledger.verdict is Fate.APPROXIMATE
    (rate,) = [e for e in ledger.entries if e.target == "optimizer/param_groups/0/lr"]
    assert rate.consequence == "the learning rate stays as it is"


def test_it_asks_for_what_optax_does_not_keep(tmp_path: Path) -> None:
    source = side("jax")
    run = source.start("adamw", {"weight": np.zeros((4, 3)), "bias": np.zeros(3)})
    saved = source.save(run, tmp_path / "before")
    with pytest.raises(AmbiguousError) as caught:
        portackpt.convert(saved, tmp_path / "after.pt", settings={"optimizer": "adamw"})
    assert "--set lr=VALUE" in str(caught.value)
