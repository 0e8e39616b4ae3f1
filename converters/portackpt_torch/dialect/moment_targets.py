"""torch's Adam and its kin: optimizers with a first moment."""

from __future__ import annotations

from collections.abc import Mapping

from portackpt.moved import MovedOptimizer
from portackpt.optimizers import Algorithm, Decay, Epsilon, Slot
from portackpt_torch.dialect import bridges
from portackpt_torch.dialect.drafts import (
    BOTH,
    HAND,
    MOMENTS,
    Builder,
    Draft,
    Target,
    decay_of,
    foreign,
    forms,
    has,
)


def _adam(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    optimizer.need("beta1", "beta2", "eps")
    highest = has(optimizer, Slot.MAX_SECOND_MOMENT)
    decays = [decay_of(group) for group in optimizer.groups]
    decoupled = any(g.hyperparameters.get("decay") is Decay.DECOUPLED for g in optimizer.groups)
    draft = Draft(optimizer, "AdamW" if decoupled else "Adam",
                   {**MOMENTS, Slot.MAX_SECOND_MOMENT: ("max_exp_avg_sq", None)},
                   {**HAND, "fused": None}, BOTH)  # fmt: skip
    for group, (kind, rate) in zip(optimizer.groups, decays, strict=True):
        own = group.hyperparameters
        draft.add(group, betas=(own["beta1"], own["beta2"]), eps=own["eps"], weight_decay=rate,
                  amsgrad=bool(own.get("amsgrad", highest)),
                  decoupled_weight_decay=decoupled and kind is not Decay.L2)  # fmt: skip
    corrected = any(group.hyperparameters.get("amsgrad") == "corrected"
                    for group in optimizer.groups)  # fmt: skip
    inside = [group.hyperparameters.get("eps_inside") or 0 for group in optimizer.groups]
    hat = Epsilon.HAT in forms(optimizer)
    if corrected or any(inside):
        if hat:
            raise foreign(optimizer, "two forms of epsilon")
        reason = "torch takes the maximum of the second moment before its bias correction"
        draft.rule("RootAdam", bridges.ADAM, reason if corrected else "torch has one epsilon",
                   amsgrad_corrected=corrected)  # fmt: skip
        for one, value in zip(draft.groups, inside, strict=True):
            one["eps_inside"] = value
    elif hat:
        draft.hook("epsilon_hat", "eps_hat", [group["eps"] for group in draft.groups],
                   "torch adds epsilon after the bias correction")  # fmt: skip
    return draft.done()


def _adamax(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    optimizer.need("beta1", "beta2", "eps")
    draft = Draft(
        optimizer, "Adamax",
        {Slot.FIRST_MOMENT: ("exp_avg", None), Slot.INFINITY_NORM: ("exp_inf", None)}, HAND,
        (frozenset(("exp_avg", "exp_inf")),),
    )  # fmt: skip
    for group in optimizer.groups:
        own = group.hyperparameters
        draft.add(group, betas=(own["beta1"], own["beta2"]), eps=own["eps"], weight_decay=0)
    draft.decay(Decay.L2)
    if Epsilon.OUTSIDE in forms(optimizer):
        draft.rule("PlusAdamax", bridges.ADAMAX, "torch adds epsilon to the gradient's size")
        for one in draft.groups:
            one["eps_outside"] = one["eps"]
    return draft.done()


def _nadam(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    optimizer.need("beta1", "beta2", "eps", "momentum_decay")
    draft = Draft(optimizer, "NAdam",
                   {**MOMENTS, Slot.MOMENTUM_PRODUCT: ("mu_product", None)}, HAND,
                   BOTH)  # fmt: skip
    decoupled = any(g.hyperparameters.get("decay") is Decay.DECOUPLED for g in optimizer.groups)
    for group in optimizer.groups:
        own = group.hyperparameters
        forever = own["momentum_decay"] is None  # mu_t = beta1 from the first step on
        draft.add(group, betas=(own["beta1"], own["beta2"]), eps=own["eps"],
                  weight_decay=decay_of(group)[1],
                  momentum_decay=1e9 if forever else own["momentum_decay"],
                  decoupled_weight_decay=decoupled)  # fmt: skip
    if Epsilon.HAT in forms(optimizer):
        draft.hook("epsilon_hat", "eps_hat", [group["eps"] for group in draft.groups],
                   "torch adds epsilon after the bias correction")  # fmt: skip
    return draft.done()


def _radam(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    optimizer.need("beta1", "beta2", "eps")
    if optimizer.of("threshold", 5.0) != 5:
        raise foreign(optimizer, f"a threshold of {optimizer.of('threshold')}")
    draft = Draft(optimizer, "RAdam", dict(MOMENTS), HAND, BOTH)
    decoupled = any(g.hyperparameters.get("decay") is Decay.DECOUPLED for g in optimizer.groups)
    for group in optimizer.groups:
        own = group.hyperparameters
        draft.add(group, betas=(own["beta1"], own["beta2"]), eps=own["eps"],
                  weight_decay=decay_of(group)[1], decoupled_weight_decay=decoupled)  # fmt: skip
    if Epsilon.OUTSIDE in forms(optimizer):
        draft.hook("epsilon_outside", "eps_outside", [group["eps"] for group in draft.groups],
                   "torch's RAdam adds epsilon before the bias correction")  # fmt: skip
    return draft.done()


def _lamb(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    optimizer.need("beta1", "beta2", "eps")
    draft = Draft(optimizer, "Lamb", dict(MOMENTS), {}, BOTH)
    for group in optimizer.groups:
        own = group.hyperparameters
        draft.add(group, betas=(own["beta1"], own["beta2"]), eps=own["eps"], weight_decay=0,
                  decay_in_ratio=bool(own.get("decay_in_ratio")))  # fmt: skip
    draft.decay(Decay.DECOUPLED)
    draft.rule("Lamb", bridges.LAMB, "torch has no LAMB")
    return draft.done()


def _lion(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    optimizer.need("beta1", "beta2")
    draft = Draft(optimizer, "Lion", {Slot.FIRST_MOMENT: ("exp_avg", None)}, {},
                   (frozenset(("exp_avg",)),))  # fmt: skip
    for group in optimizer.groups:
        own = group.hyperparameters
        draft.add(group, betas=(own["beta1"], own["beta2"]), weight_decay=0)
    draft.decay(Decay.DECOUPLED)
    draft.rule("Lion", bridges.LION, "torch has no Lion")
    return draft.done()


BUILDERS: Mapping[Algorithm, Builder] = {
    Algorithm.ADAM: _adam,
    Algorithm.ADAMAX: _adamax,
    Algorithm.NADAM: _nadam,
    Algorithm.RADAM: _radam,
    Algorithm.LAMB: _lamb,
    Algorithm.LION: _lion,
}
