"""torch's schedulers with arguments, as test cases; their real traces; live objects of nodes."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

from portackpt.tree import Object

STEPS = 64
GROUPS = (0, 1)
RATES = (0.1, 0.2)


def optimizer(kind: str = "SGD") -> Any:
    """Two parameter groups with rates of their own."""
    import torch

    first, second = (torch.nn.Parameter(torch.zeros(2)) for _ in GROUPS)
    groups = [{"params": [first], "lr": RATES[0]}, {"params": [second], "lr": RATES[1]}]
    if kind == "Adam":
        return torch.optim.Adam(groups, betas=(0.9, 0.99))
    return torch.optim.SGD(groups, lr=RATES[0], momentum=0.9)


def cases() -> dict[str, Callable[[Any], Any]]:
    """A scheduler of each class, and nested ones, as functions of the optimizer."""
    from torch.optim import lr_scheduler as s

    def cyclic(mode: Any, **more: Any) -> Callable[[Any], Any]:
        return lambda o: s.CyclicLR(
            o, [0.1, 0.2], 0.5, step_size_up=5, step_size_down=7, mode=mode, gamma=0.95, **more
        )

    return {
        "constant": lambda o: s.ConstantLR(o, 0.25, 10),
        "constant_for_ever": lambda o: s.ConstantLR(o, 0.25, 0),
        "linear": lambda o: s.LinearLR(o, 0.125, 0.75, 10),
        "exponential": lambda o: s.ExponentialLR(o, 0.875),
        "exponential_slow": lambda o: s.ExponentialLR(o, 0.9997),
        "step": lambda o: s.StepLR(o, 7, 0.5),
        "step_slow": lambda o: s.StepLR(o, 1, 0.99),
        "multistep": lambda o: s.MultiStepLR(o, [5, 11, 30], 0.5),
        "multistep_repeated": lambda o: s.MultiStepLR(o, [5, 5, 0, 30], 0.1),
        "polynomial": lambda o: s.PolynomialLR(o, 20, 2),
        "polynomial_root": lambda o: s.PolynomialLR(o, 50, 0.9),
        "cosine": lambda o: s.CosineAnnealingLR(o, 40, 0.05),
        "cosine_again_and_again": lambda o: s.CosineAnnealingLR(o, 10),
        "restarts": lambda o: s.CosineAnnealingWarmRestarts(o, 5),
        "restarts_longer": lambda o: s.CosineAnnealingWarmRestarts(o, 5, 2, 0.01),
        "onecycle": lambda o: s.OneCycleLR(o, [0.1, 0.3], total_steps=STEPS),
        "onecycle_three_phases": lambda o: s.OneCycleLR(
            o, 0.1, total_steps=STEPS, pct_start=0.33, three_phase=True, anneal_strategy="linear"
        ),
        "onecycle_only_down": lambda o: s.OneCycleLR(
            o, 0.1, total_steps=STEPS, pct_start=0.0, cycle_momentum=False
        ),
        "cyclic_triangular": cyclic("triangular"),
        "cyclic_triangular2": cyclic("triangular2", cycle_momentum=False),
        "cyclic_exp_range": cyclic("exp_range"),
        "sequential": lambda o: s.SequentialLR(
            o, [s.LinearLR(o, 0.1, 1.0, 5), s.CosineAnnealingLR(o, 59, 0.001)], [5]
        ),
        "sequential_of_three": lambda o: s.SequentialLR(
            o,
            [
                s.ConstantLR(o, 0.1, 3),
                s.CosineAnnealingWarmRestarts(o, 5, 2),
                s.ExponentialLR(o, 0.9),
            ],
            [4, 30],
        ),
        "sequential_of_cycles": lambda o: s.SequentialLR(
            o, [s.LinearLR(o, 0.5, 1.0, 4), s.OneCycleLR(o, 0.1, total_steps=60)], [4]
        ),
        "sequential_in_sequential": lambda o: s.SequentialLR(
            o,
            [
                s.SequentialLR(o, [s.LinearLR(o, 0.1, 1, 5), s.ExponentialLR(o, 0.9)], [6]),
                s.CosineAnnealingLR(o, 50),
            ],
            [12],
        ),
        "chained": lambda o: s.ChainedScheduler([s.ConstantLR(o, 0.25, 4), s.StepLR(o, 6, 0.875)]),
        "chained_with_floor": lambda o: s.ChainedScheduler(
            [s.LinearLR(o, 0.25, 1, 10), s.CosineAnnealingLR(o, 20, 0.01)]
        ),
        "chained_after_restarts": lambda o: s.ChainedScheduler(
            [s.CosineAnnealingWarmRestarts(o, 7), s.ExponentialLR(o, 0.9)]
        ),
        "chained_in_sequential": lambda o: s.SequentialLR(
            o,
            [
                s.ChainedScheduler([s.LinearLR(o, 0.1, 1, 5), s.ExponentialLR(o, 0.9)]),
                s.CosineAnnealingLR(o, 50),
            ],
            [12],
        ),
        "sequential_in_chained": lambda o: s.ChainedScheduler(
            [
                s.SequentialLR(o, [s.LinearLR(o, 0.1, 1, 5), s.ExponentialLR(o, 0.9)], [6]),
                s.CosineAnnealingLR(o, 50, 0.01),
            ]
        ),
    }


NAMES = (
    "constant", "constant_for_ever", "linear", "exponential", "exponential_slow", "step",
    "step_slow", "multistep", "multistep_repeated", "polynomial", "polynomial_root", "cosine",
    "cosine_again_and_again", "restarts", "restarts_longer", "onecycle", "onecycle_three_phases",
    "onecycle_only_down", "cyclic_triangular", "cyclic_triangular2", "cyclic_exp_range",
    "sequential", "sequential_of_three", "sequential_of_cycles", "sequential_in_sequential",
    "chained", "chained_with_floor", "chained_after_restarts", "chained_in_sequential",
    "sequential_in_chained",
)  # fmt: skip
QUIRKS = {"chained_in_sequential", "sequential_of_cycles"}
"""Their first part runs a constant factor off its formula, in torch itself: a chain is stepped once
more at the start, and OneCycleLR's constructor changes the rate that the part starts from."""


def build(name: str, kind: str = "SGD") -> tuple[Any, Any]:
    """An optimizer and the scheduler of the case."""
    made = optimizer(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nested constructors step before the optimizer did
        return made, cases()[name](made)


def tick(made: Any, scheduler: Any) -> None:
    made.step()
    scheduler.step()


def run_to(name: str, count: int, kind: str = "SGD") -> tuple[Any, Any]:
    """The case after `count` ticks."""
    made, scheduler = build(name, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(count):
            tick(made, scheduler)
    return made, scheduler


def rates(made: Any) -> list[float]:
    return [float(group["lr"]) for group in made.param_groups]


def momenta(made: Any) -> list[float]:
    return [g["momentum"] if "momentum" in g else g["betas"][0] for g in made.param_groups]


def trace(name: str, steps: int = STEPS) -> list[list[float]]:
    """The rates of both groups for updates 0, 1, …"""
    made, scheduler = build(name)
    found = [rates(made)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(steps - 1):
            tick(made, scheduler)
            found.append(rates(made))
    return found


def live(node: Any) -> Any:
    """A node as the object torch loads."""
    if isinstance(node, Object):
        assert node.type == "collections.Counter"
        return Counter(node.entries)
    if isinstance(node, dict):
        return {key: live(value) for key, value in node.items()}
    return [live(item) for item in node] if isinstance(node, list) else node
