"""Canonical algorithms as chains of optax' transformations, with the state of each.

The chains are spelled out where optax' aliases would hide the order that matters: L2 before the
moments, decoupled decay after them, a momentum before or after the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from portackpt.errors import UnsupportedError
from portackpt.moved import MovedOptimizer
from portackpt.optimizers import Algorithm, Decay, Epsilon, Group, Slot
from portackpt_jax.dialect import bridges

EXACT = 1e-10
"""How far a bridge, computed in float64, is from the source's own updates."""


COUNT = "count"
"""A field of a state: the count of updates."""
TICKS = "ticks"
"""A field of a state: the count of a schedule."""


class Name(str):
    """A name in the code, where a value would stand."""

    __slots__ = ()
    __repr__ = str.__str__


@dataclass(frozen=True, slots=True)
class Link:
    """One transformation: a function of optax or of the code, and the fields of its state.

    A field is a slot (one array a parameter) or a count; None: a state without fields. `option` is
    the one that is a function of the count, if any.
    """

    function: str
    options: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, str] | None = None
    option: str = ""

    @property
    def code(self) -> str:
        options = ", ".join([f"{name}={value!r}" for name, value in self.options.items()])
        if self.option:
            return f"optax.inject_hyperparams({self.function})({options})"
        return f"{self.function}({options})"

    @property
    def is_bridge(self) -> bool:
        """Whether the code defines it."""
        return not self.function.startswith("optax.")

    @property
    def hyperparameters(self) -> dict[str, float]:
        """Those that `optax.inject_hyperparams` keeps, among them defaults."""
        given = {**_DEFAULTS.get(self.function, {}), **self.options}
        numbers = {n: v for n, v in given.items() if isinstance(v, int | float)}
        kept = {name: float(v) for name, v in numbers.items() if not isinstance(v, bool)}
        return {**kept, self.option: 0.0}


_DEFAULTS = {
    "optax.scale_by_adam": {"eps_root": 0.0},
    "optax.scale_by_amsgrad": {"eps_root": 0.0},
    "optax.scale_by_radam": {"eps_root": 0.0},
}


@dataclass(frozen=True, slots=True)
class Chain:
    """The transformations of one group; `bridges` are definitions that its code needs, `remark`
    what they do."""

    links: tuple[Link, ...]
    bridges: tuple[str, ...] = ()
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """The learning rate in the code: a number, or the name of a function of the count. `momentum`
    is the name of the one that goes with it, if any."""

    value: float | Name
    momentum: Name | None = None

    @property
    def scheduled(self) -> bool:
        return isinstance(self.value, Name)

    @property
    def ticks(self) -> dict[str, str] | None:
        return {COUNT: TICKS} if self.scheduled else None


_Known = Mapping[str, Any]
_Core = tuple[Link | None, str, str]


def chain(optimizer: MovedOptimizer, group: Group, rate: Rate) -> Chain:
    """The chain of `group`.

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
    core, bridge, remark = make(optimizer, known)
    if core is not None and rate.momentum is not None and "b1" in core.options:
        core = replace(core, options={**core.options, "b1": rate.momentum}, option="b1")
    if known.get("decay", Decay.NONE) is not Decay.NONE:
        optimizer.need("weight_decay")
    decayed, weight = _decay(known)
    before = [Link("optax.scale", {"step_size": -1.0})] if known.get("maximize") else []
    if decayed is not None and known["decay"] is Decay.L2:
        before.append(decayed)
    links = (*before, *([core] if core is not None else []), *_after(optimizer, known, rate))
    if decayed is not None and known["decay"] is Decay.DECOUPLED:
        links = _decoupled(optimizer, links, decayed, weight, rate)
    links = _as_alias(optimizer.algorithm, links, decayed is None)
    return Chain(links, (bridge,) if bridge else (), remark)


def _as_alias(algorithm: Algorithm, links: tuple[Link, ...], undecayed: bool) -> tuple[Link, ...]:
    """`links` with those that do nothing and yet have a state in optax' alias."""
    nothing = Link("optax.add_decayed_weights", {"weight_decay": 0.0})
    identity = Link("optax.identity")
    stateful = [link for link in links if link.state is not None]
    if algorithm is Algorithm.SGD and len(links) == 1:
        return (identity, *links)
    if algorithm is Algorithm.RMSPROP and all("trace" not in (o.state or {}) for o in stateful):
        return (*links, identity)
    if algorithm is Algorithm.ADADELTA and undecayed:
        return (nothing, *links)
    if algorithm in (Algorithm.LION, Algorithm.LAMB) and undecayed:
        place = links.index(stateful[0]) + 1
        return (*links[:place], nothing, *links[place:])
    return links


