"""The leaves of a checkpoint's model, by the names that mappings are about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from portackpt.checkpoint import Checkpoint
from portackpt.errors import AmbiguousError, UsageError
from portackpt.layouts.dialects import Dialect
from portackpt.matching.recognition import recognize
from portackpt.optimizers import Origin
from portackpt.roles import Role, role
from portackpt.run import Run
from portackpt.tensor import Strided, Tensor
from portackpt.tree import plain_name, tensors


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Parameters and buffers by name; `ties` are names of a tensor that another name owns."""

    dialect: Dialect
    leaves: Mapping[str, Origin]
    buffers: frozenset[str]
    ties: Mapping[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: origin.value.shape for name, origin in self.leaves.items()}


def model_of(checkpoint: Checkpoint, run: Run, where: str) -> Model:
    """The model of `checkpoint`, as its `run` knows it, or else by the roles of its tensors.

    `where` names the checkpoint in messages. Raises `UsageError` where there is no model, and
    `AmbiguousError` where its names do not tell whose they are.
    """
    if run.parameters:
        leaves, buffers = {**run.parameters, **run.buffers}, frozenset(run.buffers)
        ties = {name: owner for name, owner in run.ties.items() if owner in leaves}
        leaves |= {name: leaves[owner] for name, owner in ties.items()}
    else:
        leaves, buffers, ties = _by_role(checkpoint)
    if not leaves:
        raise UsageError("no parameters of a model are found in it", where)
    # by paths: linen keeps statistics in a collection of their own, nnx beside the scale
    dialect = recognize(
        checkpoint.framework, [plain_name(origin.path) for origin in leaves.values()]
    )
    if dialect is None:
        raise AmbiguousError(
            "neither the format nor the names of its leaves tell which framework wrote it; write "
            'the mapping file by hand, beginning with source = "torch" or the like, and pass it '
            "with --map",
            where,
        )
    return Model(dialect, leaves, buffers, ties)


def _by_role(
    checkpoint: Checkpoint,
) -> tuple[dict[str, Origin], frozenset[str], dict[str, str]]:
    leaves: dict[str, Origin] = {}
    ties: dict[str, str] = {}
    owners: dict[object, str] = {}
    buffers: set[str] = set()
    for path, tensor in tensors(checkpoint.tree):
        kind = role(path, tensor)
        if kind not in (Role.PARAMETER, Role.BUFFER):
            continue
        name = plain_name(path)
        leaves[name] = Origin(path, tensor)
        if kind is Role.BUFFER:
            buffers.add(name)
        owner = owners.setdefault(identity(tensor), name)
        if owner != name:
            ties[name] = owner
    return leaves, frozenset(buffers), ties


def identity(tensor: Tensor) -> object:
    """Equal for tensors that are the same elements."""
    layout = tensor.layout
    if isinstance(layout, Strided) and tensor.size:
        return id(layout.source), layout.offset, tensor.shape, layout.strides
    return id(tensor)
