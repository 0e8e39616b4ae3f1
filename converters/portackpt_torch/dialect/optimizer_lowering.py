"""Optimizers as torch's: the state dict that each loads, and the code that builds it.

    {"state": {0: {"step": …, "exp_avg": …}, …},
     "param_groups": [{"lr": …, "betas": (…), …, "params": [0, 1, …], "param_names": […]}]}

A parameter without all the slots that its class needs has no state: torch starts it anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from portackpt.bytesource import InMemory
from portackpt.dtypes import BY_NAME, DType
from portackpt.elementwise import computed
from portackpt.ledger import NONE, Fate
from portackpt.moved import Moved, MovedOptimizer, created
from portackpt.optimizers import Algorithm, Group, Slot
from portackpt.tensor import Tensor, contiguous
from portackpt.tree import Node, rebuild
from portackpt_torch.dialect import bridges
from portackpt_torch.dialect.drafts import EXACT, Target
from portackpt_torch.dialect.schedule_lowering import STAYS
from portackpt_torch.dialect.targets import target

_ANEW = "the optimizer starts anew for this parameter"
_COUNTED = 1 << 24
"""Counts up to here are whole numbers of float32, the dtype that torch counts in."""
_DIGITS = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}


@dataclass(frozen=True, slots=True, eq=False)
class LoweredOptimizer:
    """`states` and `groups` of a state dict (leaves are `Moved`), its class, and what was lost.

    `first` are the options that the code constructs it with. `states` are by parameter: its number
    in `state` is its place in the groups' concatenation.
    """

    target: Target
    first: Mapping[str, Any]
    states: Mapping[str, dict[Node, Node]]
    groups: tuple[dict[Node, Node], ...]
    names: tuple[tuple[str, ...], ...]
    notes: Mapping[str, tuple[str, str]]

    @property
    def node(self) -> dict[Node, Node]:
        """The whole state dict, as torch would have written it."""
        numbers: dict[str, int] = {}
        for members in self.names:
            for name in members:
                numbers.setdefault(name, len(numbers))
        groups = []
        for options, members in zip(self.groups, self.names, strict=True):
            listed = {"params": [numbers[name] for name in members], "param_names": [*members]}
            groups.append({**options, **_told(listed, "torch's numbering of the parameters")})
        state = {numbers[name]: own for name, own in self.states.items() if name in numbers}
        return {"state": dict(sorted(state.items())), "param_groups": groups}


def lower(
    optimizer: MovedOptimizer,
    parameters: Mapping[str, Moved],
    rates: Sequence[Mapping[str, Any]] | None,
    scheduled: bool,
) -> LoweredOptimizer:
    """`optimizer` as torch's; `rates` are what a scheduler keeps in each of its groups."""
    if rates is None:
        optimizer.need("lr")
    found = target(optimizer, scheduled)
    stays = STAYS if scheduled and rates is None else NONE
    groups = [
        _options(found, options, rates[index] if rates else {}, _assumed(optimizer, index), stays)
        for index, options in enumerate(found.groups)
    ]
    states: dict[str, dict[Node, Node]] = {}
    notes: dict[str, tuple[str, str]] = {}
    for group, options in zip(optimizer.groups, found.groups, strict=True):
        for name in group.parameters:
            own = _state(optimizer, found, group, options, name, parameters, notes)
            if own:
                states[name] = own
    members = tuple([group.parameters for group in optimizer.groups])
    start = {**found.groups[0], **(rates[0] if rates else {})}
    first = {**found.groups[0], "lr": start.get("initial_lr", start["lr"])}
    return LoweredOptimizer(found, first, states, tuple(groups), members, notes)


def _options(
    found: Target,
    options: Mapping[str, Any],
    rates: Mapping[str, Any],
    assumed: str,
    consequence: str,
) -> dict[Node, Node]:
    """A group's options, with what its scheduler keeps there."""
    merged = {**options, **{name: rate for name, rate in rates.items() if name != "beta1"}}
    if "beta1" in rates:
        merged["betas"] = (rates["beta1"], options["betas"][1])
    told = _told(merged, f"an option of {found.kind}")
    told["lr"] = replace(told["lr"], assumption=assumed, consequence=consequence)
    return told


def _told(node: Mapping[Any, Any], detail: str) -> dict[Node, Node]:
    found: dict[Node, Node] = rebuild(dict(node), lambda path, leaf: created(leaf, detail))
    return found


# what an optimizer is taken to be without, where its source does not say
_FLAGS: Mapping[Algorithm, tuple[str, ...]] = {
    Algorithm.SGD: ("nesterov", "decay"),
    Algorithm.RMSPROP: ("eps_form", "decay"),
    Algorithm.MUON: ("nesterov", "decay"),
}


def _assumed(optimizer: MovedOptimizer, index: int) -> str:
    known = optimizer.groups[index].hyperparameters
    missing = [
        name for name in _FLAGS.get(optimizer.algorithm, ("decay",))
        if name not in known and (name != "nesterov" or optimizer.slots)
    ]  # fmt: skip
    return "".join([f"no {_WORDS[name]}, for the source names none" for name in missing[:1]])


_WORDS = {"nesterov": "Nesterov momentum", "decay": "weight decay", "eps_form": "form of epsilon"}