def _decay(known: _Known) -> tuple[Link | None, float]:
    weight = known.get("weight_decay") or 0
    if not weight or known.get("decay", Decay.NONE) is Decay.NONE:
        return None, 0
    return Link("optax.add_decayed_weights", {"weight_decay": weight}), weight


def _after(optimizer: MovedOptimizer, known: _Known, rate: Rate) -> list[Link]:
    """What follows the moments: a momentum, the learning rate, a trust ratio."""
    if optimizer.algorithm is Algorithm.RPROP:  # its rate was the first step size
        return [Link("optax.scale", {"step_size": -1.0})]
    scale = Link("optax.scale_by_learning_rate", {"learning_rate": rate.value}, rate.ticks)
    if optimizer.algorithm is Algorithm.LAMB:
        return [Link("optax.scale_by_trust_ratio"), scale]
    mu = known.get("momentum") or 0
    if optimizer.algorithm not in (Algorithm.SGD, Algorithm.RMSPROP) or not mu:
        return [scale]
    optimizer.need("lr_in_momentum")
    options = {"decay": mu, **({"nesterov": True} if known.get("nesterov") else {})}
    trace = Link("optax.trace", options, {"trace": Slot.MOMENTUM})
    if rate.momentum is not None:
        options["decay"] = rate.momentum
        trace = replace(trace, options=options, option="decay")
    inside = known.get("lr_in_momentum") and not outside(known, rate.scheduled)
    return [scale, trace] if inside else [trace, scale]


def outside(known: _Known, scheduled: bool) -> bool:
    """Whether a momentum that carries a learning rate that never changes is better without it:
    optax has decoupled weight decay before the rate, and the momentum must not see it."""
    return (
        bool(known.get("lr_in_momentum")) and not scheduled
        and known.get("decay") is Decay.DECOUPLED and bool(known.get("weight_decay"))
    )  # fmt: skip


def _decoupled(
    optimizer: MovedOptimizer, links: tuple[Link, ...], decayed: Link, weight: float, rate: Rate
) -> tuple[Link, ...]:
    """`links` with weight decay that the moments do not see."""
    functions = [link.function for link in links]
    place = functions.index("optax.scale_by_learning_rate")
    inside = optimizer.of("decay_in_ratio", True)
    if optimizer.algorithm is Algorithm.LAMB and inside:
        place = functions.index("optax.scale_by_trust_ratio")
    if place + 1 == len(links) or optimizer.algorithm is Algorithm.LAMB:
        return (*links[:place], decayed, *links[place:])
    # the rate is in the momentum, and the momentum must not see the decay
    last = Name(f"lambda count: -{weight!r} * {rate.value}(count)")
    return (*links, Link("optax.add_decayed_weights", {"weight_decay": last}, rate.ticks))


def _sgd(optimizer: MovedOptimizer, known: _Known) -> _Core:
    optimizer.need("momentum")
    dampening = known.get("dampening") or 0
    return (Link("optax.scale", {"step_size": 1 - dampening}) if dampening else None), "", ""


_SPELLED = {"beta1": "b1", "beta2": "b2", "rho": "decay"}


def _options(names: str, optimizer: MovedOptimizer, known: _Known) -> dict[str, Any]:
    optimizer.need(*names.split())
    return {_SPELLED.get(name, name): known[name] for name in names.split()}


_ADAM_STATE = {COUNT: COUNT, "mu": Slot.FIRST_MOMENT, "nu": Slot.SECOND_MOMENT}


def _adam(optimizer: MovedOptimizer, known: _Known) -> _Core:
    options = _options("beta1 beta2 eps", optimizer, known)
    if known["eps"] and optimizer.algorithm is Algorithm.ADAM:
        optimizer.need("eps_form")
    hat = known.get("eps_form") is Epsilon.HAT
    kind = known.get("amsgrad")
    if kind == "corrected":
        state = {**_ADAM_STATE, "nu_max": Slot.MAX_SECOND_MOMENT}
        return Link("optax.scale_by_amsgrad", options, state), "", ""
    if kind:
        state = {**_ADAM_STATE, "nu_max": Slot.MAX_SECOND_MOMENT}
        options |= {"hat": True} if hat else {}
        told = "optax takes the maximum of the corrected second moment; the code does not"
        return Link("scale_by_amsgrad_uncorrected", options, state), bridges.AMSGRAD, told
    if hat and known["eps"]:
        told = "epsilon stands beside the uncorrected second moment"
        return Link("scale_by_adam_hat", options, _ADAM_STATE), bridges.ADAM, told
    if known.get("eps_inside"):
        options["eps_root"] = known["eps_inside"]
    return Link("optax.scale_by_adam", options, _ADAM_STATE), "", ""


