"""PyTorch as one side of a move: runs of torch.optim on two parameters, saved with torch.save."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim import lr_scheduler

LR = 2.0**-5
BETAS = (0.875, 0.96875)
EPS = 2.0**-27
Named = list[tuple[str, Any]]


class Lion(torch.optim.Optimizer):
    """The rule of lion-pytorch, with its options and its slot."""

    def __init__(self, params: Any, lr: float, betas: Any, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["exp_avg"] = torch.zeros_like(p)
                average = state["exp_avg"]
                p.mul_(1 - lr * group["weight_decay"])
                p.sub_(lr * torch.sign(beta1 * average + (1 - beta1) * p.grad))
                average.mul_(beta2).add_(p.grad, alpha=1 - beta2)


def _one(kind: str, **options: Any) -> Callable[[Named], list[Any]]:
    return lambda named: [getattr(torch.optim, kind)(named, **options)]


def _adam(kind: str = "Adam", **options: Any) -> Callable[[Named], list[Any]]:
    return _one(kind, **{"lr": LR, "betas": BETAS, "eps": EPS, **options})


def _muon(**options: Any) -> Callable[[Named], list[Any]]:
    """Muon for matrices, AdamW for the rest."""
    return lambda named: [
        torch.optim.Muon(
            [(n, p) for n, p in named if p.ndim == 2], lr=LR, weight_decay=0.125, momentum=0.875,
            **options,
        ),
        torch.optim.AdamW(
            [(n, p) for n, p in named if p.ndim != 2], lr=LR, betas=BETAS, eps=EPS,
            weight_decay=0.0,
        ),
    ]  # fmt: skip


def _groups(kind: str, first: Mapping[str, Any], second: Mapping[str, Any], **both: Any) -> Any:
    return lambda named: [
        getattr(torch.optim, kind)(
            [{"params": named[:1], **first}, {"params": named[1:], **second}], **both
        )
    ]


SPECS: dict[str, Callable[[Named], list[Any]]] = {
    "sgd": _one("SGD", lr=LR),
    "sgd l2": _one("SGD", lr=LR, weight_decay=0.125),
    "sgd momentum": _one("SGD", lr=LR, momentum=0.875),
    "sgd nesterov": _one("SGD", lr=LR, momentum=0.875, nesterov=True),
    "sgd dampening": _one("SGD", lr=LR, momentum=0.875, dampening=0.25),
    "sgd momentum l2": _one("SGD", lr=LR, momentum=0.875, weight_decay=0.125),
    "sgd maximize": _one("SGD", lr=LR, momentum=0.875, maximize=True),
    "adam": _adam(),
    "adamw": _adam("AdamW", weight_decay=0.125),
    "adam l2": _adam(weight_decay=0.125),
    "amsgrad": _adam(amsgrad=True),
    "adamax": _adam("Adamax"),
    "nadam": _adam("NAdam"),
    "radam": _adam("RAdam"),
    "rmsprop": _one("RMSprop", lr=LR / 8, alpha=0.875, eps=EPS),
    "rmsprop momentum": _one("RMSprop", lr=LR / 8, alpha=0.875, eps=EPS, momentum=0.75),
    "rmsprop centered": _one("RMSprop", lr=LR / 8, alpha=0.875, eps=EPS, centered=True),
    "adagrad": _one("Adagrad", lr=LR, eps=EPS),
    "adagrad lr_decay": _one("Adagrad", lr=LR, eps=EPS, lr_decay=0.125),
    "adadelta": _one("Adadelta", lr=1.0, rho=0.875, eps=2.0**-20),
    "adadelta l2": _one("Adadelta", lr=1.0, rho=0.875, eps=2.0**-20, weight_decay=0.125),
    "adafactor": _one("Adafactor", lr=LR, eps=(1e-15, 2.0**-10), weight_decay=0.0),
    "adafactor decay": _one("Adafactor", lr=LR, eps=(1e-15, 2.0**-10), weight_decay=0.125),
    "lion": lambda named: [Lion(named, lr=LR / 8, betas=BETAS)],
    "lion decay": lambda named: [Lion(named, lr=LR / 8, betas=BETAS, weight_decay=0.125)],
    "muon": _muon(nesterov=False, adjust_lr_fn="match_rms_adamw"),
    "muon nesterov": _muon(nesterov=True, adjust_lr_fn="match_rms_adamw"),
    "muon original": _muon(nesterov=False, adjust_lr_fn="original"),
    "rprop": _one("Rprop", lr=LR / 8),
    "lbfgs": lambda named: [
        torch.optim.LBFGS([p for _, p in named], lr=0.25, max_iter=1, history_size=4)
    ],
    "asgd": _one("ASGD", lr=LR),
    "adamw groups": _groups(
        "AdamW", {"weight_decay": 0.125}, {"weight_decay": 0.0, "lr": LR / 2}, lr=LR, betas=BETAS,
        eps=EPS,
    ),
    "sgd groups": _groups("SGD", {"momentum": 0.875}, {"momentum": 0.75, "lr": LR / 2}, lr=LR),
}  # fmt: skip
"""Optimizers by everyday name: functions of the named parameters."""

SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "constant": lambda o: lr_scheduler.ConstantLR(o, 0.25, 10),
    "linear": lambda o: lr_scheduler.LinearLR(o, 0.125, 0.75, 10),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.875),
    "step": lambda o: lr_scheduler.StepLR(o, 3, 0.5),
    "multistep": lambda o: lr_scheduler.MultiStepLR(o, [5, 9, 14], 0.5),
    "polynomial": lambda o: lr_scheduler.PolynomialLR(o, 24, 2),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 24, LR / 16),
    "cosine again": lambda o: lr_scheduler.CosineAnnealingLR(o, 9),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4, 2),
    "onecycle": lambda o: lr_scheduler.OneCycleLR(o, LR, total_steps=40, cycle_momentum=False),
    "onecycle momentum": lambda o: lr_scheduler.OneCycleLR(o, LR, total_steps=40),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, LR / 4, LR, 5, cycle_momentum=False),
    "warmup cosine": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.125, 1.0, 5), lr_scheduler.CosineAnnealingLR(o, 20)], [5]
    ),
    "chained": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.25, 4), lr_scheduler.ExponentialLR(o, 0.875)]
    ),
}
"""Schedules by name: functions of the optimizer. One tick an update."""


@dataclass(slots=True)
class Live:
    """A run: a module with the parameters, its optimizers, and the scheduler of the first."""

    model: Any
    optimizers: list[Any]
    scheduler: Any = None


def module(params: Mapping[str, Any]) -> Any:
    """A module whose parameters are these arrays (names with dots are modules inside)."""
    root = torch.nn.Module()
    for name, value in params.items():
        *path, leaf = name.split(".")
        owner = root
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, torch.nn.Module())
            owner = owner._modules[part]  # type: ignore[assignment]
        owner.register_parameter(leaf, torch.nn.Parameter(torch.from_numpy(np.array(value))))
    return root


class Side:
    """Runs of torch."""

    name = "pytorch"
    specs = SPECS
    schedules = SCHEDULES

    def start(
        self, spec: str, params: Mapping[str, np.ndarray[Any, Any]], schedule: str | None = None
    ) -> Live:
        model = module(params)
        optimizers = SPECS[spec](list(model.named_parameters()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nested constructors step before the optimizer did
            scheduler = SCHEDULES[schedule](optimizers[0]) if schedule else None
        return Live(model, optimizers, scheduler)

    def step(self, run: Live, grads: Mapping[str, np.ndarray[Any, Any]]) -> None:
        for name, parameter in run.model.named_parameters():
            grad = grads.get(name)
            parameter.grad = None if grad is None else torch.from_numpy(np.array(grad))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for optimizer in run.optimizers:
                if isinstance(optimizer, torch.optim.LBFGS):
                    optimizer.step(lambda: torch.zeros(()))
                else:
                    optimizer.step()
            if run.scheduler is not None:
                run.scheduler.step()

    def params(self, run: Live) -> dict[str, np.ndarray[Any, Any]]:
        return {n: p.detach().numpy().copy() for n, p in run.model.named_parameters()}

    def save(self, run: Live, path: Path) -> Path:
        state: dict[str, Any] = {"model": run.model.state_dict()}
        if len(run.optimizers) == 1:
            state["optimizer"] = run.optimizers[0].state_dict()
        else:
            state["optimizers"] = [optimizer.state_dict() for optimizer in run.optimizers]
        if run.scheduler is not None:
            state["lr_scheduler"] = run.scheduler.state_dict()
        target = path.with_suffix(".pt")
        torch.save(state, target)
        return target

    def settings(self, spec: str, schedule: str | None = None) -> dict[str, str]:
        return {"parameters": "weight\nbias"} if spec == "lbfgs" else {}

    def resume(
        self, code: str, path: Path, names: Iterable[str] = (), like: Live | None = None
    ) -> Live:
        """The run that `code` restores: it loads `path`, into a model that the program built."""
        stored = torch.load(path, weights_only=True)["model"]
        fresh = {
            name: np.zeros(tuple(value.shape), value.numpy().dtype)
            for name, value in stored.items()
        }
        model = like.model if like is not None else module(fresh)
        space: dict[str, Any] = {"model": model}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(code, "resume", "exec"), space)
        optimizers = space.get("optimizers") or [space["optimizer"]]
        return Live(model, list(optimizers), space.get("scheduler"))
