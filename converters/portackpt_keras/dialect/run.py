"""What a checkpoint of the TensorFlow world means: Keras files, object graphs, TF1's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from portackpt.checkpoint import Checkpoint
from portackpt.errors import PortackptError
from portackpt.optimizers import Algorithm, Decay, Optimizer, Origin
from portackpt.roles import Role, role
from portackpt.run import Run, Scheduled, leftovers
from portackpt.tensor import Tensor
from portackpt.tree import Node, plain_name, walk
from portackpt_keras.dialect import lifting
from portackpt_keras.dialect.models import is_attribute, statistics
from portackpt_keras.dialect.schedule_configs import lift as lift_schedule

if TYPE_CHECKING:
    from portackpt.moved import Lowered, MovedRun, Template

_COUNTERS = ("global_step", "step", "iterations")
# of the formats themselves, and TF1's running powers of Adam's betas
_OF_FORMAT = frozenset(
    ("save_counter", "beta1_power", "beta2_power", "metadata.json", "config.json", "assets")
)


class _Dialect:
    """TensorFlow's, with Keras."""

    def lift(self, checkpoint: Checkpoint, settings: Mapping[str, str]) -> Run:
        leaves = dict(walk(checkpoint.tree))
        tensors = {path: leaf for path, leaf in leaves.items() if isinstance(leaf, Tensor)}
        known = {path for path in leaves if is_attribute(path) or path in _OF_FORMAT}
        notes: list[str] = []
        model = {path: tensor for path, tensor in tensors.items() if path not in known}
        names = {plain_name(path): (path, tensor) for path, tensor in model.items()}
        optimizers, schedules = _optimizers(checkpoint, leaves, tensors, names, notes)
        averages = lifting.averages(names)
        taken = {origin.path for origin in averages.values()}
        taken |= {
            origin.path
            for optimizer in optimizers
            for slots in optimizer.slots.values()
            for origin in slots.values()
        }
        taken |= {path for path in model if _is_state(path, optimizers)}
        progress = _progress(names, optimizers, taken)
        parameters, buffers = _weights(model, taken)
        found = [*parameters.values(), *buffers.values(), *progress.values()]
        return Run(
            parameters=parameters,
            buffers=buffers,
            optimizers=tuple([_settled(optimizer, settings) for optimizer in optimizers]),
            schedules=tuple(schedules),
            averages={"ExponentialMovingAverage": averages} if averages else {},
            progress=progress,
            unrecognized=leftovers(
                checkpoint.tree, known | taken | {origin.path for origin in found}
            ),
            notes=tuple(notes),
        )

    def lower(self, run: MovedRun, like: Template | None) -> Lowered:
        from portackpt_keras.dialect.lowering import lower

        return lower(run, like)


def _optimizers(
    checkpoint: Checkpoint,
    leaves: Mapping[str, Node],
    tensors: Mapping[str, Tensor],
    names: Mapping[str, tuple[str, Tensor]],
    notes: list[str],
) -> tuple[list[Optimizer], list[Scheduled]]:
    """By the first spelling that is there."""
    graph = checkpoint.details_for("tensorflow").get("graph")
    try:
        if any(path.startswith("optimizer/vars/") for path in tensors):
            parameters, _ = _weights(tensors, {p for p in tensors if p.startswith("optimizer/")})
            optimizer, options = lifting.from_file(tensors, leaves, parameters)
            return [optimizer], _schedules(optimizer, options)
        own = {p: t for p, t in tensors.items()
               if p.startswith("optimizer_weights/") and not is_attribute(p)}  # fmt: skip
        if own:
            optimizer, options = lifting.from_legacy(own, leaves)
            return [optimizer], _schedules(optimizer, options)
        if any(".OPTIMIZER_SLOT" in path for path in tensors):
            return lifting.from_slot_variables(tensors), []
        if isinstance(graph, bytes):
            if any("/_variables/" in f"/{path}" for path in tensors):
                return lifting.from_graph(graph, tensors), []
            return [], []
        return lifting.from_names(names), []
    except PortackptError as error:
        notes.append(f"the optimizer is not recognized: {error}")
        return [], []


def _schedules(optimizer: Optimizer, options: dict[str, Any] | None) -> list[Scheduled]:
    """The schedule in an optimizer's configuration."""
    rate = (options or {}).get("learning_rate")
    if not isinstance(rate, Mapping):
        return []
    schedule = lift_schedule(rate, optimizer.step or 0)
    return [Scheduled(f"{optimizer.name}/learning_rate", schedule)]


def _is_state(path: str, optimizers: list[Optimizer]) -> bool:
    """Whether a variable is the optimizer's own: its count, its rate."""
    if path.startswith(("optimizer/vars/", "optimizer_weights/")):
        return True
    last = path.rpartition("/")[2]
    return any(
        plain_name(path).startswith(f"{o.name}/") and (last in _STATE or "/_variables/" in path)
        for o in optimizers
    )


_STATE = frozenset(("_iterations", "_learning_rate", "iter", "learning_rate", "beta_1", "beta_2",
                    "decay", "momentum", "rho", "beta", "learning_rate_power",
                    "l1_regularization_strength", "l2_regularization_strength"))  # fmt: skip


def _weights(
    tensors: Mapping[str, Tensor], taken: set[str]
) -> tuple[dict[str, Origin], dict[str, Origin]]:
    """Parameters and buffers among what is no optimizer's, by plain name."""
    moving = statistics(tensors)
    parameters: dict[str, Origin] = {}
    buffers: dict[str, Origin] = {}
    for path, tensor in tensors.items():
        if path in taken or is_attribute(path):
            continue
        kind = Role.BUFFER if path in moving else role(path, tensor)
        # the optimizer's own name for what it trains
        if kind is Role.PARAMETER or "/_trainable_variables/" in path:
            parameters[plain_name(path)] = Origin(path, tensor)
        elif kind is Role.BUFFER:
            buffers[plain_name(path)] = Origin(path, tensor)
    return parameters, buffers


def _progress(
    names: Mapping[str, tuple[str, Tensor]], optimizers: list[Optimizer], taken: set[str]
) -> dict[str, Origin]:
    """The step: TF1's global step, else the optimizer's iterations."""
    for name, (path, tensor) in names.items():
        last = name.rpartition("/")[2]
        if last in _COUNTERS and path not in taken and tensor.shape == ():
            step = lifting.count(tensor)
            if step is not None:
                return {"step": Origin(path, step)}
    steps = [optimizer for optimizer in optimizers if optimizer.step is not None]
    return {"step": Origin(steps[0].name, steps[0].step)} if len(steps) == 1 else {}


def _settled(optimizer: Optimizer, settings: Mapping[str, str]) -> Optimizer:
    """With the algorithm that the user named, where it is one of those that fit."""
    said = settings.get("optimizer", "")
    algorithm = said.replace("adamw", "adam")
    if algorithm not in optimizer.algorithms:
        return optimizer
    decay = {"adamw": Decay.DECOUPLED, "adam": Decay.NONE}.get(said)
    groups = tuple([
        replace(group, hyperparameters={**group.hyperparameters, "decay": decay})
        for group in optimizer.groups
    ])  # fmt: skip
    named = replace(optimizer, algorithms=(Algorithm(algorithm),), ambiguity="")
    return named if decay is None else replace(named, groups=groups)


DIALECT = _Dialect()
