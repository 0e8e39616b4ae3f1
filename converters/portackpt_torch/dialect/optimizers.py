"""torch.optim state dicts as canonical optimizers.

    {"state": {0: {"step": …, "exp_avg": …}, …},
     "param_groups": [{"lr": …, "betas": (…), …, "params": [0, 1, …], "param_names": […]}]}

Nothing in it says which class wrote it: the options of the groups and the slots of the state do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from portackpt.errors import PortackptError
from portackpt.optimizers import Algorithm, Decay, Group, Optimizer, Origin, Slot
from portackpt.run import at
from portackpt.tensor import Tensor
from portackpt.tree import Node, children, escape
from portackpt_torch.dialect.assignment import Assignment, Key, Model, Shape, assign
from portackpt_torch.dialect.bridge_options import canonical
from portackpt_torch.dialect.optimizer_kinds import LIKE_PARAMETER, NATIVE, Kind, kinds
from portackpt_torch.dialect.shapes import narrowed
from portackpt_torch.dialect.state_reader import mapping

_FACTORS: Mapping[str, int] = {Slot.ROW_MOMENT: -1, Slot.COLUMN_MOMENT: -2}
_READ = 64
"""Numbers of so many groups are read where they are tensors."""
_PAIRS = {
    "betas": ("beta1", "beta2"),
    "etas": ("eta_minus", "eta_plus"),
    "step_sizes": ("step_min", "step_max"),
    "eps": ("eps1", "eps2"),
}


def is_state_dict(node: Node) -> bool:
    """Whether a node has the form of an optimizer's state dict."""
    found = mapping(node)
    if found is None or "param_groups" not in found or mapping(found.get("state")) is None:
        return False
    groups = found["param_groups"]
    return isinstance(groups, list) and all(
        isinstance(group, dict) and isinstance(group.get("params"), list) for group in groups
    )


def groups_of(node: Node) -> list[dict[Node, Node]]:
    """The parameter groups of a state dict."""
    return list((mapping(node) or {})["param_groups"])


def lift(
    path: str, node: Node, models: Sequence[Model], settings: Mapping[str, str]
) -> tuple[Optimizer, list[str]]:
    """The optimizer at `path` in canonical words, and the paths in it that are not known.

    `models` are those that stand in the same checkpoint.
    """
    groups = groups_of(node)
    state = {
        key: slots
        for key, value in (mapping((mapping(node) or {})["state"]) or {}).items()
        if (slots := mapping(value)) is not None
    }
    keys = [[key for key in group["params"] if isinstance(key, int | str)] for group in groups]
    names = _names(groups, keys, state, models, settings)
    fitting = _kinds(groups, state, settings)
    kind = fitting[0] if fitting else None
    decay, decay_open = _decay(fitting, groups, settings)
    slots, counts, unknown = _slots(path, node, names.names, kind)
    lifted = tuple([
        _group(group, [names.names.get(key) or str(key) for key in ks], kind, decay, i < _READ)
        for i, (group, ks) in enumerate(zip(groups, keys, strict=True))
    ])  # fmt: skip
    step = next((origin.value for origin in counts.values()), None)
    open_points = [_open(fitting, groups, state), decay_open, names.ambiguity]
    optimizer = Optimizer(
        path,
        tuple([one.algorithm for one in fitting]),
        lifted,
        slots,
        step,
        "; ".join(filter(None, open_points)),
        (names.assumption,) if names.assumption else (),
        counts,
        tuple(_rates(path, groups)),
    )
    return optimizer, unknown


def _names(
    groups: Sequence[Mapping[Node, Node]],
    keys: Sequence[Sequence[Key]],
    state: Mapping[Node, Mapping[Node, Node]],
    models: Sequence[Model],
    settings: Mapping[str, str],
) -> Assignment:
    flat = [key for ks in keys for key in ks]
    named = [
        name for group in groups
        for name in (group["param_names"] if isinstance(group.get("param_names"), list) else ())
    ]  # fmt: skip
    if flat and len(named) == len(flat):
        return Assignment({key: str(name) for key, name in zip(flat, named, strict=True)})
    if "parameters" in settings:
        told = settings["parameters"].split()
        if len(told) == len(flat):
            return Assignment(
                dict(zip(flat, told, strict=True)), "names in the order of --set parameters"
            )
        return Assignment(
            ambiguity=f"expected {len(flat)} names in --set parameters, found {len(told)}"
        )
    if flat and all(isinstance(key, str) for key in flat):
        return Assignment({key: str(key) for key in flat})
    if not models:
        return Assignment(
            assumption="no model stands beside the optimizer: its parameters keep their numbers"
        )
    shapes = {key: _shape(state.get(key, {})) for key in flat}
    found = [assign(keys, shapes, model) for model in models]
    return next((one for one in found if one.names), found[0])


def _shape(slots: Mapping[Node, Node]) -> Shape:
    """The shape of a slot that has its parameter's shape (the first with a dimension)."""
    for name, slot in slots.items():
        if name in LIKE_PARAMETER and isinstance(slot, Tensor) and slot.shape:
            return slot.shape
    return None


def _kinds(
    groups: Sequence[Mapping[Node, Node]],
    state: Mapping[Node, Mapping[Node, Node]],
    settings: Mapping[str, str],
) -> tuple[Kind, ...]:
    options = {str(name) for name in groups[0]} if groups else set()
    fitting = kinds(options, {str(name) for slots in state.values() for name in slots})
    said = settings.get("optimizer", "").replace("adamw", "adam")
    return tuple([kind for kind in fitting if kind.algorithm == said]) or fitting


