"""Canonical algorithms as chains of optax' transformations, with the state of each.

The chains are spelled out where optax' aliases would hide the order that matters: L2 before the
moments, decoupled decay after them, a momentum before or after the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from portackpt.errors import UnsupportedError
from portackpt.moved import MovedOptimizer
from portackpt.optimizers import Algorithm, Decay, Epsilon, Group, Slot
from portackpt_jax.dialect import bridges

EXACT = 1e-10
"""How far a bridge, computed in float64, is from the source's own updates."""


@dataclass(frozen=True, slots=True)
class Link:
    """One transformation: its code, and the fields of its state.

    A field is a slot (one array a parameter), `count`, or a number; None: a state without fields.
    """

    code: str
    state: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """The transformations of one group; `bridges` are definitions that its code needs, `remark`
    what they do."""

    links: tuple[Link, ...]
    bridges: tuple[str, ...] = ()
    remark: str = ""


COUNT = "count"
_Core = tuple[Link, str, str]


def chain(optimizer: MovedOptimizer, group: Group, rate: str, scheduled: bool) -> Chain:
    """The chain of `group`, whose learning rate is the expression `rate`.

    Raises `AmbiguousError` where a hyperparameter is not known, `UnsupportedError` where there is
    no chain for the algorithm.
    """
    known = group.hyperparameters
    make = _CORES.get(optimizer.algorithm)
    if make is None:
        raise UnsupportedError(
            f"no optax chain goes on from {optimizer.algorithm}; carry its state as it stands with "
            "--set optimizer=native",
            optimizer.name,
        )
    link, bridge, remark = make(optimizer, known)
    before: list[Link] = []
    if known.get("maximize"):
        before.append(Link("optax.scale(-1.0)"))
    decay, weight = known.get("decay", Decay.NONE), known.get("weight_decay") or 0
    decayed = Link(f"optax.add_decayed_weights({weight!r})")
    if decay is Decay.L2 and weight:
        before.append(decayed)
    after: list[Link] = []
    if optimizer.algorithm is Algorithm.LAMB:
        inside = decay is Decay.DECOUPLED and weight and known.get("decay_in_ratio", True)
        after += [decayed] if inside else []
        after.append(Link("optax.scale_by_trust_ratio()"))
        weight = 0 if inside else weight
    scale = Link(f"optax.scale_by_learning_rate({rate})", {COUNT: COUNT} if scheduled else None)
    momentum = known.get("momentum") or 0
    if optimizer.algorithm in (Algorithm.SGD, Algorithm.RMSPROP) and momentum:
        nesterov = ", nesterov=True" if known.get("nesterov") else ""
        trace = Link(f"optax.trace(decay={momentum!r}{nesterov})", {"trace": Slot.MOMENTUM})
        after += [scale, trace] if known.get("lr_in_momentum") else [trace, scale]
    else:
        after.append(scale)
    if decay is Decay.DECOUPLED and weight:
        place = after.index(scale)
        if place + 1 < len(after):  # the buffer must not carry the decay
            after.append(Link(f"optax.add_decayed_weights(-({rate}) * {weight!r})"))
            if scheduled:
                raise UnsupportedError(
                    "decoupled weight decay beside a momentum that carries a scheduled learning "
                    "rate has no optax chain", optimizer.name,
                )  # fmt: skip
        else:
            after.insert(place, decayed)
    links = (*before, *([link] if link.code else []), *after)
    return Chain(links, (bridge,) if bridge else (), remark)


def _sgd(optimizer: MovedOptimizer, known: Mapping[str, Any]) -> _Core:
    optimizer.need("momentum")
    dampening = known.get("dampening") or 0
    return Link(f"optax.scale({1 - dampening!r})" if dampening else ""), "", ""


def _moments(names: str, optimizer: MovedOptimizer, known: Mapping[str, Any]) -> str:
    optimizer.need(*names.split())
    spelled = {"beta1": "b1", "beta2": "b2", "rho": "decay"}
    return ", ".join([f"{spelled.get(name, name)}={known[name]!r}" for name in names.split()])


_ADAM_STATE = {COUNT: COUNT, "mu": Slot.FIRST_MOMENT, "nu": Slot.SECOND_MOMENT}


def _adam(optimizer: MovedOptimizer, known: Mapping[str, Any]) -> _Core:
    options = _moments("beta1 beta2 eps", optimizer, known)
    hat = known.get("eps_form") is Epsilon.HAT
    kind = known.get("amsgrad")
    if kind == "corrected":
        state = {**_ADAM_STATE, "nu_max": Slot.MAX_SECOND_MOMENT}
        return Link(f"optax.scale_by_amsgrad({options})", state), "", ""
    if kind:
        state = {**_ADAM_STATE, "nu_max": Slot.MAX_SECOND_MOMENT}
        more = ", hat=True" if hat else ""
        told = "optax takes the maximum of the corrected second moment; the code does not"
        return Link(f"scale_by_amsgrad_uncorrected({options}{more})", state), bridges.AMSGRAD, told
    if hat and known["eps"]:
        told = "epsilon stands beside the uncorrected second moment"
        return Link(f"scale_by_adam_hat({options})", _ADAM_STATE), bridges.ADAM, told
    if known.get("eps_inside"):
        options += f", eps_root={known['eps_inside']!r}"
    return Link(f"optax.scale_by_adam({options})", _ADAM_STATE), "", ""


