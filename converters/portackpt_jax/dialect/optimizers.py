"""Canonical optimizers out of optax' states, and of flax.optim's before it.

optax keeps no hyperparameters but those of `inject_hyperparams`, and the same state for several
algorithms: what follows in the chain is evidence for some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from portackpt.errors import DamagedError
from portackpt.optimizers import Algorithm, Decay, Epsilon, Group, Optimizer, Origin, Slot
from portackpt.run import at
from portackpt.tensor import Tensor
from portackpt.tree import Node
from portackpt_jax.dialect.transforms import Found, Kind, number, record, tensors_below

_NAMES = {
    "learning_rate": "lr",
    "b1": "beta1",
    "b2": "beta2",
    "decay": "rho",
    "eps_root": "eps_inside",
}
_READ = 64
# what optax' class fixes; where an option of it does, its default
_FORMS: Mapping[Algorithm, Mapping[str, Any]] = {
    Algorithm.SGD: {"dampening": 0},
    Algorithm.ADAM: {"eps_form": Epsilon.OUTSIDE},
    Algorithm.ADAMAX: {"eps_form": Epsilon.IN_MAX},
    Algorithm.NADAM: {"eps_form": Epsilon.OUTSIDE, "momentum_decay": None},
    Algorithm.RADAM: {"eps_form": Epsilon.OUTSIDE, "threshold_inclusive": True},
    Algorithm.LAMB: {"eps_form": Epsilon.OUTSIDE, "decay_in_ratio": True},
    Algorithm.RMSPROP: {"eps_form": Epsilon.INSIDE},
    Algorithm.ADAGRAD: {"eps_form": Epsilon.INSIDE},
    Algorithm.ADADELTA: {"eps_form": Epsilon.INSIDE},
    Algorithm.ADAFACTOR: {"factored_axes": "largest_two", "relative_step": False},
    Algorithm.MUON: {"momentum_form": "ema"},
}
_IN_SQRT = "epsilon is taken to stand inside the root, as it does by optax' default"
# fields of flax.optim's and T5X' states of one parameter
_OLD: tuple[tuple[Algorithm, dict[str, Slot]], ...] = (
    (Algorithm.ADAFACTOR, {"v_row": Slot.ROW_MOMENT, "v_col": Slot.COLUMN_MOMENT,
                           "v": Slot.SECOND_MOMENT, "m": Slot.FIRST_MOMENT}),
    (Algorithm.ADAM, {"grad_ema": Slot.FIRST_MOMENT, "grad_sq_ema": Slot.SECOND_MOMENT}),
    (Algorithm.SGD, {"momentum": Slot.MOMENTUM}),
)  # fmt: skip


_MUON = (Algorithm.MUON,)
_State = tuple[str, Kind, dict[Node, Node], str]


def lift(path: str, found: Found, settings: Mapping[str, str]) -> list[Optimizer]:
    """The optimizers at `path`: one, or one for each label of a `multi_transform`."""
    chains: dict[str, list[_State]] = {}
    for state in found.states:
        chains.setdefault(state[0].rpartition("/")[0], []).append(state)
    optimizers: list[Optimizer] = []
    for states in chains.values():
        # RMSprop's momentum is a state of its own
        traces = [state for state in states if "trace" in state[1].fields]
        scaled = [state for state in states if state[1].algorithms == (Algorithm.RMSPROP,)]
        merged = traces if traces and len(scaled) == 1 else []
        for state in states:
            if state not in merged or not scaled:
                more = merged if state in scaled else []
                optimizers.append(_optimizer(path, state, more, found, settings))
    if len(optimizers) == 1:
        return [replace(optimizers[0], name=path)]
    return optimizers


def _optimizer(
    path: str,
    state: _State,
    more: list[_State],
    found: Found,
    settings: Mapping[str, str],
) -> Optimizer:
    place, kind, fields, after = state
    slots: dict[str, dict[str, Origin]] = {}
    for where, one, values, _ in (state, *more):
        for name, slot in one.slots.items():
            _collect(slots, at(where, name), values[name], slot)
    for where, average in found.averages:
        _collect(slots, where, average, Slot.AVERAGE)
    algorithms, decay, assumption = _fitting(kind, after)
    if Algorithm.ADAM in algorithms and any(
        one.algorithms == _MUON for _, one, _, _ in found.states
    ):
        algorithms = (Algorithm.ADAM,)  # beside Muon, for what is no matrix
    said = settings.get("optimizer", "")
    if said.replace("adamw", "adam") in algorithms:
        algorithms = (Algorithm(said.replace("adamw", "adam")),)
        decay = {"adam": decay, "adamw": Decay.DECOUPLED}.get(said, decay)
        assumption = ""
    hyperparameters = {
        _NAMES.get(name, name): number(value)
        for name, value in list(found.hyperparameters.items())[:_READ]
    }
    if decay is not None:
        hyperparameters["decay"] = decay
    if len(algorithms) == 1:
        hyperparameters |= _forms(algorithms[0], (state, *more))
    if Algorithm.RMSPROP in algorithms and "eps_form" not in settings:
        assumption = _IN_SQRT
    counts = _counts(place, fields, found)
    step = next((origin.value for origin in counts.values()), None)
    name = place.rpartition("/")[0].removesuffix("/inner_state")
    return Optimizer(
        name or path,
        algorithms,
        (Group(tuple(slots), hyperparameters),),
        slots,
        step,
        _ambiguity(algorithms),
        (assumption,) if assumption else (),
        counts,
    )


def _counts(path: str, fields: Mapping[Node, Node], found: Found) -> dict[str, Origin]:
    """The counts of a state, and those of the schedules in its chain."""
    counts = {at(path, name): fields[name] for name in ("count", "step_count") if name in fields}
    chain = path.rpartition("/")[0]
    counts |= {place: node for place, node in found.counts if place.startswith(f"{chain}/")}
    known = {place: number(node) for place, node in counts.items()}
    return {
        place: Origin(place, count)
        for place, count in known.items()
        if isinstance(count, int) and not isinstance(count, bool)
    }


def _forms(algorithm: Algorithm, states: Sequence[_State]) -> dict[str, Any]:
    """What optax' class and the order of its chain say."""
    forms = dict(_FORMS.get(algorithm, {}))
    fields = frozenset[str]().union(*[kind.fields for _, kind, _, _ in states])
    if algorithm is Algorithm.ADAM:
        forms["amsgrad"] = "corrected" if "nu_max" in fields else None
    if algorithm is Algorithm.RMSPROP:
        forms["centered"] = "mu" in fields
        if "trace" not in fields:
            forms["momentum"] = 0
    last = [after for _, kind, _, after in states if "trace" in kind.fields]
    if last and not last[0]:  # the momentum comes after the learning rate
        forms |= {"lr_in_momentum": True, "momentum_sign": -1}
    elif last:
        forms["lr_in_momentum"] = False
    return forms