def _state(
    optimizer: MovedOptimizer,
    found: Target,
    group: Group,
    options: Mapping[str, Any],
    name: str,
    parameters: Mapping[str, Moved],
    notes: dict[str, tuple[str, str]],
) -> dict[Node, Node]:
    """What torch keeps of one parameter; nothing where a slot is missing that it needs."""
    own = optimizer.slots.get(name, {})
    slots: dict[Node, Node] = {}
    parameter = parameters.get(name)
    for slot, moved in own.items():
        if slot not in found.slots:
            told = f"torch's {found.kind} keeps no {slot}"
            notes |= dict.fromkeys(moved.sources, (told, NONE))
            continue
        native, change = found.slots[slot]
        value = moved if change is None else change(moved, group)
        if not _is_stub(value.value, parameter):
            slots[native] = _finished(value, found, parameter)
    if "row_var" in slots:
        slots.pop("variance", None)  # their product
    step = optimizer.steps.get(name, optimizer.step)
    slots |= _made(optimizer, found, options, own, parameter, step)
    if not slots:
        return {}
    if not any(names <= slots.keys() for names in found.required):
        notes |= {
            path: (f"not all slots of {name} have a place", _ANEW)
            for moved in own.values() for path in moved.sources
        }  # fmt: skip
        return {}
    if found.counted or (found.rules and slots):
        return {"step": counted(step), **slots}
    return slots


def _made(
    optimizer: MovedOptimizer,
    found: Target,
    options: Mapping[str, Any],
    own: Mapping[str, Moved],
    parameter: Moved | None,
    step: Moved,
) -> dict[Node, Node]:
    """Slots that torch cannot do without, and the source does."""
    if optimizer.algorithm is Algorithm.NADAM and own and Slot.MOMENTUM_PRODUCT not in own:
        product = _product(options["betas"][0], options["momentum_decay"], int(step.value))
        wide = _dtype(parameter) == "float64"
        told = "the product of the momenta so far, computed from the count"
        value = number(product, BY_NAME["float64" if wide else "float32"])
        return {"mu_product": created(value, told)}
    if optimizer.algorithm is Algorithm.ADAGRAD and not own and parameter is not None:
        start = options["initial_accumulator_value"]
        value = computed(lambda array: array * 0 + start, parameter.value)
        return {"sum": created(value, "the sum of squares before the first update", _ANEW)}
    return {}


def _is_stub(value: Node, parameter: Moved | None) -> bool:
    """Whether a slot is the placeholder of one that is not in use: optax' zeros of shape (1,)."""
    whole = parameter.value if parameter is not None else None
    return (
        isinstance(value, Tensor) and isinstance(whole, Tensor)
        and value.shape == (1,) and whole.size > 1 and len(whole.shape) != 1
    )  # fmt: skip


def _product(beta1: float, decay: float, steps: int) -> float:
    """The product of torch's momenta of the first `steps` updates."""
    if decay >= 1e6:
        return float(beta1**steps)
    result = 1.0
    for step in range(1, steps + 1):
        result *= beta1 * (1 - 0.5 * 0.96 ** (step * decay))
        if not result:
            break
    return result


def _dtype(moved: Moved | None) -> str:
    return moved.value.dtype.name if moved and isinstance(moved.value, Tensor) else "float32"


def _finished(moved: Moved, found: Target, parameter: Moved | None) -> Moved:
    """A slot's value with what is to be said of it in torch."""
    tensor = moved.value
    if not isinstance(tensor, Tensor):
        tensor = number(float(tensor), BY_NAME["float32"])
    if tensor.size == 1:  # torch changes numbers in place: each parameter has its own
        tensor = replace(tensor)
        if not tensor.shape and tensor.dtype.name in _DIGITS:
            tensor = number(tensor.item(), tensor.dtype)
    moved = replace(moved, value=tensor)
    if found.condition:
        told = f"exact with the optimizer of the code: {found.condition}"
        moved = moved.then(tensor, Fate.EQUIVALENT, told, tolerance=EXACT)
    kept, has = _DIGITS.get(_dtype(parameter)), _DIGITS.get(tensor.dtype.name)
    if parameter is not None and kept is not None and has is not None and kept < has:
        told = f"torch rounds it to {_dtype(parameter)}, its parameter's dtype, as it is loaded"
        moved = moved.then(
            tensor, Fate.APPROXIMATE, told, "digits of the optimizer's slots are lost", 2.0**-kept
        )
    return moved


def counted(step: Moved) -> Moved:
    """A count of updates as torch keeps it: a number in float32, a tensor of its own."""
    count = step.value if isinstance(step.value, int | float) else 0
    wide = count >= _COUNTED
    value = number(float(count), BY_NAME["float64" if wide else "float32"])
    if wide:
        told = "as float64: torch's own float32 would stand still at 2**24"
        return step.then(value, Fate.EXACT, told)
    return replace(step, value=value)


def number(value: float, dtype: DType) -> Tensor:
    """A tensor of no dimension."""
    import struct

    code = {"float64": "<d", "float32": "<f", "float16": "<e"}.get(dtype.name)
    if code is None:
        import numpy as np

        data = np.asarray(value, dtype.to_numpy()).tobytes()
    else:
        data = struct.pack(code, value)
    return contiguous(dtype, (), InMemory(data))


def code(lowered: LoweredOptimizer, name: str, groups: str) -> Iterator[str]:
    """Statements that define `name` over the parameters in `groups`, an expression."""
    found = lowered.target
    for rule in found.rules:
        yield rule.strip("\n")
    for hook in found.hooks:
        yield bridges.HOOKS[hook].strip("\n")
    own = found.kind if found.rules else f"torch.optim.{found.kind}"
    options = {
        key: value
        for key, value in lowered.first.items()
        if key in found.accepted and value is not None and value is not False
        and not (key == "decoupled_weight_decay" and own.endswith("AdamW"))
    }  # fmt: skip
    arguments = ", ".join([f"{key}={value!r}" for key, value in options.items()])
    lines = [f"{name} = {own}(\n    {groups}, {arguments}\n)"]
    lines += [f"{name}.register_step_pre_hook({hook})" for hook in found.hooks]
    yield "\n".join(lines)
