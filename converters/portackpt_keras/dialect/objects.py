"""The object graph of a tf.train.Checkpoint: which variable of an optimizer is which.

Keras 3 keys an optimizer's variables by position (`optimizer/_variables/7`); the graph also leads
to them by what they are: `_momentums/3`, `_velocities/3`. See `portackpt_tensorflow.objectgraph`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from portackpt.optimizers import Slot
from portackpt.tree import escape
from portackpt_tensorflow.naming import object_path
from portackpt_tensorflow.wire import fields, text

_CHILD, _ATTRIBUTE, _ID, _NAME, _KEY = 0x0A, 0x12, 0x08, 0x12, 0x1A
ATTRIBUTES: Mapping[str, Slot] = {
    "_momentums": Slot.FIRST_MOMENT,
    "momentums": Slot.MOMENTUM,
    "_velocities": Slot.SECOND_MOMENT,
    "_velocity_hats": Slot.MAX_SECOND_MOMENT,
    "_m": Slot.FIRST_MOMENT,
    "_u": Slot.INFINITY_NORM,
    "_average_gradients": Slot.MEAN_GRADIENT,
    "_accumulators": Slot.SUM_OF_SQUARES,
    "_linears": Slot.LINEAR,
    "_accumulated_grads": Slot.SECOND_MOMENT,
    "_accumulated_delta_vars": Slot.MEAN_SQUARED_UPDATE,
    "_model_variables_moving_average": Slot.AVERAGE,
}


@dataclass(slots=True)
class _Node:
    children: dict[str, int] = field(default_factory=dict)
    key: str = ""


def optimizer_slots(graph: bytes) -> list[tuple[dict[str, dict[str, str]], dict[str, str]]]:
    """For each Keras-3 optimizer: paths by slot name and index, and parameters' paths by index.

    Slot names are those of the object's attributes, of which others have no paths.
    Raises `DamagedError`.
    """
    nodes = [_node(payload) for tag, payload in fields(graph) if tag == 0x0A
             and isinstance(payload, bytes)]  # fmt: skip

    def listed(number: int) -> dict[str, str]:
        children = nodes[number].children if number < len(nodes) else {}
        return {
            index: _path(nodes[child].key)
            for index, child in children.items()
            if child < len(nodes) and nodes[child].key
        }

    found = []
    for node in nodes:
        if {"_variables", "_iterations"} <= node.children.keys():
            slots = {
                name: listed(child) if name in ATTRIBUTES else {}
                for name, child in node.children.items()
            }
            found.append((slots, listed(node.children.get("_trainable_variables", len(nodes)))))
    return found


def _node(data: bytes) -> _Node:
    node = _Node()
    for tag, payload in fields(data):
        if not isinstance(payload, bytes):
            continue
        parts = dict(fields(payload)) if tag in (_CHILD, _ATTRIBUTE) else {}
        if tag == _CHILD:
            number = parts.get(_ID, 0)
            if isinstance(number, int):
                node.children[text(parts.get(_NAME, b""))] = number
        elif tag == _ATTRIBUTE:
            node.key = text(parts.get(_KEY, b"")) or node.key
    return node


def _path(key: str) -> str:
    path = object_path(key)
    return "/".join(map(escape, path)) if path else escape(key)
