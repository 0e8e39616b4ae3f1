"""Modules: their state dict over their own memory, with what a state dict leaves out.

A module becomes the OrderedDict that `state_dict()` is. Its tensors say what they are (`role`,
`layer`, `axes`, `trained`); non-persistent buffers stand in its attribute `non_persistent`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from portackpt.errors import PortackptError, UsageError
from portackpt.live.containers import mapping
from portackpt.roles import Role
from portackpt.tensor import Tensor
from portackpt.tree import Node, Object, escape
from portackpt_torch.live import tensors
from portackpt_torch.live.layers import layers

if TYPE_CHECKING:
    from portackpt.live import Capture, Restoring

_EXTRA = "_extra_state"
_ASIDE = "non_persistent"


def capture(module: Any, scene: Capture, path: str) -> Node:
    known = layers(module)
    states = module.state_dict(keep_vars=True)
    entries: dict[Node, Node] = {}
    for name, value in states.items():
        place = f"{path}/{escape(name)}"
        if hasattr(value, "untyped_storage"):
            entries[name] = tensors.capture(value, scene, place, _told(value, known.get(name)))
        else:
            entries[name] = scene.node(value, place)
    state: dict[Node, Node] = {}
    metadata = getattr(states, "_metadata", None)
    if metadata is not None:
        state["_metadata"] = scene.node(metadata, f"{path}/~._metadata")
    aside = {
        name: tensors.capture(value, scene, f"{path}/~.{_ASIDE}/{escape(name)}", {"role": "buffer"})
        for name, value in _aside(module).items()
    }
    if aside:
        state[_ASIDE] = aside
    return Object("collections.OrderedDict", entries=entries, state=state or None)


def _told(value: Any, layer: dict[str, str] | None) -> dict[str, Any]:
    parameter = any(kind.__name__ == "Parameter" for kind in type(value).__mro__)
    told: dict[str, Any] = {"role": str(Role.PARAMETER if parameter else Role.BUFFER)}
    if parameter and not value.requires_grad:
        told["trained"] = False
    return told | (layer or {})


def _aside(module: Any) -> dict[str, Any]:
    """The buffers that `state_dict` leaves out, by FQN."""
    found: dict[str, Any] = {}
    for prefix, part in module.named_modules():
        for name in sorted(part._non_persistent_buffers_set):
            value = part._buffers.get(name)
            if value is not None:
                found[f"{prefix}.{name}" if prefix else name] = value
    return found


def compare(module: Any, node: Node, scene: Restoring, path: str) -> None:
    entries = mapping(node)
    if entries is None:
        scene.fault(path, "expected the state dict of a module")
        return
    states = module.state_dict(keep_vars=True)
    for name in scene.pair(states, entries, path):
        if hasattr(states[name], "untyped_storage"):
            tensors.compare(states[name], entries[name], scene, f"{path}/{escape(name)}")
    aside = _saved_aside(node)
    for name, value in _aside(module).items():
        if name in aside:
            tensors.compare(value, aside[name], scene, f"{path}/~.{_ASIDE}/{escape(name)}")


def _saved_aside(node: Node) -> dict[str, Tensor]:
    """Empty where the checkpoint was made of a state dict: the module makes such buffers itself."""
    state = node.state if isinstance(node, Object) else None
    found = state.get(_ASIDE) if isinstance(state, dict) else None
    return found if isinstance(found, dict) else {}


def restore(module: Any, node: Node, scene: Restoring, path: str) -> Any:
    entries = mapping(node) or {}
    states = module.state_dict(keep_vars=True)
    if not _is_alias(module, states):
        return _load(module, entries, scene, path)
    filled: set[int] = set()
    extra: dict[str, Node] = {}
    for name, value in states.items():
        if name not in entries:
            continue
        saved = entries[name]
        if not isinstance(saved, Tensor) or not hasattr(value, "untyped_storage"):
            extra[name] = saved
            continue
        if id(value) not in filled:
            tensors.restore(value, saved, scene, path)
            filled.add(id(value))
        if "role" in saved.attributes and value.is_leaf and value.is_floating_point():
            trained = saved.attributes["role"] == Role.PARAMETER
            value.requires_grad_(trained and saved.attributes.get("trained", True))
    for name, saved in extra.items():
        owner = module.get_submodule(name.removesuffix(_EXTRA).removesuffix("."))
        owner.set_extra_state(scene.revive(saved))
    aside = _saved_aside(node)
    for name, value in _aside(module).items():
        if name in aside:
            tensors.restore(value, aside[name], scene, path)
    return module


def _is_alias(module: Any, states: Any) -> bool:
    """Whether a state dict's tensors are the module's own, and not made by a hook."""
    own = {value.data_ptr() for value in module.parameters()}
    own |= {value.data_ptr() for value in module.buffers()}
    return all(
        value.data_ptr() in own if hasattr(value, "untyped_storage") else name.endswith(_EXTRA)
        for name, value in states.items()
    )


def _load(module: Any, entries: dict[Node, Node], scene: Restoring, path: str) -> Any:
    """By the module's own `load_state_dict`: it spells its state in its own way."""
    try:
        module.load_state_dict(OrderedDict((n, scene.revive(v)) for n, v in entries.items()),
                               strict=False)  # fmt: skip
    except PortackptError:
        raise
    except Exception as error:
        raise UsageError(f"load_state_dict does not take what was saved: {error}", path) from error
    return module
