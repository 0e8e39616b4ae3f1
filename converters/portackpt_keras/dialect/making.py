"""Which optimizer of Keras goes on with a run: its class, options, slots and step. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from portackpt.errors import UnsupportedError
from portackpt.moved import MovedOptimizer
from portackpt.optimizers import Algorithm, Decay, Group, Slot
from portackpt_keras.dialect.bridges import Bridge, bridge


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of Keras for an algorithm: `options` by canonical name, `slots` (attributes that
    list one variable a parameter) by canonical slot; `defaults` of what need not be known."""

    name: str
    options: Mapping[str, str]
    slots: Mapping[Any, str]
    defaults: Mapping[str, Any]


_BETAS = {"beta1": "beta_1", "beta2": "beta_2"}
_ADAM = {**_BETAS, "eps": "epsilon"}
_MOMENTS: Mapping[Any, str] = {Slot.FIRST_MOMENT: "_momentums", Slot.SECOND_MOMENT: "_velocities"}
KINDS: Mapping[Algorithm, Kind] = {
    Algorithm.SGD: Kind("SGD", {"momentum": "momentum", "nesterov": "nesterov"},
                        {Slot.MOMENTUM: "momentums"}, {"momentum": 0.0, "nesterov": False}),
    Algorithm.ADAM: Kind("Adam", {**_ADAM, "amsgrad": "amsgrad"},
                         {**_MOMENTS, Slot.MAX_SECOND_MOMENT: "_velocity_hats"},
                         {"amsgrad": None}),
    Algorithm.ADAMAX: Kind("Adamax", _ADAM,
                           {Slot.FIRST_MOMENT: "_m", Slot.INFINITY_NORM: "_u"}, {}),
    Algorithm.NADAM: Kind("Nadam", _ADAM, _MOMENTS, {}),
    Algorithm.RADAM: Kind("Adam", _ADAM, _MOMENTS, {}),
    Algorithm.RMSPROP: Kind(
        "RMSprop",
        {"rho": "rho", "momentum": "momentum", "eps": "epsilon", "centered": "centered"},
        {Slot.SECOND_MOMENT: "_velocities", Slot.MOMENTUM: "_momentums",
         Slot.MEAN_GRADIENT: "_average_gradients"},
        {"momentum": 0.0, "centered": False},
    ),
    Algorithm.ADAGRAD: Kind(
        "Adagrad", {"initial_accumulator": "initial_accumulator_value", "eps": "epsilon"},
        {Slot.SUM_OF_SQUARES: "_accumulators"}, {"initial_accumulator": 0.0},
    ),
    Algorithm.ADADELTA: Kind(
        "Adadelta", {"rho": "rho", "eps": "epsilon"},
        {Slot.SECOND_MOMENT: "_accumulated_grads",
         Slot.MEAN_SQUARED_UPDATE: "_accumulated_delta_vars"}, {},
    ),
    Algorithm.ADAFACTOR: Kind(
        "Adafactor",
        {"beta2_decay": "beta_2_decay", "eps1": "epsilon_1", "eps2": "epsilon_2",
         "clip_threshold": "clip_threshold", "relative_step": "relative_step"},
        {Slot.ROW_MOMENT: "_r", Slot.COLUMN_MOMENT: "_c", Slot.SECOND_MOMENT: "_v"},
        {"relative_step": True, "clip_threshold": 1.0},
    ),
    Algorithm.LION: Kind("Lion", _BETAS, {Slot.FIRST_MOMENT: "_momentums"}, {}),
    Algorithm.LAMB: Kind("Lamb", _ADAM, _MOMENTS, {}),
    Algorithm.MUON: Kind(
        "Muon",
        {"momentum": "momentum", "nesterov": "nesterov", "ns_steps": "ns_steps"},
        {Slot.MOMENTUM: "momentums"},
        {"nesterov": False, "ns_steps": 5},
    ),
    Algorithm.RPROP: Kind("Optimizer", {},
                          {Slot.PREVIOUS_SIGN: "before", Slot.STEP_SIZE: "sizes"}, {}),
    Algorithm.ASGD: Kind("Optimizer", {}, {Slot.AVERAGE: "averages"}, {}),
    Algorithm.FTRL: Kind(
        "Ftrl",
        {"lr_power": "learning_rate_power", "initial_accumulator": "initial_accumulator_value",
         "l1": "l1_regularization_strength", "l2": "l2_regularization_strength"},
        {Slot.SUM_OF_SQUARES: "_accumulators", Slot.LINEAR: "_linears"},
        {"lr_power": -0.5, "initial_accumulator": 0.1, "l1": 0.0, "l2": 0.0},
    ),
    Algorithm.SCHEDULE_FREE: Kind(
        "ScheduleFreeAdamW", {**_ADAM, "warmup_steps": "warmup_steps"},
        {Slot.ANCHOR: "_momentums", Slot.SECOND_MOMENT: "_velocities"}, {"warmup_steps": 0},
    ),
}  # fmt: skip
_WHOLE = ("warmup_steps", "ns_steps")
_NEEDED: Mapping[Algorithm, tuple[str, ...]] = {
    Algorithm.RPROP: ("eta_plus", "eta_minus", "step_min", "step_max"),
    Algorithm.ASGD: ("lambd", "alpha", "t0"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """An optimizer of Keras for one of a run.

    `options` are constructor arguments and others that a step needs (`l2`), by group; `step` is
    None where the class takes its own. `attributes` are the slots that it has.
    """

    kind: str
    groups: tuple[Group, ...]
    options: tuple[Mapping[str, Any], ...]
    attributes: Mapping[str, str]
    step: Bridge | None

    @property
    def differing(self) -> tuple[str, ...]:
        """Options that are not the same in all groups."""
        first = self.options[0]
        return tuple([name for name in first if any(o[name] != first[name] for o in self.options)])


def make(optimizer: MovedOptimizer, rate_moves: bool, momentum: str = "") -> Made:
    """The optimizer of Keras; the learning rate changes from step to step where `rate_moves`.

    `momentum` is the option (`momentum`, `beta_1`) that a function of the code gives, if any.

    Raises `AmbiguousError`, `UnsupportedError`.
    """
    algorithm = optimizer.algorithm
    kind = KINDS.get(algorithm)
    if kind is None and algorithm is not Algorithm.LBFGS:
        raise UnsupportedError(
            f"there is no {algorithm} for Keras; move the model alone, or carry the state as it "
            "stands with --set optimizer=native"
        )
    groups = tuple([_complete(group, kind, optimizer) for group in optimizer.groups])
    hypers = [group.hyperparameters for group in groups]
    moves = rate_moves or len({hyper.get("lr") for hyper in hypers}) > 1
    step = bridge(algorithm, hypers[0], moves)
    if kind is None:
        raise UnsupportedError(f"there is no {algorithm} for Keras")
    options = tuple([_options(hyper, kind, step) for hyper in hypers])
    made = Made(kind.name, groups, options, _attributes(kind, options), step)
    prologue = _prologue(made, hypers)
    if momentum:
        line = f"self.{momentum} = ops.cast(momentum(self._iterations), variable.dtype)"
        prologue.append(("the momentum moves with the schedule", (line,)))
    if not prologue:
        return made
    own = step or Bridge("")
    told = " and ".join(filter(None, (own.told, *[why for why, _ in prologue])))
    lines = [line for _, more in prologue for line in more]
    return replace(made, step=replace(own, told=told, step=(*lines, *own.step)))


def _complete(group: Group, kind: Kind | None, optimizer: MovedOptimizer) -> Group:
    known = {**(kind.defaults if kind else {}), **group.hyperparameters}
    needed = {*(kind.options if kind else {}), *_NEEDED.get(optimizer.algorithm, ())} - known.keys()
    optimizer.need(*sorted(needed), *(["lr"] if optimizer.algorithm is not Algorithm.RPROP else []))
    if known.get("decay", Decay.NONE) is not Decay.NONE:
        optimizer.need("weight_decay")
    if known.get("weight_decay"):
        optimizer.need("decay")
    return replace(group, hyperparameters={**known, "lr": known.get("lr", 0.0)})


def _options(hyper: Mapping[str, Any], kind: Kind, step: Bridge | None) -> dict[str, Any]:
    found: dict[str, Any] = {"learning_rate": float(hyper["lr"])}
    dampening = hyper.get("dampening") or 0.0
    if dampening and not (step and step.apart):
        found["learning_rate"] *= 1 - dampening
    for name, option in kind.options.items():
        value = hyper[name]
        if name == "eps1" and hyper.get("eps1_form") == "clamped":
            value = (2.0**-23 if value is None else value) ** 2  # torch takes it before the square
        found[option] = bool(value) if name in ("amsgrad", "nesterov") else value
        if isinstance(value, int) and not isinstance(value, bool) and name not in _WHOLE:
            found[option] = float(value)
    weight, decay = hyper.get("weight_decay") or 0.0, hyper.get("decay")
    in_ratio = bool(hyper.get("decay_in_ratio"))
    stepped = in_ratio or (kind.name == "Adafactor" and step is not None)
    found["weight_decay"] = weight if decay is Decay.DECOUPLED and weight and not stepped else None
    found["l2"] = weight if decay is Decay.L2 else 0.0
    if kind.name == "Muon":
        found |= _muon(hyper)
    return found


def _muon(hyper: Mapping[str, Any]) -> dict[str, Any]:
    """The options of Muon alone: every parameter is a matrix that it orthogonalizes."""
    found: dict[str, Any] = {"exclude_embeddings": False}
    a, b, c = hyper.get("ns_coefficients") or (3.4445, -4.775, 2.0315)
    if (a, b, c) != (3.4445, -4.775, 2.0315):
        found |= {"muon_a": a, "muon_b": b, "muon_c": c}
    scale = hyper.get("lr_scale")
    if scale not in (None, "original"):
        found["rms_rate"] = 0.2 if scale == "match_rms_adamw" else float(scale)
    return found


def _attributes(kind: Kind, options: tuple[Mapping[str, Any], ...]) -> dict[str, str]:
    """The slots that the class has with these options."""
    asked = {Slot.MAX_SECOND_MOMENT: "amsgrad", Slot.MOMENTUM: "momentum",
             Slot.MEAN_GRADIENT: "centered"}  # fmt: skip
    return {
        slot: attribute
        for slot, attribute in kind.slots.items()
        if slot not in asked or any(one.get(asked[Slot(slot)]) for one in options)
    }


def _prologue(made: Made, hypers: list[Mapping[str, Any]]) -> list[tuple[str, tuple[str, ...]]]:
    """What comes before a step, with the reason: options of groups, sign and decay."""
    found: list[tuple[str, tuple[str, ...]]] = []
    differing = [name for name in made.differing if name != "weight_decay"]
    excluded = [one["weight_decay"] for one in made.options if one["weight_decay"]]
    several = len(set(excluded)) > 1 or bool("learning_rate" in differing and excluded)
    if differing or several:
        own = ["own = options[group_of[self._get_variable_index(variable)]]"]
        if "learning_rate" in differing:
            own.append('learning_rate = rate_of(own["learning_rate"], self._iterations)')
            own.append("learning_rate = ops.cast(learning_rate, variable.dtype)")
        own += [f'self.{name} = own["{name}"]' for name in differing
                if name not in ("learning_rate", "l2")]  # fmt: skip
        if excluded:
            own.append(
                'self.assign_sub(variable, variable * (own["weight_decay"] * learning_rate))'
            )
        found.append(("groups have options of their own", tuple(own)))
    if hypers[0].get("maximize"):
        found.append(("the gradient is followed upwards", ("gradient = -gradient",)))
    if any(one["l2"] for one in made.options):
        rate = 'own["l2"]' if "l2" in differing else repr(made.options[0]["l2"])
        found.append(("weight decay is part of the gradient (L2)",
                      (f"gradient = gradient + {rate} * variable",)))  # fmt: skip
    return found


def carried(made: Made, optimizer: MovedOptimizer, slot: str, group: Group) -> float:
    """The factor of a slot: what Keras' own momentum has more than the source's."""
    hyper = group.hyperparameters
    if optimizer.algorithm is Algorithm.MUON:
        average = slot == Slot.MOMENTUM and hyper.get("momentum_form") == "ema"
        return 1 / (1 - float(hyper["momentum"])) if average else 1.0
    if slot != Slot.MOMENTUM or (made.step and made.step.apart):
        return 1.0
    sign = -1.0 if optimizer.algorithm is Algorithm.SGD else 1.0
    if hyper.get("lr_in_momentum"):
        return sign * float(hyper.get("momentum_sign", sign))
    return sign * float(hyper["lr"])


def fresh(made: Made, slot: str) -> float:
    """What a slot holds before the first step."""
    found = made.options[0].get("initial_accumulator_value", 0.0)
    return float(found) if slot == Slot.SUM_OF_SQUARES else 0.0
