"""The object graph of a checkpoint: how names lead to variables, as tf.train.Checkpoint keeps it.

    TrackableObjectGraph   1 nodes; node 0 is the root
    node                   1 children {1 node_id, 2 local_name}
                           2 attributes {1 name, 2 full_name, 3 checkpoint_key}
                           3 slot_variables {1 variable's node, 2 slot_name, 3 slot's node}
                           5 has_checkpoint_values {1 value}

A graph that was read is written back as it was. Where there is none, each dict of the tree is a
node, each tensor a node with the attribute VARIABLE_VALUE. TensorFlow's `restore` expects a counter
of saves: the root gets a node for it that holds no value, so that the program's own counter stays.

Source: tensorflow/core/protobuf/trackable_object_graph.proto.
"""

from __future__ import annotations

from collections.abc import Iterable

from portackpt_tensorflow.naming import ATTRIBUTES, SLOTS, VALUE, Path
from portackpt_tensorflow.wire import put_bytes, put_varint

_COUNTER = "save_counter"
_VALUE = put_bytes(1, VALUE.encode())
_HAS_VALUES = b"\x2a\x02\x08\x01"


def build_graph(leaves: Iterable[tuple[Path, bytes]]) -> bytes:
    """The graph of tensors at `(path, key)`."""
    graph = _Graph()
    for path, key in leaves:
        name = _VALUE
        if len(path) > 1 and path[-2] == ATTRIBUTES:
            path, name = path[:-2], put_bytes(1, path[-1].encode())
        node = graph.slot(path) if SLOTS in path[:-2] else graph.find(path)
        full_name = put_bytes(2, "/".join(path).encode())
        node.values += put_bytes(2, name + full_name + put_bytes(3, key))
    graph.find((_COUNTER,))
    return graph.encode()


class _Node:
    """A node: its children, and its attributes and slots as they will be written."""

    __slots__ = ("children", "number", "slots", "values")

    def __init__(self, number: int) -> None:
        self.number = number
        self.children: dict[str, _Node] | None = None
        self.values = b""
        self.slots = b""


class _Graph:
    def __init__(self) -> None:
        self._nodes = [_Node(0)]

    def find(self, path: Path) -> _Node:
        """The node at `path`, made where it is missing."""
        node = self._nodes[0]
        for name in path:
            children = node.children
            if children is None:
                children = node.children = {}
            child = children.get(name)
            if child is None:
                child = children[name] = self._new()
            node = child
        return node

    def slot(self, path: Path) -> _Node:
        """The node of a slot variable, which only its optimizer and its variable lead to."""
        at = path.index(SLOTS)
        optimizer, name = self.find(path[:at]), path[at + 1].encode()
        variable, node = self.find(path[at + 2 :]), self._new()
        ends = _number(1, variable.number), put_bytes(2, name), _number(3, node.number)
        optimizer.slots += put_bytes(3, b"".join(ends))
        return node

    def encode(self) -> bytes:
        parts = []
        for node in self._nodes:
            rest = node.values + node.slots + _HAS_VALUES
            if node.children is not None:
                children = [
                    put_bytes(1, _number(1, child.number) + put_bytes(2, name.encode()))
                    for name, child in node.children.items()
                ]
                rest = b"".join((*children, rest))
            parts.append(put_bytes(1, rest))
        return b"".join(parts)

    def _new(self) -> _Node:
        node = _Node(len(self._nodes))
        self._nodes.append(node)
        return node


def _number(field: int, value: int) -> bytes:
    return put_varint(field << 3) + put_varint(value) if value else b""
