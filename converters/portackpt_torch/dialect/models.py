"""State dicts of modules: parameters, buffers, tied names, moving averages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from portackpt.optimizers import Origin
from portackpt.run import at
from portackpt.tensor import Strided, Tensor
from portackpt.tree import Node, Object, children
from portackpt_torch.dialect.assignment import Model
from portackpt_torch.dialect.state_reader import mapping

_AVERAGE = re.compile(r"(?i)(^|[/_.-])(ema|averaged?|swa|polyak|shadow)([/_.-]|$)")
# names that torch's and the Hugging Face libraries' modules register as buffers
_BUFFER = re.compile(
    r"(^|\.)(running_mean|running_var|num_batches_tracked|position_ids|inv_freq|relative_position_index"
    r"|attn_mask|n_averaged|original_inv_freq|masked_bias)$"
)


@dataclass(frozen=True, slots=True, eq=False)
class StateDict:
    """A module's state dict at `path`."""

    path: str
    parameters: Mapping[str, Origin]
    buffers: Mapping[str, Origin]
    ties: Mapping[str, str]
    averaged: bool
    ordered: bool

    @property
    def model(self) -> Model:
        shapes = {name: origin.value.shape for name, origin in self.parameters.items()}
        return Model(shapes, self.ordered)


def is_state_dict(node: Node) -> bool:
    """Whether a node is a mapping of names to tensors (`_extra_state` may be anything)."""
    found = mapping(node)
    if not found:
        return False
    tensors = 0
    for name, value in found.items():
        if not isinstance(name, str):
            return False
        if isinstance(value, Tensor):
            tensors += 1
        elif not (name.endswith("_extra_state") or _is_tensor(value)):
            return False
    return tensors > 0


def _is_tensor(value: Node) -> bool:
    """Sparse, quantized and other tensors that are several arrays."""
    return isinstance(value, Object) and value.type.startswith("torch.") and bool(value.entries)


def read(path: str, node: Node) -> StateDict:
    """The parts of a state dict. Integers and booleans are buffers: they are not trained."""
    parameters: dict[str, Origin] = {}
    buffers: dict[str, Origin] = {}
    ties: dict[str, str] = {}
    owners: dict[object, str] = {}
    for (component, value), name in zip(children(node), mapping(node) or {}, strict=False):
        if not isinstance(value, Tensor):
            continue
        origin = Origin(at(path, component), value)
        if _BUFFER.search(name) or not value.dtype.name.startswith(("float", "bfloat", "complex")):
            buffers[name] = origin
            continue
        owner = owners.setdefault(_storage(value), name)
        if owner == name:
            parameters[name] = origin
        else:
            ties[name] = owner
    names = list(parameters)
    ordered = isinstance(node, Object) or names != sorted(names)
    return StateDict(path, parameters, buffers, ties, bool(_AVERAGE.search(path)), ordered)


def _storage(tensor: Tensor) -> object:
    """Equal for tensors that are the same elements."""
    layout = tensor.layout
    if isinstance(layout, Strided) and tensor.size:
        return id(layout.source), layout.offset, tensor.shape, layout.strides
    return id(tensor)
