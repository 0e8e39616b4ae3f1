"""torch's optimizers that divide by a root of squares, without a first moment."""

from __future__ import annotations

from collections.abc import Mapping

from portackpt.elementwise import computed
from portackpt.ledger import Fate
from portackpt.moved import Moved, MovedOptimizer
from portackpt.optimizers import Algorithm, Decay, Epsilon, Group, Slot
from portackpt.tensor import Tensor
from portackpt_torch.dialect import bridges
from portackpt_torch.dialect.drafts import (
    EXACT,
    HAND,
    Builder,
    Change,
    Draft,
    Target,
    forms,
    has,
)
from portackpt_torch.dialect.momentum import signed, unrated
from portackpt_torch.dialect.shapes import widened


def _rmsprop(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    carried = has(optimizer, Slot.MOMENTUM)
    optimizer.need("rho", "eps", *(("momentum", "lr_in_momentum") if carried else ()))
    slots: dict[str, tuple[str, Change | None]] = {
        Slot.SECOND_MOMENT: ("square_avg", None),
        Slot.MOMENTUM: ("momentum_buffer", None),
        Slot.MEAN_GRADIENT: ("grad_avg", None),
    }
    centered = has(optimizer, Slot.MEAN_GRADIENT)
    draft = Draft(optimizer, "RMSprop", slots, HAND, (frozenset(("square_avg",)),))
    for group in optimizer.groups:
        own = group.hyperparameters
        draft.add(group, momentum=own.get("momentum") or 0, alpha=own["rho"], eps=own["eps"],
                  centered=bool(own.get("centered", centered)), weight_decay=0)  # fmt: skip
    draft.decay(Decay.L2)
    inside = Epsilon.INSIDE in forms(optimizer)
    rated = carried and bool(optimizer.of("lr_in_momentum"))
    nesterov = carried and bool(optimizer.of("nesterov"))
    reasons = {
        "torch adds epsilon outside of the root": inside,
        "torch's momentum is without the learning rate": rated and scheduled,
        "torch's RMSprop has no Nesterov momentum": nesterov,
    }
    if any(reasons.values()):
        told = "; ".join([reason for reason, holds in reasons.items() if holds])
        draft.rule("RootRMSprop", bridges.RMSPROP, told, lr_in_momentum=rated, nesterov=nesterov,
                   eps_inside=0.0)  # fmt: skip
        if inside:
            for one in draft.groups:
                one["eps_inside"], one["eps"] = one["eps"], 0.0
    if rated:
        slots[Slot.MOMENTUM] = ("momentum_buffer", signed if draft.rules else unrated)
    return draft.done()


def _adagrad(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    optimizer.need("eps")
    inside = Epsilon.INSIDE in forms(optimizer)
    slots: dict[str, tuple[str, Change | None]] = {
        Slot.SUM_OF_SQUARES: ("sum", _shifted if inside else None)
    }
    draft = Draft(optimizer, "Adagrad", slots,
                   {"foreach": None, "differentiable": False, "fused": None},
                   (frozenset(("sum",)),))  # fmt: skip
    for group in optimizer.groups:
        own = group.hyperparameters
        outside, shift = (0.0, own["eps"]) if inside else (own["eps"], 0)
        start = (own.get("initial_accumulator") or 0) + shift
        draft.add(group, lr_decay=own.get("lr_decay") or 0, eps=outside, weight_decay=0,
                  initial_accumulator_value=start)  # fmt: skip
    draft.decay(Decay.L2)
    return draft.done()


def _shifted(moved: Moved, group: Group) -> Moved:
    """A sum of squares with the epsilon that stood beside it in the root."""
    eps = group.hyperparameters["eps"]
    shifted = computed(lambda array: array.astype("float64") + eps, moved.value)
    told = f"plus {eps!r}: sqrt(sum + eps) is torch's sqrt(sum) + eps with an eps of 0"
    return moved.then(shifted, Fate.EQUIVALENT, told, tolerance=_rounding(moved.value))


def _rounding(tensor: Tensor) -> float:
    return {"float64": EXACT, "float32": 1.2e-7}.get(tensor.dtype.name, 8e-3)


def _adadelta(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    optimizer.need("rho", "eps")
    draft = Draft(optimizer, "Adadelta",
                   {Slot.SECOND_MOMENT: ("square_avg", None),
                    Slot.MEAN_SQUARED_UPDATE: ("acc_delta", None)}, HAND,
                   (frozenset(("square_avg", "acc_delta")),))  # fmt: skip
    for group in optimizer.groups:
        own = group.hyperparameters
        draft.add(group, rho=own["rho"], eps=own["eps"], weight_decay=0)
    draft.decay(Decay.L2)
    return draft.done()


def _row(moved: Moved, group: Group) -> Moved:
    return moved.then(widened(moved.value, -1), Fate.RELAYOUT, "with an axis of one at the end")


def _column(moved: Moved, group: Group) -> Moved:
    return moved.then(widened(moved.value, -2), Fate.RELAYOUT, "with an axis of one before")


def _adafactor(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    optimizer.need("beta2_decay", "eps2", "clip_threshold")
    slots: dict[str, tuple[str, Change | None]] = {
        Slot.ROW_MOMENT: ("row_var", _row),
        Slot.COLUMN_MOMENT: ("col_var", _column),
        Slot.SECOND_MOMENT: ("variance", None),
    }
    factors, one = frozenset(("row_var", "col_var")), frozenset(("variance",))
    draft = Draft(optimizer, "Adafactor", slots, {"foreach": None}, (factors, one))
    for group in optimizer.groups:
        own = group.hyperparameters
        eps1 = own.get("eps1")
        if eps1 is not None and own.get("eps1_form") == "added":
            eps1 = eps1**0.5
        draft.add(group, beta2_decay=-abs(own["beta2_decay"]),
                  eps=(eps1, own["eps2"]), d=own["clip_threshold"],
                  weight_decay=0)  # fmt: skip
    draft.decay(Decay.DECOUPLED)
    whole = any(
        Slot.ROW_MOMENT not in own and len(moved.value.shape) > 1
        for own in optimizer.slots.values()
        if (moved := own.get(Slot.SECOND_MOMENT)) is not None
    )
    bound = all(group.hyperparameters.get("relative_step", True) for group in optimizer.groups)
    reasons = {
        "torch factors the second moment of every matrix": whole,
        "torch bounds the learning rate by 1/sqrt(step)": not bound,
    }
    if any(reasons.values()):
        told = "; ".join([reason for reason, holds in reasons.items() if holds])
        draft.rule("FreeAdafactor", bridges.ADAFACTOR, told, bound=bound)
    return draft.done()


def _ftrl(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    draft = Draft(optimizer, "Ftrl",
                   {Slot.SUM_OF_SQUARES: ("sum", None), Slot.LINEAR: ("linear", None)}, {},
                   (frozenset(("sum", "linear")),))  # fmt: skip
    for group in optimizer.groups:
        own = group.hyperparameters
        draft.add(group, lr_power=own.get("lr_power", -0.5), l1=own.get("l1") or 0,
                  l2=own.get("l2") or 0, l2_shrinkage=own.get("l2_shrinkage") or 0,
                  beta=own.get("beta") or 0, weight_decay=0,
                  initial_accumulator_value=own.get("initial_accumulator") or 0)  # fmt: skip
    draft.rule("Ftrl", bridges.FTRL, "torch has no FTRL")
    draft.decay(Decay.L2)
    return draft.done()


BUILDERS: Mapping[Algorithm, Builder] = {
    Algorithm.RMSPROP: _rmsprop,
    Algorithm.ADAGRAD: _adagrad,
    Algorithm.ADADELTA: _adadelta,
    Algorithm.ADAFACTOR: _adafactor,
    Algorithm.FTRL: _ftrl,
}
