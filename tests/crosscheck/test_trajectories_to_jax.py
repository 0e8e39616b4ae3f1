"""Runs that move to JAX go on as if they had not: the parameters after 13 more steps."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import portackpt
from portackpt.errors import AmbiguousError, UsageError
from portackpt.ledger import Fate, Ledger

pytest.importorskip("optax")
BEFORE, AFTER = 7, 13
EXACT = 1e-10
KEPT = (Fate.EXACT, Fate.RELAYOUT, Fate.EQUIVALENT)
FROM_TORCH = (
    "sgd", "sgd l2", "sgd momentum", "sgd nesterov", "sgd dampening", "sgd momentum l2",
    "sgd maximize", "adam", "adamw", "adam l2", "amsgrad", "adamax", "nadam", "radam", "rmsprop",
    "rmsprop momentum", "rmsprop centered", "adagrad", "adagrad lr_decay", "adadelta",
    "adadelta l2", "lion", "lion decay", "rprop", "adamw groups", "sgd groups",
)  # fmt: skip
SCHEDULED = ("sgd momentum", "adamw groups")
SCHEDULES = (
    "constant", "linear", "exponential", "step", "multistep", "polynomial", "cosine",
    "cosine again", "restarts", "onecycle", "onecycle momentum", "cyclic", "warmup cosine",
    "chained",
)  # fmt: skip
FROM_KERAS = ("adagrad", "adadelta", "lion", "lamb")
UNCOUNTED = ("sgd", "sgd momentum", "lion")
"""Optimizers of torch that keep no count of updates."""
Arrays = dict[str, np.ndarray[Any, Any]]


def side(name: str) -> Any:
    pytest.importorskip({"jax": "optax", "keras": "keras"}.get(name, "torch"))
    return importlib.import_module(f"crosscheck.sides.{name}").Side()


def start() -> Arrays:
    random = np.random.default_rng(0)
    return {"weight": random.normal(size=(4, 3)), "bias": random.normal(size=3)}


def gradients() -> list[Arrays]:
    random = np.random.default_rng(1)
    return [
        {name: random.normal(size=array.shape) * 1e-2 for name, array in start().items()}
        for _ in range(BEFORE + AFTER)
    ]


def begun(source: Any, spec: str, schedule: str | None = None) -> Any:
    """A run after its first steps."""
    run = source.start(spec, start(), schedule)
    for gradient in gradients()[:BEFORE]:
        source.step(run, gradient)
    return run


def departure(source: Any, stays: Any, target: Any, goes: Any) -> float:
    """How far two runs come apart, relative to the way that they go."""
    then = source.params(stays)
    for gradient in gradients()[BEFORE:]:
        source.step(stays, gradient)
        target.step(goes, gradient)
    one, other = source.params(stays), target.params(goes)
    way = max(np.abs(one[name] - then[name]).max() for name in one)
    return max(np.abs(one[name] - other[name]).max() for name in one) / way


def moved(
    source: Any, spec: str, schedule: str | None, path: Path, to: str = "orbax"
) -> tuple[float, Ledger]:
    """How far the run that moved comes from the one that did not, and the ledger of its move."""
    target = side("jax")
    stays = begun(source, spec, schedule)
    saved = source.save(stays, path / "before")
    settings = source.settings(spec, schedule)
    ledger = portackpt.convert(saved, path / "after", to=to, settings=settings)
    goes = target.resume(ledger.resume, path / "after")
    return departure(source, stays, target, goes), ledger


@pytest.mark.parametrize("spec", FROM_TORCH)
def test_it_goes_on_from_torch(spec: str, tmp_path: Path) -> None:
    difference, ledger = moved(side("pytorch"), spec, None, tmp_path)
    assert difference <= EXACT
    assert ledger.verdict in KEPT


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("spec", SCHEDULED)
def test_it_goes_on_with_a_schedule_of_torch(spec: str, schedule: str, tmp_path: Path) -> None:
    difference, ledger = moved(side("pytorch"), spec, schedule, tmp_path)
    assert difference <= EXACT
    assert ledger.verdict in KEPT


@pytest.mark.parametrize("spec", FROM_KERAS)
def test_it_goes_on_from_keras(spec: str, tmp_path: Path) -> None:
    difference, ledger = moved(side("keras"), spec, None, tmp_path)
    assert difference <= EXACT
    assert ledger.verdict in KEPT


@pytest.mark.parametrize("spec", ["sgd momentum", "adamw", "adamw groups"])
def test_it_goes_on_from_a_file_of_flax(spec: str, tmp_path: Path) -> None:
    difference, ledger = moved(side("pytorch"), spec, "cosine", tmp_path, "flax-msgpack")
    assert difference <= EXACT
    assert ledger.verdict in KEPT


@pytest.mark.parametrize("spec", ["adam", "adamw", "sgd momentum", "amsgrad", "adagrad"])
def test_it_comes_back_with_the_same_bits(spec: str, tmp_path: Path) -> None:
    torch, source = pytest.importorskip("torch"), side("pytorch")
    saved = source.save(begun(source, spec), tmp_path / "before")
    there = portackpt.convert(saved, tmp_path / "there", to="orbax")
    options = torch.load(saved, weights_only=True)["optimizer"]["param_groups"][0]
    words = {"lr": options["lr"], "eps": options.get("eps"), "momentum": options.get("momentum"),
             "weight_decay": options.get("weight_decay"), "optimizer": spec}  # fmt: skip
    settings = {name: repr(value) for name, value in words.items() if value is not None}
    settings["optimizer"] = {"amsgrad": "adam", "sgd momentum": "sgd"}.get(spec, spec)
    if "betas" in options:
        settings |= {"beta1": repr(options["betas"][0]), "beta2": repr(options["betas"][1])}
    more = {"adagrad": {"eps_form": "outside"}, "amsgrad": {"amsgrad": "uncorrected"}}
    settings |= more.get(spec, {})
    back = tmp_path / "back.pt"
    portackpt.convert(tmp_path / "there", back, settings=settings)
    assert there.verdict in KEPT
    one, other = (torch.load(path, weights_only=True) for path in (saved, back))
    for name, tensor in one["model"].items():
        assert torch.equal(tensor, other["model"][name])
    for index, state in one["optimizer"]["state"].items():
        for slot, tensor in state.items():
            assert torch.equal(tensor, other["optimizer"]["state"][index][slot]), slot


@pytest.mark.parametrize("spec", ["sgd", "sgd momentum", "adam", "adamw", "adagrad", "lion"])
def test_it_goes_on_in_the_places_of_a_template(spec: str, tmp_path: Path) -> None:
    source, target = side("keras" if spec == "adagrad" else "pytorch"), side("jax")
    stays = begun(source, spec)
    saved = source.save(stays, tmp_path / "before")
    like = target.save(target.start(spec, start()), tmp_path / "like")
    settings = {**target.settings(spec), **source.settings(spec)}
    ledger = portackpt.convert(saved, tmp_path / "after", to="orbax", like=like, settings=settings)
    goes = _restored(target.start(spec, start()), tmp_path / "after")
    namespace: dict[str, Any] = {}
    exec(compile(ledger.resume, "resume", "exec"), namespace)
    goes.tx = namespace["tx"]
    assert goes.step == (0 if spec in UNCOUNTED else BEFORE)
    assert departure(source, stays, target, goes) <= EXACT
    assert ledger.verdict in KEPT


def _restored(run: Any, path: Path) -> Any:
    """A run restored by Orbax with its own state as the target."""
    import jax
    import orbax.checkpoint as ocp

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        like = {"params": run.params, "opt_state": run.opt_state, "step": run.step}
        found = ocp.StandardCheckpointer().restore(path.absolute(), like)
    finally:
        jax.config.update("jax_enable_x64", before)
    run.params, run.opt_state, run.step = found["params"], found["opt_state"], int(found["step"])
    return run


def test_it_restores_into_the_state_of_the_same_chain(tmp_path: Path) -> None:
    source, target = side("pytorch"), side("jax")
    saved = source.save(begun(source, "adamw"), tmp_path / "before")
    portackpt.convert(saved, tmp_path / "after", to="orbax")
    run = _restored(target.start("adamw", start()), tmp_path / "after")
    assert int(run.opt_state[0].count) == BEFORE
    assert run.step == BEFORE


def test_it_restores_by_the_bytes_of_flax(tmp_path: Path) -> None:
    serialization = pytest.importorskip("flax.serialization")
    source, target = side("pytorch"), side("jax")
    saved = source.save(begun(source, "adamw"), tmp_path / "before")
    portackpt.convert(saved, tmp_path / "after.msgpack")
    run = target.start("adamw", start())
    like = {"params": run.params, "opt_state": run.opt_state, "step": 0}
    found = serialization.from_bytes(like, (tmp_path / "after.msgpack").read_bytes())
    assert type(found["opt_state"][0]).__name__ == "ScaleByAdamState"
    assert int(found["opt_state"][0].count) == BEFORE


def test_it_says_that_a_template_has_another_optimizer(tmp_path: Path) -> None:
    source, target = side("pytorch"), side("jax")
    saved = source.save(begun(source, "adamw"), tmp_path / "before")
    like = target.save(target.start("sgd momentum", start()), tmp_path / "like")
    with pytest.raises(UsageError) as caught:
        portackpt.convert(saved, tmp_path / "after", to="orbax", like=like)
    assert "the template's optimizer is sgd, the source's adam" in str(caught.value)


def test_it_asks_for_what_tensorflow_does_not_keep(tmp_path: Path) -> None:
    source = side("keras")
    saved = source.save(begun(source, "adamw"), tmp_path / "before")
    with pytest.raises(AmbiguousError) as caught:
        portackpt.convert(saved, tmp_path / "after", to="orbax", settings={"optimizer": "adamw"})
    assert "--set lr=VALUE" in str(caught.value)
