"""torch's SGD, Muon, Rprop and ASGD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portackpt.moved import MovedOptimizer
from portackpt.optimizers import Algorithm, Decay, Slot
from portackpt_torch.dialect import bridges
from portackpt_torch.dialect.drafts import (
    HAND,
    Builder,
    Change,
    Draft,
    Target,
    decay_of,
    has,
)
from portackpt_torch.dialect.momentum import signed, unrated


def _sgd(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    carried = has(optimizer, Slot.MOMENTUM)
    if carried:
        optimizer.need("momentum", "lr_in_momentum")
    draft = Draft(optimizer, "SGD", {Slot.MOMENTUM: ("momentum_buffer", None)},
                   {"foreach": None, "differentiable": False, "fused": None},
                   counted=False)  # fmt: skip
    for group in optimizer.groups:
        own = group.hyperparameters
        draft.add(group, momentum=own.get("momentum") or 0, dampening=own.get("dampening") or 0,
                  weight_decay=0, nesterov=bool(own.get("nesterov")))  # fmt: skip
    if any(group["momentum"] for group in draft.groups):
        draft.decay(Decay.L2)
    else:
        for options, group in zip(draft.groups, optimizer.groups, strict=True):
            options["weight_decay"] = decay_of(group)[1]  # without momentum both kinds are one
    if carried and optimizer.of("lr_in_momentum"):
        draft.slots[Slot.MOMENTUM] = ("momentum_buffer", signed if scheduled else unrated)
        if scheduled:
            draft.rule("RatedSGD", bridges.SGD, "torch's momentum is without the learning rate",
                       lr_in_momentum=True)  # fmt: skip
    return draft.done()


_COEFFICIENTS = (3.4445, -4.775, 2.0315)


def _muon(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    optimizer.need("momentum")
    draft = Draft(optimizer, "Muon", {Slot.MOMENTUM: ("momentum_buffer", None)}, {},
                   (frozenset(("momentum_buffer",)),), counted=False)  # fmt: skip
    scales = [_scale(group.hyperparameters.get("lr_scale")) for group in optimizer.groups]
    for group, scale in zip(optimizer.groups, scales, strict=True):
        own = group.hyperparameters
        heavy = own.get("momentum_form") == "heavy_ball"  # larger by 1 / (1 - momentum)
        eps = own.get("eps", 1e-7) * (1 - own["momentum"] if heavy else 1)
        one = draft.add(group, weight_decay=0, momentum=own["momentum"],
                        nesterov=bool(own.get("nesterov")),
                        ns_coefficients=tuple(own.get("ns_coefficients") or _COEFFICIENTS),
                        eps=eps, ns_steps=own.get("ns_steps", 5),
                        adjust_lr_fn=None if scale is None else "match_rms_adamw")  # fmt: skip
        one.pop("maximize")
    draft.decay(Decay.DECOUPLED)
    corrected = any(group.hyperparameters.get("nesterov") == "corrected"
                    or group.hyperparameters.get("momentum_correction")
                    for group in optimizer.groups)  # fmt: skip
    full = optimizer.of("ns_dtype") != "bfloat16"
    reasons = {
        "torch orthogonalizes in bfloat16": full,
        "torch does not correct the momentum's bias": corrected,
        "torch scales a step by 0.2 sqrt(width), or as Jordan et al.":
            any(scale not in (None, 0.2) for scale in scales),
    }  # fmt: skip
    if any(reasons.values()):
        told = "; ".join([reason for reason, holds in reasons.items() if holds])
        draft.rule("FullMuon", bridges.MUON, told, momentum_correction=corrected)
        for one, scale in zip(draft.groups, scales, strict=True):
            one["rms_rate"] = scale
    return draft.done()


def _scale(found: Any) -> float | None:
    """The factor of sqrt(max(rows, columns)); None for the scale of Jordan et al."""
    if found in (None, "original"):
        return None
    return 0.2 if found == "match_rms_adamw" else float(found)


def _rprop(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    draft = Draft(optimizer, "Rprop",
                   {Slot.PREVIOUS_SIGN: ("prev", None), Slot.STEP_SIZE: ("step_size", None)},
                   HAND, (frozenset(("prev", "step_size")),))  # fmt: skip
    optimizer.need("eta_minus", "eta_plus", "step_min", "step_max")
    for group in optimizer.groups:
        own = group.hyperparameters
        draft.add(group, etas=(own["eta_minus"], own["eta_plus"]),
                  step_sizes=(own["step_min"], own["step_max"]))  # fmt: skip
    if optimizer.of("late"):
        draft.rule("LateRprop", bridges.RPROP, "optax 0.2.8 takes each step one update late")
    return draft.done()


def _asgd(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    optimizer.need("lambd", "alpha", "t0")
    slots: dict[str, tuple[str, Change | None]] = {
        Slot.AVERAGE: ("ax", None), "eta": ("eta", None), "mu": ("mu", None)
    }  # fmt: skip
    draft = Draft(optimizer, "ASGD", slots, HAND, (frozenset(("ax", "eta", "mu")),))
    for group in optimizer.groups:
        own = group.hyperparameters
        draft.add(group, lambd=own["lambd"], alpha=own["alpha"], t0=own["t0"], weight_decay=0)
    draft.decay(Decay.L2)
    return draft.done()


BUILDERS: Mapping[Algorithm, Builder] = {
    Algorithm.SGD: _sgd,
    Algorithm.MUON: _muon,
    Algorithm.RPROP: _rprop,
    Algorithm.ASGD: _asgd,
}