def _adamax(optimizer: MovedOptimizer, known: _Known) -> _Core:
    options = _options("beta1 beta2 eps", optimizer, known)
    optimizer.need("eps_form")
    state = {COUNT: COUNT, "mu": Slot.FIRST_MOMENT, "nu": Slot.INFINITY_NORM}
    if known.get("eps_form") in (None, Epsilon.IN_MAX):
        return Link("optax.scale_by_adamax", options, state), "", ""
    told = "epsilon is added to the norm, not to the gradient"
    return Link("scale_by_adamax_outside", options, state), bridges.ADAMAX, told


def _nadam(optimizer: MovedOptimizer, known: _Known) -> _Core:
    options = _options("beta1 beta2 eps", optimizer, known)
    optimizer.need("momentum_decay")
    decay = known["momentum_decay"]
    if decay is None:
        return Link("optax.scale_by_adam", {**options, "nesterov": True}, _ADAM_STATE), "", ""
    state = {**_ADAM_STATE, "mu_product": Slot.MOMENTUM_PRODUCT}
    options["momentum_decay"] = decay
    return (
        Link("scale_by_nadam_scheduled", options, state),
        bridges.NADAM,
        "optax's nadam has no momentum schedule",
    )


def _radam(optimizer: MovedOptimizer, known: _Known) -> _Core:
    options = _options("beta1 beta2 eps", optimizer, known)
    if known.get("eps_form") in (None, Epsilon.OUTSIDE):
        options["threshold"] = known.get("threshold", 5.0)
        return Link("optax.scale_by_radam", options, _ADAM_STATE), "", ""
    told = "epsilon stands beside the uncorrected second moment"
    return Link("scale_by_radam_hat", options, _ADAM_STATE), bridges.RADAM, told


def _rmsprop(optimizer: MovedOptimizer, known: _Known) -> _Core:
    options = _options("rho eps", optimizer, known)
    optimizer.need("momentum", "eps_form")
    inside = known.get("eps_form", Epsilon.INSIDE) is Epsilon.INSIDE
    options |= {} if inside else {"eps_in_sqrt": False}
    if known.get("centered"):
        state = {"mu": Slot.MEAN_GRADIENT, "nu": Slot.SECOND_MOMENT}
        return Link("optax.scale_by_stddev", options, state), "", ""
    return Link("optax.scale_by_rms", options, {"nu": Slot.SECOND_MOMENT}), "", ""


def _adagrad(optimizer: MovedOptimizer, known: _Known) -> _Core:
    options = _options("eps", optimizer, known)
    state = {"sum_of_squares": Slot.SUM_OF_SQUARES}
    if known.get("eps_form", Epsilon.INSIDE) is Epsilon.INSIDE or not known["eps"]:
        return Link("optax.scale_by_rss", options, state), "", ""
    told = "epsilon stands beside the root of the sum"
    return Link("scale_by_rss_outside", options, state), bridges.ADAGRAD, told


def _adadelta(optimizer: MovedOptimizer, known: _Known) -> _Core:
    optimizer.need("rho", "eps")
    options = {"rho": known["rho"], "eps": known["eps"]}
    state = {"e_g": Slot.SECOND_MOMENT, "e_x": Slot.MEAN_SQUARED_UPDATE}
    return Link("optax.scale_by_adadelta", options, state), "", ""


def _lion(optimizer: MovedOptimizer, known: _Known) -> _Core:
    options = _options("beta1 beta2", optimizer, known)
    state = {COUNT: COUNT, "mu": Slot.FIRST_MOMENT}
    return Link("optax.scale_by_lion", options, state), "", ""


def _rprop(optimizer: MovedOptimizer, known: _Known) -> _Core:
    options = _options("eta_minus eta_plus step_min step_max", optimizer, known)
    state = {"prev_updates": Slot.PREVIOUS_SIGN, "step_sizes": Slot.STEP_SIZE}
    told = "optax's rprop gives out the update of the step before"
    return Link("scale_by_rprop_signs", options, state), bridges.RPROP, told


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