def _adamax(optimizer: MovedOptimizer, known: Mapping[str, Any]) -> _Core:
    options = _moments("beta1 beta2 eps", optimizer, known)
    state = {COUNT: COUNT, "mu": Slot.FIRST_MOMENT, "nu": Slot.INFINITY_NORM}
    if known.get("eps_form") in (None, Epsilon.IN_MAX):
        return Link(f"optax.scale_by_adamax({options})", state), "", ""
    told = "epsilon is added to the norm, not to the gradient"
    return Link(f"scale_by_adamax_outside({options})", state), bridges.ADAMAX, told


def _nadam(optimizer: MovedOptimizer, known: Mapping[str, Any]) -> _Core:
    options = _moments("beta1 beta2 eps", optimizer, known)
    decay = known.get("momentum_decay")
    if decay is None:
        return Link(f"optax.scale_by_adam({options}, nesterov=True)", _ADAM_STATE), "", ""
    state = {**_ADAM_STATE, "mu_product": Slot.MOMENTUM_PRODUCT}
    code = f"scale_by_nadam_scheduled({options}, momentum_decay={decay!r})"
    return Link(code, state), bridges.NADAM, "optax's nadam has no momentum schedule"


def _radam(optimizer: MovedOptimizer, known: Mapping[str, Any]) -> _Core:
    options = _moments("beta1 beta2 eps", optimizer, known)
    if known.get("eps_form") in (None, Epsilon.OUTSIDE):
        threshold = known.get("threshold", 5.0)
        code = f"optax.scale_by_radam({options}, threshold={threshold!r})"
        return Link(code, _ADAM_STATE), "", ""
    told = "epsilon stands beside the uncorrected second moment"
    return Link(f"scale_by_radam_hat({options})", _ADAM_STATE), bridges.RADAM, told


def _rmsprop(optimizer: MovedOptimizer, known: Mapping[str, Any]) -> _Core:
    options = _moments("rho eps", optimizer, known)
    optimizer.need("momentum")
    inside = known.get("eps_form", Epsilon.INSIDE) is Epsilon.INSIDE
    options += "" if inside else ", eps_in_sqrt=False"
    if known.get("centered"):
        state = {"mu": Slot.MEAN_GRADIENT, "nu": Slot.SECOND_MOMENT}
        return Link(f"optax.scale_by_stddev({options})", state), "", ""
    return Link(f"optax.scale_by_rms({options})", {"nu": Slot.SECOND_MOMENT}), "", ""


def _adagrad(optimizer: MovedOptimizer, known: Mapping[str, Any]) -> _Core:
    options = _moments("eps", optimizer, known)
    state = {"sum_of_squares": Slot.SUM_OF_SQUARES}
    if known.get("eps_form", Epsilon.INSIDE) is Epsilon.INSIDE or not known["eps"]:
        return Link(f"optax.scale_by_rss({options})", state), "", ""
    told = "epsilon stands beside the root of the sum"
    return Link(f"scale_by_rss_outside({options})", state), bridges.ADAGRAD, told


def _adadelta(optimizer: MovedOptimizer, known: Mapping[str, Any]) -> _Core:
    optimizer.need("rho", "eps")
    code = f"optax.scale_by_adadelta(rho={known['rho']!r}, eps={known['eps']!r})"
    state = {"e_g": Slot.SECOND_MOMENT, "e_x": Slot.MEAN_SQUARED_UPDATE}
    return Link(code, state), "", ""


def _lion(optimizer: MovedOptimizer, known: Mapping[str, Any]) -> _Core:
    options = _moments("beta1 beta2", optimizer, known)
    state = {COUNT: COUNT, "mu": Slot.FIRST_MOMENT}
    return Link(f"optax.scale_by_lion({options})", state), "", ""


def _rprop(optimizer: MovedOptimizer, known: Mapping[str, Any]) -> _Core:
    options = _moments("eta_minus eta_plus step_min step_max", optimizer, known)
    state = {"prev_updates": Slot.PREVIOUS_SIGN, "step_sizes": Slot.STEP_SIZE}
    told = "optax's rprop gives out the update of the step before"
    return Link(f"scale_by_rprop_signs({options})", state), bridges.RPROP, told


_CORES: Mapping[Algorithm, Callable[[MovedOptimizer, Mapping[str, Any]], _Core]] = {
    Algorithm.SGD: _sgd,
    Algorithm.ADAM: _adam,
    Algorithm.ADAMAX: _adamax,
    Algorithm.NADAM: _nadam,
    Algorithm.RADAM: _radam,
    Algorithm.RMSPROP: _rmsprop,
    Algorithm.ADAGRAD: _adagrad,
    Algorithm.ADADELTA: _adadelta,
    Algorithm.LION: _lion,
    Algorithm.LAMB: _adam,
    Algorithm.RPROP: _rprop,
}
