"""Live objects of PyTorch: tensors, modules, optimizers.

Schedulers, scalers, generators, loaders and samplers need nothing here: they have `state_dict` or
`get_state`, and the core saves such by protocol. torch is not imported: who has an object of it,
has done that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portackpt.errors import UnsupportedError
from portackpt.tensor import Tensor
from portackpt.tree import Node, Object

if TYPE_CHECKING:
    from portackpt.live import Capture, Restoring


class _Torch:
    """Hands every object to the module that knows its kind."""

    framework: str | None = "pytorch"

    def handles(self, value: Any) -> bool:
        return _kind(value) is not None

    def capture(self, value: Any, scene: Capture, path: str) -> Node:
        return _part(value).capture(value, scene, path)

    def compare(self, value: Any, node: Node, scene: Restoring, path: str) -> None:
        _part(value).compare(value, node, scene, path)

    def restore(self, value: Any, node: Any, scene: Restoring, path: str) -> Any:
        return _part(value).restore(value, node, scene, path)

    def make(self, node: Tensor | Object) -> Any:
        from portackpt_torch.live import tensors, words

        return tensors.make(node) if isinstance(node, Tensor) else words.make(node)


_KINDS = {
    "torch.Tensor": "tensors",
    "torch.nn.modules.module.Module": "modules",
    "torch.optim.optimizer.Optimizer": "optimizers",
    "torch.Size": "words",
    "torch.dtype": "words",
    "torch.device": "words",
}


def _kind(value: Any) -> str | None:
    """The module that knows a value's kind; tensors of torch's own name their class `torch`."""
    for kind in type(value).__mro__:
        if kind.__module__ in ("torch._tensor", "torch._C"):
            found = _KINDS.get(f"torch.{kind.__name__}")
        else:
            found = _KINDS.get(f"{kind.__module__}.{kind.__name__}")
        if found is not None:
            return found
    return None


def _part(value: Any) -> Any:
    from importlib import import_module

    kind = _kind(value)
    if kind is None:
        raise UnsupportedError(f"a {type(value).__name__} is nothing of torch")
    return import_module(f"portackpt_torch.live.{kind}")


LIVE = _Torch()
