"""Runs that move to Keras go on as if they had not: the parameters after 13 more steps."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import portackpt
from portackpt.errors import AmbiguousError, UnsupportedError
from portackpt.ledger import Fate, Ledger

pytest.importorskip("keras")
pytest.importorskip("tensorflow")
BEFORE, AFTER = 7, 13
EXACT = 1e-10
FLOAT32 = 1e-6
"""Keras computes schedules, and powers of 0.96, in float32."""


def side(name: str) -> Any:
    pytest.importorskip({"jax": "optax", "keras": "keras"}.get(name, "torch"))
    return importlib.import_module(f"crosscheck.sides.{name}").Side()


def moved(
    source: Any, spec: str, schedule: str | None, path: Path, to: str = "tensorflow", **more: str
) -> tuple[float, Ledger]:
    """How far the run that moved is from the one that did not, and the ledger of its move."""
    target = side("keras")
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
    goal = path / ("after" if to == "tensorflow" else "after.weights.h5")
    ledger = portackpt.convert(saved, goal, to=to, settings=settings)
    goes = target.resume(ledger.resume, goal, start)
    then = source.params(stays)
    for gradient in gradients[BEFORE:]:
        source.step(stays, gradient)
        target.step(goes, gradient)
    one, other = source.params(stays), target.params(goes)
    way = max(np.abs(one[name] - then[name]).max() for name in one)
    return max(np.abs(one[name] - other[name]).max() for name in one) / way, ledger


FROM_TORCH = (
    "sgd", "sgd l2", "sgd momentum", "sgd nesterov", "sgd dampening", "sgd momentum l2",
    "sgd maximize", "adam", "adamw", "adam l2", "amsgrad", "adamax", "nadam", "radam", "rmsprop",
    "rmsprop momentum", "rmsprop centered", "adagrad", "adagrad lr_decay", "adadelta",
    "adadelta l2", "adafactor", "adafactor decay", "lion", "lion decay", "rprop", "adamw groups",
    "sgd groups",
)  # fmt: skip
FROM_JAX = (
    "sgd", "sgd momentum", "sgd nesterov", "sgd momentum l2", "adam", "adamw", "adam l2",
    "amsgrad", "adamax", "nadam", "radam", "rmsprop", "rmsprop outside", "rmsprop momentum",
    "rmsprop centered", "adagrad", "adadelta", "lion decay",
)  # fmt: skip
SCHEDULES = (
    "constant", "linear", "exponential", "step", "multistep", "polynomial", "cosine",
    "cosine again", "restarts", "onecycle", "onecycle momentum", "cyclic", "warmup cosine",
    "chained",
)  # fmt: skip
STOCK = ("adadelta", "adafactor")
"""Keras' own class takes the same step on the same slots."""


@pytest.mark.parametrize("spec", FROM_TORCH)
def test_it_goes_on_from_torch(spec: str, tmp_path: Path) -> None:
    difference, ledger = moved(side("pytorch"), spec, None, tmp_path)
    assert difference <= EXACT
    assert ledger.verdict is (Fate.RELAYOUT if spec in STOCK else Fate.EQUIVALENT)


@pytest.mark.parametrize("spec", FROM_JAX)
def test_it_goes_on_from_optax(spec: str, tmp_path: Path) -> None:
    difference, ledger = moved(side("jax"), spec, None, tmp_path, "keras")
    assert difference <= EXACT
    assert ledger.verdict in (Fate.EXACT, Fate.RELAYOUT, Fate.EQUIVALENT)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("spec", ["sgd momentum", "adamw groups"])
def test_it_goes_on_with_a_schedule(spec: str, schedule: str, tmp_path: Path) -> None:
    difference, ledger = moved(side("pytorch"), spec, schedule, tmp_path)
    assert difference <= FLOAT32
    assert ledger.verdict is Fate.EQUIVALENT


def test_it_averages_as_torch_does(tmp_path: Path) -> None:
    difference, ledger = moved(side("pytorch"), "asgd", None, tmp_path)
    assert difference <= FLOAT32  # torch keeps eta in float32
    assert ledger.verdict is Fate.EQUIVALENT


@pytest.mark.parametrize("spec", ["muon", "muon nesterov", "muon original"])
def test_it_says_how_far_muon_departs(spec: str, tmp_path: Path) -> None:
    difference, ledger = moved(side("pytorch"), spec, None, tmp_path)
    assert difference <= 1e-2
    assert ledger.verdict is Fate.APPROXIMATE
    assert list(ledger.changes) == ["each step departs by about 1e-2 of its length"]


def test_it_refuses_what_keras_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="Keras has no L-BFGS"):
        moved(side("pytorch"), "lbfgs", None, tmp_path)


def test_it_asks_for_what_optax_does_not_keep(tmp_path: Path) -> None:
    source = side("jax")
    run = source.start("adamw", {"weight": np.zeros((4, 3)), "bias": np.zeros(3)})
    saved = source.save(run, tmp_path / "before")
    with pytest.raises(AmbiguousError) as caught:
        portackpt.convert(saved, tmp_path / "after", to="keras", settings={"optimizer": "adamw"})
    assert "--set beta1=VALUE" in str(caught.value)
