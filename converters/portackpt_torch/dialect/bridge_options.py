"""Options of groups that the code of `bridges` runs, back in canonical words."""

from __future__ import annotations

from typing import Any

from portackpt.optimizers import Algorithm, Decay, Epsilon


def canonical(known: dict[str, Any], algorithm: Algorithm) -> dict[str, Any]:
    """The hyperparameters of a group, with the meaning of the options that `bridges` gave it."""
    found = dict(known)
    for option, form in (("eps_hat", Epsilon.HAT), ("eps_outside", Epsilon.OUTSIDE)):
        if option in found:
            found |= {"eps": found.pop(option), "eps_form": form}
    for option, decay in (("decoupled_decay", Decay.DECOUPLED), ("l2_decay", Decay.L2)):
        rate = found.pop(option, None)
        if rate:
            found |= {"weight_decay": rate, "decay": decay}
    if algorithm is Algorithm.RMSPROP and found.get("eps_inside"):
        found |= {"eps": found.pop("eps_inside"), "eps_form": Epsilon.INSIDE}
    if found.get("lr_in_momentum"):
        found["momentum_sign"] = 1
    if found.pop("amsgrad_corrected", False):
        found["amsgrad"] = "corrected"
    if "bound" in found:
        found["relative_step"] = found.pop("bound")
    if algorithm is Algorithm.MUON:
        found |= _muon(found)
    return found


def _muon(found: dict[str, Any]) -> dict[str, Any]:
    scale = found.get("lr_scale") or "original"
    if "rms_rate" not in found:
        return {"lr_scale": scale}
    rate = found.pop("rms_rate")
    told = {"lr_scale": "original" if rate is None else rate, "ns_dtype": "parameter"}
    if found.pop("momentum_correction", False) and found.get("nesterov"):
        told["nesterov"] = "corrected"
    return told
