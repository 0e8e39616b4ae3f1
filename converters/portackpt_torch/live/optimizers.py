"""Optimizers: their state dict, with the names of the parameters that they update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from portackpt.live.containers import mapping
from portackpt.roles import Role
from portackpt.tensor import Tensor
from portackpt.tree import Node, escape
from portackpt_torch.live import tensors

if TYPE_CHECKING:
    from portackpt.live import Capture, Restoring

_NAMES = "param_names"
_FACTORED = ("row_var", "col_var")


def capture(optimizer: Any, scene: Capture, path: str) -> Node:
    """The state dict. Every parameter has to be one of a module that is saved, too."""
    state = optimizer.state_dict()
    names = _names(scene.objects)
    if names:
        for index, (group, saved) in enumerate(
            zip(optimizer.param_groups, state["param_groups"], strict=True)
        ):
            own = [names.get(id(parameter)) for parameter in group["params"]]
            for number, name in enumerate(own):
                if name is None:
                    scene.fault(
                        f"{path}/param_groups/{index}/params/{number}",
                        "the optimizer updates a parameter that no saved module has",
                    )
            saved[_NAMES] = own
    return {
        key: _state(part, scene, f"{path}/{key}") if key == "state" else
        scene.node(part, f"{path}/{escape(str(key))}")
        for key, part in state.items()
    }  # fmt: skip


def _state(state: Mapping[Any, Any], scene: Capture, path: str) -> Node:
    """The slots, each marked as such."""
    found: dict[Node, Node] = {}
    for number, slots in state.items():
        if not isinstance(slots, dict):
            found[number] = scene.node(slots, f"{path}/{number}")
            continue
        found[number] = {
            name: tensors.capture(value, scene, f"{path}/{number}/{name}", {"role": str(Role.SLOT)})
            if hasattr(value, "untyped_storage") and value.dim()
            else scene.node(value, f"{path}/{number}/{name}")
            for name, value in slots.items()
        }
    return found


def _names(objects: Mapping[str, Any]) -> dict[int, str]:
    """Names of all parameters, by identity: in a module its FQN, elsewhere the object's name."""
    found: dict[int, str] = {}
    modules = list(_modules(objects.values()))
    for module in modules:
        for name, parameter in module.named_parameters():
            found.setdefault(id(parameter), name)
    if modules:
        for name, value in objects.items():
            if hasattr(value, "untyped_storage"):
                found.setdefault(id(value), name)
    return found


def _modules(values: Any) -> Iterator[Any]:
    for value in values:
        if hasattr(value, "named_parameters"):
            yield value
        elif isinstance(value, dict):
            yield from _modules(value.values())
        elif isinstance(value, (list, tuple)):
            yield from _modules(value)


def compare(optimizer: Any, node: Node, scene: Restoring, path: str) -> None:
    entries = mapping(node)
    groups = entries.get("param_groups") if entries else None
    if entries is None or not isinstance(groups, list) or mapping(entries.get("state")) is None:
        scene.fault(path, "expected the state dict of an optimizer: state and param_groups")
        return
    if len(groups) != len(optimizer.param_groups):
        scene.fault(f"{path}/param_groups", f"expected {len(optimizer.param_groups)} groups, "
                    f"found {len(groups)}")  # fmt: skip
        return
    names = _names(scene.objects)
    parameters: dict[Any, Any] = {}
    for index, (own, saved) in enumerate(zip(optimizer.param_groups, groups, strict=True)):
        place = f"{path}/param_groups/{index}"
        group = mapping(saved) or {}
        for name in optimizer.defaults:
            if name not in group:
                scene.fault(f"{place}/{name}", "missing from the checkpoint: it is the state of "
                            f"another optimizer than {type(optimizer).__name__}")  # fmt: skip
        numbers = group.get("params")
        if not isinstance(numbers, list) or len(numbers) != len(own["params"]):
            count = len(numbers) if isinstance(numbers, list) else 0
            scene.fault(
                f"{place}/params", f"expected {len(own['params'])} parameters, found {count}"
            )
            continue
        parameters |= dict(zip(numbers, own["params"], strict=True))
        _compare_names(own["params"], names, group.get(_NAMES), scene, f"{place}/params")
    _compare_slots(optimizer, mapping(entries["state"]) or {}, parameters, scene, f"{path}/state")


