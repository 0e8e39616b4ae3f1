"""Runs of torch, lifted and lowered again: the same state dicts, by default and in a template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import portackpt
from portackpt import dialects
from portackpt.carrying import carry
from portackpt.errors import UsageError
from portackpt.models import model_of
from portackpt.moved import Lowered, Moved, Template
from portackpt.run import Run
from portackpt.tensor import Tensor
from portackpt.tree import Node, rebuild, walk

torch = pytest.importorskip("torch")
from crosscheck.sides.pytorch import SCHEDULES, SPECS, Side  # noqa: E402

SIDE = Side()
CELLS = [
    *[(s, None) for s in SPECS if s not in ("lbfgs", "lion", "lion decay", "muon original")],
    *[("sgd momentum", schedule) for schedule in SCHEDULES],
    ("sgd groups", "cosine"), ("adamw", "onecycle momentum"), ("adamw groups", "warmup cosine"),
]  # fmt: skip


def trained(spec: str, schedule: str | None, path: Path, steps: int = 7) -> Path:
    random = np.random.default_rng(0)
    start = {"weight": random.normal(size=(4, 3)), "bias": random.normal(size=3)}
    run = SIDE.start(spec, start, schedule)
    for _ in range(steps):
        SIDE.step(run, {n: random.normal(size=a.shape) * 1e-2 for n, a in start.items()})
    return SIDE.save(run, path)


def lifted(path: Path) -> tuple[Node, Run]:
    checkpoint = portackpt.open(path)
    dialect = dialects.get("pytorch")
    assert dialect is not None
    return checkpoint.tree, dialect.lift(checkpoint, {})


def lower(path: Path, like: Path | None = None) -> Lowered:
    checkpoint = portackpt.open(path)
    _, run = lifted(path)
    carried = carry(run, model_of(checkpoint, run, str(path)), None, {})
    dialect = dialects.get("pytorch")
    assert dialect is not None
    return dialect.lower(carried.run, None if like is None else Template(*lifted(like)))


def plain(tree: Node) -> dict[str, Any]:
    """The leaves as bits, without the metadata that a module adds."""
    values = rebuild(tree, lambda path, leaf: leaf.value if isinstance(leaf, Moved) else leaf)
    return {
        path: (leaf.dtype.name, leaf.shape, leaf.read().tobytes())
        if isinstance(leaf, Tensor) else leaf
        for path, leaf in walk(values) if "_metadata" not in path
    }  # fmt: skip


@pytest.mark.parametrize(("spec", "schedule"), CELLS)
def test_it_gives_the_same_state_dicts(spec: str, schedule: str | None, tmp_path: Path) -> None:
    path = trained(spec, schedule, tmp_path / "run")
    assert plain(lower(path).tree) == plain(lifted(path)[0])


@pytest.mark.parametrize(("spec", "schedule"), CELLS)
def test_it_fills_a_template_from_before_training(
    spec: str, schedule: str | None, tmp_path: Path
) -> None:
    path = trained(spec, schedule, tmp_path / "run")
    like = trained(spec, schedule, tmp_path / "like", steps=0)
    assert plain(lower(path, like).tree) == plain(lifted(path)[0])


def test_it_counts_each_parameter_by_a_tensor_of_its_own(tmp_path: Path) -> None:
    lowered = lower(trained("adam", None, tmp_path / "run"))
    steps = [leaf.value for path, leaf in walk(lowered.tree) if path.endswith("/step")]
    assert len({id(step.layout.source) for step in steps}) == 2


def test_it_refuses_a_template_of_another_optimizer(tmp_path: Path) -> None:
    path = trained("adam", None, tmp_path / "run")
    like = trained("sgd momentum", None, tmp_path / "like", steps=0)
    with pytest.raises(UsageError, match="the template's optimizer is sgd, the source's adam"):
        lower(path, like)


def test_its_code_restores_the_run_in_a_template(tmp_path: Path) -> None:
    path = trained("adamw groups", "cosine", tmp_path / "run")
    code = lower(path, trained("adamw groups", "cosine", tmp_path / "like", steps=0)).code
    loading = f"import torch\nstate = torch.load({str(path)!r}, weights_only=True)\n"
    run = SIDE.resume(loading + code, path)
    state = torch.load(path, weights_only=True)
    assert str(run.optimizers[0].state_dict()) == str(state["optimizer"])
    assert run.scheduler.state_dict() == state["lr_scheduler"]
