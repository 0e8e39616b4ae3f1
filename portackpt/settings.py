"""Settings (`--set NAME=VALUE`): what a checkpoint leaves open, and its user knows."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from portackpt.errors import UsageError
from portackpt.optimizers import Decay, Epsilon

NATIVE = "native"
"""The value of `optimizer` that carries its state as it stands, without a meaning."""
SETTINGS = {
    "optimizer": f"the algorithm, such as adamw; {NATIVE}: carry its state as it stands",
    "parameters": "a file of the parameters' names, in the optimizer's order, one a line",
}
_NUMBERS = [
    "lr",
    "weight_decay",
    "momentum",
    "dampening",
    "beta1",
    "beta2",
    "eps",
    "eps_inside",
    "momentum_decay",
    "threshold",
    "rho",
    "lr_decay",
    "initial_accumulator",
    "beta2_decay",
    "eps1",
    "eps2",
    "clip_threshold",
    "ns_steps",
    "eta_minus",
    "eta_plus",
    "step_min",
    "step_max",
    "lambd",
    "alpha",
    "t0",
    "lr_power",
    "l1",
    "l2",
    "history_size",
    "max_iter",
    "warmup_steps",
    "min_dim_size_to_factor",
]
_FLAGS = [
    "maximize",
    "nesterov",
    "centered",
    "lr_in_momentum",
    "decay_first",
    "decay_in_ratio",
    "relative_step",
    "threshold_inclusive",
]
_WORDS = ["amsgrad", "momentum_form", "ns_dtype", "lr_scale", "factored_axes", "eps1_form"]
_ENUMERATIONS: Mapping[str, type[StrEnum]] = {"decay": Decay, "eps_form": Epsilon}
HYPERPARAMETERS = frozenset((*_NUMBERS, *_FLAGS, *_WORDS, *_ENUMERATIONS))
"""Canonical names that may be set."""


def hyperparameters(settings: Mapping[str, str]) -> dict[str, Any]:
    """Those of `settings` that are hyperparameters, as values. Raises `UsageError`."""
    return {name: _value(name, text) for name, text in settings.items() if name in HYPERPARAMETERS}


def _value(name: str, text: str) -> Any:
    if text.lower() == "none" and name not in _FLAGS and name not in _ENUMERATIONS:
        return None
    if name in _ENUMERATIONS:
        kinds = _ENUMERATIONS[name]
        if text in list(kinds):
            return kinds(text)
        raise UsageError(f"{name} has to be one of {', '.join(kinds)}, found {text!r}")
    if name in _FLAGS:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise UsageError(f"{name} has to be true or false, found {text!r}")
    if name in _WORDS:
        return text
    try:
        number = float(text)
    except ValueError:
        raise UsageError(f"{name} has to be a number, found {text!r}") from None
    return int(text) if text.lstrip("+-").isdigit() else number