def _compare_names(
    own: list[Any], names: Mapping[int, str], saved: Node, scene: Restoring, path: str
) -> None:
    """A slot goes by its number: two parameters that changed places would change slots."""
    if not isinstance(saved, list):
        return
    for number, (parameter, name) in enumerate(zip(own, saved, strict=False)):
        here = names.get(id(parameter))
        if here is not None and name is not None and here != name:
            scene.fault(f"{path}/{number}", f"it is {here} here, and was {name} when it was saved")


def _compare_slots(
    optimizer: Any,
    state: Mapping[Node, Node],
    parameters: Mapping[Any, Any],
    scene: Restoring,
    path: str,
) -> None:
    for number, slots in state.items():
        parameter = parameters.get(number)
        if parameter is None:
            if mapping(slots) is not None:
                scene.fault(f"{path}/{number}", "the state of a parameter that is in no group")
            continue
        own = optimizer.state.get(parameter, {})
        for name, value in (mapping(slots) or {}).items():
            if not isinstance(value, Tensor):
                continue
            like = own.get(name)
            shape = tuple(like.shape if hasattr(like, "untyped_storage") else parameter.shape)
            same_rank = len(value.shape) == len(shape) and len(shape)
            if same_rank and value.shape != shape and name not in _FACTORED:
                scene.fault(f"{path}/{number}/{name}",
                            f"expected {list(shape)}, found {list(value.shape)}")  # fmt: skip


def restore(optimizer: Any, node: Node, scene: Restoring, path: str) -> Any:
    """Through `load_state_dict`; slots of another dtype than their parameter keep it."""
    entries = mapping(node) or {}
    state: dict[Any, Any] = {key: scene.revive(part) for key, part in entries.items()
                             if key not in ("state", "param_groups")}  # fmt: skip
    groups = scene.revive(entries["param_groups"])
    numbers: dict[Any, Any] = {}
    for own, saved in zip(optimizer.param_groups, groups, strict=True):
        numbers |= dict(zip(saved["params"], own["params"], strict=True))
        if _NAMES not in own:
            saved.pop(_NAMES, None)
    slots = {
        number: _slots(optimizer, numbers.get(number), saved, scene)
        for number, saved in (mapping(entries["state"]) or {}).items()
    }
    optimizer.load_state_dict({**state, "state": slots, "param_groups": groups})
    for number, own in slots.items():
        if number not in numbers or not isinstance(own, dict):
            continue
        live: dict[str, Any] = optimizer.state.get(numbers[number], {})
        for name, value in own.items():
            if hasattr(value, "untyped_storage") and live[name].dtype != value.dtype:
                live[name] = value.to(live[name].device)
    return optimizer


def _slots(optimizer: Any, parameter: Any, saved: Node, scene: Restoring) -> Any:
    """The slots of one parameter: in the memory of those that it has, where they are alike."""
    entries = mapping(saved)
    own = optimizer.state.get(parameter) if parameter is not None else None
    if entries is None:
        return scene.revive(saved)
    return {name: _slot((own or {}).get(name), value, scene) for name, value in entries.items()}


def _slot(like: Any, saved: Node, scene: Restoring) -> Any:
    same = (
        hasattr(like, "untyped_storage")
        and isinstance(saved, Tensor)
        and tuple(like.shape) == saved.shape
        and tensors.dtype_of(like) is saved.dtype
    )
    return tensors.restore(like, saved, scene, "") if same else scene.revive(saved)