def _collect(slots: dict[str, dict[str, Origin]], path: str, node: Node, slot: Slot) -> None:
    for name, place, tensor in tensors_below(path, node):
        slots.setdefault(name, {})[slot] = Origin(place, tensor)


def _fitting(kind: Kind, after: str) -> tuple[tuple[Algorithm, ...], Decay | None, str]:
    """What the chain after a state leaves of its algorithms and says of weight decay."""
    if Algorithm.LION in kind.algorithms and after[:1] == "e" and len(after) > 1:
        return kind.algorithms, Decay.DECOUPLED, ""
    if Algorithm.ADAM not in kind.algorithms:
        return kind.algorithms, None, ""
    ratio = after[:2] == "ee" and len(after) == 3
    algorithms = tuple([one for one in kind.algorithms if one is not Algorithm.LAMB or ratio])
    if len(after) == 1 or after[:1] == "c":
        return algorithms, Decay.NONE, ""
    if after[:1] == "e":
        return algorithms, Decay.DECOUPLED, (
            "the empty state after the moments' is taken for that of add_decayed_weights"
        )  # fmt: skip
    return algorithms, None, ""


def _ambiguity(algorithms: tuple[Algorithm, ...]) -> str:
    if len(algorithms) == 1:
        return ""
    names = ", ".join(map(str, algorithms))
    return f"optax keeps the same state for {names}: choose with --set optimizer=NAME"


def stateless(path: str, parameters: tuple[str, ...], counts: Mapping[str, Origin]) -> Optimizer:
    """An optimizer whose states are empty, or only `counts`."""
    return Optimizer(
        path,
        (Algorithm.SGD,),
        (Group(parameters, {"momentum": 0, "dampening": 0}),),
        {},
        next((origin.value for origin in counts.values()), None),
        assumptions=("an optimizer without a state is taken for plain SGD",),
        counts=counts,
    )


def lift_old(path: str, node: Node) -> tuple[Optimizer, set[str]]:
    """A flax.optim state, {step, param_states}, and the paths that it explains.

    Raises `DamagedError` where it holds something else.
    """
    fields = record(node) or {}
    base = at(path, "param_states")
    leaves: list[tuple[str, str, str, Tensor]] = []
    for name, place, tensor in tensors_below(base, fields.get("param_states")):
        owner, _, slot = name.rpartition("/")
        leaves.append((owner, slot, place, tensor))
    names = {slot for _, slot, _, _ in leaves}
    algorithm, known = next(
        ((one, slots) for one, slots in _OLD if names and names <= set(slots)), (None, None)
    )
    if algorithm is None or known is None:
        raise DamagedError(f"expected the slots of flax.optim, found {', '.join(sorted(names))}")
    slots: dict[str, dict[str, Origin]] = {}
    for owner, slot, place, tensor in leaves:
        slots.setdefault(owner, {})[known[slot]] = Origin(place, tensor)
    step = number(fields.get("step"))
    optimizer = Optimizer(
        path, (algorithm,), (Group(tuple(slots)),), slots, step if isinstance(step, int) else None
    )
    return optimizer, {base, at(path, "step")}
