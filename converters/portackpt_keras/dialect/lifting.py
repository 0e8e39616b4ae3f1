"""Canonical optimizers out of Keras' and TensorFlow's variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portackpt.errors import PortackptError
from portackpt.optimizers import Algorithm, Group, Optimizer, Origin
from portackpt.tensor import Tensor
from portackpt.tree import Node
from portackpt_keras.dialect import objects, slot_names
from portackpt_keras.dialect.models import configuration, named, trainable
from portackpt_keras.dialect.optimizer_classes import CLASSES, WRAPPER, group, normal
from portackpt_keras.dialect.positions import place, split

_ADAM_LIKE = "Adam, AdamW, Lamb or schedule-free AdamW"


def count(node: Node) -> int | None:
    """A whole number, also as a tensor of one."""
    if isinstance(node, Tensor):
        if node.size != 1 or "int" not in node.dtype.name:
            return None
        try:
            return int(node.item())
        except PortackptError:
            return None
    return node if isinstance(node, int) else None


def _configured(found: Any) -> tuple[str, dict[str, Any] | None]:
    """The class and options of `{class_name, config}`, of the one inside a loss scaler."""
    if not isinstance(found, dict):
        return "", None
    name, config = normal(str(found.get("class_name", ""))), found.get("config")
    if name == WRAPPER and isinstance(config, dict):
        return _configured(config.get("inner_optimizer"))
    return name, config if isinstance(config, dict) else None


def from_file(
    tensors: Mapping[str, Tensor], values: Mapping[str, Node], parameters: Mapping[str, Origin]
) -> tuple[Optimizer, dict[str, Any] | None]:
    """The optimizer of a `.keras` or `.weights.h5` file, and its configuration."""
    config = configuration(values.get("config.json"))
    compiled = config.get("compile_config")
    name, options = _configured(compiled.get("optimizer") if isinstance(compiled, dict) else None)
    told = values.get("optimizer/vars/@name")
    said = normal(told) if isinstance(told, str) else ""
    assumed = "" if name else f"the class is taken from the optimizer's name, {told!r}"
    name = name or said
    start = "optimizer/vars/"
    numbers = sorted(int(path[len(start) :]) for path in tensors
                     if path.startswith(start) and path[len(start) :].isdigit())  # fmt: skip
    variables = [Origin(f"{start}{n}", tensors[f"{start}{n}"]) for n in numbers]
    if said == WRAPPER:
        variables = variables[4:]
    iteration, arrays = split(variables)
    kind = CLASSES.get(name)
    placed, how = place(kind, arrays, options, len(parameters)) if kind else ([], "")
    slots, naming = named(placed, trainable(config, values, parameters), parameters)
    return Optimizer(
        "optimizer",
        (kind.algorithm,) if kind else (),
        (group(name, options, tuple(slots)),),
        slots,
        count(iteration.value) if iteration else None,
        ""
        if kind
        else f"no known Keras optimizer is called {told!r}; name it with --set optimizer=NAME",
        tuple(filter(None, (assumed, how, naming))),
    ), options


def from_legacy(
    tensors: Mapping[str, Tensor], values: Mapping[str, Node]
) -> tuple[Optimizer, dict[str, Any] | None]:
    """The optimizer of a legacy `.h5` file: its slots are named, or (Keras 2.1) numbered blocks."""
    found = configuration(values.get("@training_config")).get("optimizer_config")
    name, options = _configured(found)
    kind = CLASSES.get(name)
    algorithms = (kind.algorithm,) if kind else ()
    slots: dict[str, dict[str, Origin]] = {}
    step = None
    for path, tensor in tensors.items():
        full = path.removeprefix("optimizer_weights/").removesuffix(":0")
        last = full.rpartition("/")[2]
        if last in ("iteration", "iterations", "iter"):
            step = count(tensor)
        for suffix, slot in slot_names.H5_SUFFIXES.items():
            if tensor.shape and (last == suffix or last.endswith(f"_{suffix}")):
                parameter = full[: -len(suffix) - 1].partition("/")[2]
                known = slot_names.in_momentum(slot, algorithms)
                slots.setdefault(parameter, {})[known] = Origin(path, tensor)
                break
    assumed = "" if slots or len(tensors) < 3 else "its numbered variables are not told apart"
    return Optimizer(
        "optimizer_weights",
        algorithms,
        (group(name, options, tuple(slots)),),
        slots,
        step,
        "" if kind else "the file names no optimizer; name it with --set optimizer=NAME",
        (assumed,) if assumed else (),
    ), options


def from_graph(graph: bytes, tensors: Mapping[str, Tensor]) -> list[Optimizer]:
    """The Keras-3 optimizers of a tf.train.Checkpoint, by the names in its object graph."""
    found: list[Optimizer] = []
    for attributes, parameters in objects.optimizer_slots(graph):
        slots: dict[str, dict[str, Origin]] = {}
        algorithms = _of_attributes(set(attributes))
        prefix = ""
        for attribute, paths in attributes.items():
            if attribute not in objects.ATTRIBUTES:
                continue
            slot = slot_names.in_momentum(objects.ATTRIBUTES[attribute], algorithms)
            for index, path in paths.items():
                if path in tensors:
                    prefix = path.partition("/_variables/")[0]
                    owner = parameters.get(index, index)
                    slots.setdefault(owner, {})[slot] = Origin(path, tensors[path])
        if not slots:
            continue
        ambiguity = ""
        if Algorithm.LAMB in algorithms:
            ambiguity = (
                f"{_ADAM_LIKE}: a tf.train.Checkpoint keeps no hyperparameters; "
                "choose with --set optimizer=NAME"
            )
        step = count(tensors.get(f"{prefix}/_iterations", tensors.get(f"{prefix}/_variables/0")))
        members = Group(tuple(slots))
        found.append(Optimizer(prefix, algorithms, (members,), slots, step, ambiguity))
    return found


def _of_attributes(names: set[str]) -> tuple[Algorithm, ...]:
    """The classes that have these attributes (a list that stays empty is one, too)."""
    for attributes, algorithms in _ATTRIBUTES:
        if attributes <= names:
            return algorithms
    return ()


_ATTRIBUTES: tuple[tuple[set[str], tuple[Algorithm, ...]], ...] = (
    ({"_velocities", "_average_gradients"}, (Algorithm.RMSPROP,)),
    ({"_momentums", "_velocities", "_velocity_hats"}, (Algorithm.ADAM,)),
    ({"_momentums", "_velocities", "_u_product"}, (Algorithm.NADAM,)),
    ({"_momentums", "_velocities"}, (Algorithm.ADAM, Algorithm.LAMB, Algorithm.SCHEDULE_FREE)),
    ({"_m", "_u"}, (Algorithm.ADAMAX,)),
    ({"_accumulators", "_linears"}, (Algorithm.FTRL,)),
    ({"_accumulators"}, (Algorithm.ADAGRAD,)),
    ({"_accumulated_grads", "_accumulated_delta_vars"}, (Algorithm.ADADELTA,)),
    ({"momentums"}, (Algorithm.SGD,)),
    ({"_momentums"}, (Algorithm.LION,)),
)


def from_slot_variables(tensors: Mapping[str, Tensor]) -> list[Optimizer]:
    """The optimizers of tf.train.Checkpoint with slot variables (tf.keras of TF 2.0 to 2.15)."""
    found: dict[str, dict[str, dict[str, Origin]]] = {}
    names: dict[str, set[str]] = {}
    for path, tensor in tensors.items():
        prefix, middle, rest = f"/{path}".partition(slot_names.SLOT)
        slot, _, parameter = rest.partition("/")
        if middle and parameter:
            names.setdefault(prefix[1:], set()).add(slot)
            found.setdefault(prefix[1:], {}).setdefault(parameter, {})[slot] = Origin(path, tensor)
    optimizers = []
    for prefix, slots in found.items():
        algorithms, known = slot_names.fitting_tf2(names[prefix]) or ((), {})
        more = f"{prefix}/" if prefix else ""
        numbers = _numbers(tensors, more)
        renamed = {
            parameter: {str(known.get(slot, slot)): origin for slot, origin in own.items()}
            for parameter, own in slots.items()
        }
        optimizers.append(Optimizer(
            prefix, algorithms, (Group(tuple(renamed), numbers),), renamed,
            count(tensors.get(f"{more}iter")), _several(algorithms),
        ))  # fmt: skip
    return optimizers


_HYPER = {
    "learning_rate": "lr",
    "beta_1": "beta1",
    "beta_2": "beta2",
    "momentum": "momentum",
    "rho": "rho",
    "decay": "lr_decay",
}


def _several(algorithms: tuple[Algorithm, ...]) -> str:
    if len(algorithms) < 2:
        return ""
    return (
        f"the slots of {', '.join(map(str, algorithms))} have the same names; "
        "choose with --set optimizer=NAME"
    )


def from_names(names: Mapping[str, tuple[str, Tensor]]) -> list[Optimizer]:
    """The optimizers of a name-based checkpoint: paths and tensors by plain name."""
    return [*_of_tf1(names), *_scoped(names)]


def _scoped(names: Mapping[str, tuple[str, Tensor]]) -> list[Optimizer]:
    """Those of Keras 2."""
    found: dict[tuple[str, Algorithm], dict[str, dict[str, Origin]]] = {}
    for name, (path, tensor) in names.items():
        known = slot_names.scoped(name)
        if known is not None:
            scope, algorithm, owner, slot = known
            slots = found.setdefault((scope, algorithm), {})
            slots.setdefault(owner, {})[slot] = Origin(path, tensor)
    optimizers = []
    for (scope, algorithm), slots in found.items():
        own = {name.removeprefix(f"{scope}/"): tensor for name, (_, tensor) in names.items()
               if name.startswith(f"{scope}/")}  # fmt: skip
        group = Group(tuple(slots), _numbers(own, ""))
        optimizers.append(Optimizer(scope, (algorithm,), (group,), slots, count(own.get("iter"))))
    return optimizers


def _numbers(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    """Hyperparameters that TF 2 kept as variables."""
    return {
        canonical: tensors[f"{prefix}{name}"].item()
        for name, canonical in _HYPER.items()
        if f"{prefix}{name}" in tensors and not tensors[f"{prefix}{name}"].shape
    }


def _of_tf1(names: Mapping[str, tuple[str, Tensor]]) -> list[Optimizer]:
    suffixes = {name.rpartition("/")[2] for name in names}
    parameters = {name: name for name in names}
    optimizers = []
    for algorithm, known in slot_names.fitting_tf1(suffixes):
        slots: dict[str, dict[str, Origin]] = {}
        for name, (path, tensor) in names.items():
            base, _, suffix = name.rpartition("/")
            if suffix in known and base:
                owner = slot_names.owner(base, parameters)
                slots.setdefault(owner, {})[known[suffix]] = Origin(path, tensor)
        first = next(iter(known))
        optimizers.append(Optimizer(first, (algorithm,), (Group(tuple(slots)),), slots))
    return optimizers


def averages(names: Mapping[str, tuple[str, Tensor]]) -> dict[str, Origin]:
    """The moving averages of a TF1 checkpoint, by parameter."""
    suffix = f"/{slot_names.AVERAGE}"
    return {
        name.removesuffix(suffix): Origin(path, tensor)
        for name, (path, tensor) in names.items()
        if name.endswith(suffix)
    }
