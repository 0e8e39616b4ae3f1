"""Canonical optimizers out of optax' states, and of flax.optim's before it.

optax keeps no hyperparameters but those of `inject_hyperparams`, and the same state for several
algorithms: what follows in the chain is evidence for some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from portackpt.errors import DamagedError
from portackpt.optimizers import Algorithm, Decay, Group, Optimizer, Origin, Slot
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
# fields of flax.optim's and T5X' states of one parameter
_OLD: tuple[tuple[Algorithm, dict[str, Slot]], ...] = (
    (Algorithm.ADAFACTOR, {"v_row": Slot.ROW_MOMENT, "v_col": Slot.COLUMN_MOMENT,
                           "v": Slot.SECOND_MOMENT, "m": Slot.FIRST_MOMENT}),
    (Algorithm.ADAM, {"grad_ema": Slot.FIRST_MOMENT, "grad_sq_ema": Slot.SECOND_MOMENT}),
    (Algorithm.SGD, {"momentum": Slot.MOMENTUM}),
)  # fmt: skip


def lift(path: str, found: Found, settings: Mapping[str, str]) -> list[Optimizer]:
    """The optimizers at `path`: one, or one for each label of a `multi_transform`."""
    chains: dict[str, list[tuple[str, Kind, dict[Node, Node], str]]] = {}
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
    state: tuple[str, Kind, dict[Node, Node], str],
    more: list[tuple[str, Kind, dict[Node, Node], str]],
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
    step = number(fields.get("count", fields.get("step_count")))
    name = place.rpartition("/")[0].removesuffix("/inner_state")
    return Optimizer(
        name or path,
        algorithms,
        (Group(tuple(slots), hyperparameters),),
        slots,
        step if isinstance(step, int) else None,
        _ambiguity(algorithms),
        (assumption,) if assumption else (),
        _counts(place, fields),
    )


def _counts(path: str, fields: Mapping[Node, Node]) -> dict[str, Origin]:
    return {
        at(path, name): Origin(at(path, name), number(fields[name]))
        for name in ("count", "step_count") if name in fields
    }  # fmt: skip


def _collect(slots: dict[str, dict[str, Origin]], path: str, node: Node, slot: Slot) -> None:
    for name, place, tensor in tensors_below(path, node):
        slots.setdefault(name, {})[slot] = Origin(place, tensor)


def _fitting(kind: Kind, after: str) -> tuple[tuple[Algorithm, ...], Decay | None, str]:
    """What the chain after a state leaves of its algorithms and says of weight decay."""
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


def stateless(path: str, parameters: tuple[str, ...]) -> Optimizer:
    """An optimizer whose states are all empty."""
    return Optimizer(
        path,
        (Algorithm.SGD,),
        (Group(parameters),),
        {},
        assumptions=("an optimizer without a state is taken for plain SGD",),
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