def _open(
    fitting: Sequence[Kind],
    groups: Sequence[Mapping[Node, Node]],
    state: Mapping[Node, Mapping[Node, Node]],
) -> str:
    if not fitting:
        options = sorted({str(name) for name in groups[0]} - {"params"}) if groups else []
        return (
            f"no known optimizer has the options {', '.join(options) or '(none)'}; "
            "name it with --set optimizer=NAME"
        )
    if len(fitting) > 1:
        names = [str(kind.algorithm) for kind in fitting]
        return (
            f"{' or '.join(names)}: their state dicts have the same options; choose with "
            + " or ".join([f"--set optimizer={name}" for name in names])
        )
    return ""


def _decay(
    fitting: Sequence[Kind], groups: Sequence[Mapping[Node, Node]], settings: Mapping[str, str]
) -> tuple[Decay | None, str]:
    """What weight decay is (None: open), and why it is open."""
    flags = {group["decoupled_weight_decay"] for group in groups
             if isinstance(group.get("decoupled_weight_decay"), bool)}  # fmt: skip
    if flags:
        if True in flags:
            return Decay.DECOUPLED, ""
        return (Decay.L2 if _decayed(groups) else Decay.NONE), ""
    fixed = fitting[0].forms.get("decay") if fitting else None
    if fixed is not None:
        return Decay(fixed), ""
    said = settings.get("optimizer")
    if said in ("adam", "adamw"):
        return (Decay.DECOUPLED if said == "adamw" else Decay.L2), ""
    if not _decayed(groups):
        return Decay.NONE, ""
    if not any(kind.algorithm is Algorithm.ADAM for kind in fitting):
        return (Decay.L2 if fitting else None), ""
    decays = {str(group.get("weight_decay")): None for group in groups}
    return None, (
        "Adam or AdamW? This file was written before torch said which, and its weight decay is "
        f"{' and '.join(decays)}: choose with --set optimizer=adam or --set optimizer=adamw"
    )


def _decayed(groups: Sequence[Mapping[Node, Node]]) -> bool:
    return any(group.get("weight_decay") not in (None, 0) for group in groups)


def _slots(
    path: str, node: Node, names: Mapping[Key, str], kind: Kind | None
) -> tuple[dict[str, dict[str, Origin]], dict[str, Origin], list[str]]:
    """The slots and the step count of every parameter, and the paths not known."""
    base = at(path, "state")
    state = (mapping(node) or {})["state"]
    slots: dict[str, dict[str, Origin]] = {}
    counts: dict[str, Origin] = {}
    unknown: list[str] = []
    known: Mapping[str, Slot] = kind.slots if kind else {}
    others = kind.others if kind else frozenset()
    for (component, value), key in zip(_entries(state), mapping(state) or {}, strict=False):
        own: dict[str, Origin] = {}
        for native, leaf in (mapping(value) or {}).items():
            if native in ("step", "n_iter"):
                found = count(leaf)
                if found is not None:
                    place = f"{base}/{component}/{native}"
                    counts[names.get(key) or str(key)] = Origin(place, found)
            elif isinstance(leaf, Tensor):
                place = f"{base}/{component}/{escape(str(native))}"
                slot = known.get(str(native), str(native))
                own[slot] = Origin(place, _narrow(slot, leaf))
                if kind and native not in known and native not in others:
                    unknown.append(place)
        if own:
            slots[names.get(key) or str(key)] = own
    return slots, counts, unknown


def _narrow(slot: str, tensor: Tensor) -> Tensor:
    """A factor of Adafactor's without the axis of one that torch gives it."""
    axis = _FACTORS.get(slot)
    if axis is None or len(tensor.shape) < 2 or tensor.shape[axis] != 1:
        return tensor
    return narrowed(tensor, axis)


def _rates(path: str, groups: Sequence[Mapping[Node, Node]]) -> Iterator[Origin]:
    """The leaves that hold the groups' learning rates."""
    for index, group in enumerate(groups):
        if "lr" in group:
            place = f"{at(path, 'param_groups')}/{index}/lr"
            yield Origin(place, _number(group["lr"], index < _READ))


def _entries(node: Node) -> list[tuple[str, Node]]:
    """The entries of a mapping with their path components (without other parts of an object)."""
    return [(name, item) for name, item in children(node) if not name.startswith("~(")]


def _group(
    group: Mapping[Node, Node],
    members: list[str],
    kind: Kind | None,
    decay: Decay | None,
    read: bool,
) -> Group:
    known: dict[str, Any] = {} if decay is None else {"decay": decay}
    native: dict[str, Any] = {}
    renamed = kind.renamed if kind else {}
    for option, value in group.items():
        if option in ("params", "param_names"):
            continue
        if option in NATIVE:
            native[str(option)] = value
        elif option in _PAIRS and isinstance(value, tuple | list) and len(value) == 2:
            pair = [_number(one, read) for one in value]
            known |= dict(zip(_PAIRS[str(option)], pair, strict=True))
        elif option == "amsgrad":
            known["amsgrad"] = "uncorrected" if value else None
        else:
            known[renamed.get(str(option), str(option))] = _number(value, read)
    forms = {name: form for name, form in (kind.forms if kind else {}).items() if name != "decay"}
    told = {**known, **forms}
    return Group(tuple(members), canonical(told, kind.algorithm) if kind else told, native)


def _number(value: Node, read: bool) -> Any:
    if not isinstance(value, Tensor):
        return value
    if not read or value.shape:
        return None
    try:
        return value.item()
    except PortackptError:
        return None


def count(leaf: Node) -> int | None:
    """A whole number, also as a tensor of one; None for anything else."""
    found = _number(leaf, True) if isinstance(leaf, Tensor) else leaf
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return int(found) if abs(found) < 1 << 63 else None
