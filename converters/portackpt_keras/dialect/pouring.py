"""A run in the places of a checkpoint that the target's program wrote before training.

Values go by parameter and canonical slot. Of a `.keras` file the options in its configuration
become the source's, too, so that `load_model` gives the optimizer that goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from portackpt.elementwise import cast
from portackpt.errors import AmbiguousError, UsageError
from portackpt.ledger import NONE, Fate
from portackpt.moved import Lowered, Moved, MovedOptimizer, MovedRun, Template, created, placed
from portackpt.optimizers import Optimizer
from portackpt.tensor import Tensor
from portackpt.tree import Node, walk
from portackpt_keras.dialect import program
from portackpt_keras.dialect.lowering import Trained, iterations, train
from portackpt_keras.dialect.models import configuration
from portackpt_keras.dialect.optimizer_classes import WRAPPER, normal

_CONFIG = "config.json"


def pour(run: MovedRun, like: Template) -> Lowered:
    """The template's tree with the values of `run`."""
    leaves = dict(walk(like.tree))
    values: dict[str, Moved] = {}
    notes: dict[str, tuple[str, str]] = {}
    wanted = {**like.run.parameters, **like.run.buffers}
    for name, value in {**run.parameters, **run.buffers}.items():
        if name in wanted:
            values[wanted[name].path] = value
        else:
            lost = "the template has no variable of this name"
            notes |= dict.fromkeys(value.sources, (lost, "the target's run goes on without it"))
    code = ""
    if run.optimizers:
        there = _optimizer(run, like)
        run = replace(run, optimizers=(_told(run.optimizers[0], there),))
        one = train(run.optimizers[0], run)
        found, lost_slots = _slots(one, there)
        values |= found
        notes |= {**one.notes, **lost_slots}
        if isinstance(leaves.get(_CONFIG), str):
            values[_CONFIG] = _configured(leaves[_CONFIG], one)
        code = _code(one, run, like, there)
    fitted = {path: _fitted(value, leaves.get(path), path) for path, value in values.items()}
    return Lowered(placed(like.tree, fitted), code, notes)


def _optimizer(run: MovedRun, like: Template) -> Optimizer:
    """The template's optimizer. Raises `UsageError`, `AmbiguousError`."""
    moving = run.optimizers[0].algorithm
    if len(run.optimizers) > 1 or len(like.run.optimizers) > 1:
        raise UsageError(
            f"the source has {len(run.optimizers)} optimizers and the template "
            f"{len(like.run.optimizers)}: one at a time; leave --like out for the default layout"
        )
    if not like.run.optimizers:
        raise UsageError(
            f"the template has no optimizer for the state of {moving}: build it before you save "
            "(optimizer.build(model.trainable_variables)), or move the model alone"
        )
    there = like.run.optimizers[0]
    if there.algorithms and moving not in there.algorithms:
        raise UsageError(
            f"the template's optimizer is {there.title}, the source's {moving}: its slots have no "
            f"place there; write the template with {moving}, or leave --like out for code that "
            "builds the optimizer"
        )
    if there.slots and not set(there.slots) & set(run.parameters):
        raise AmbiguousError(
            "the optimizer's variables in the template are numbered, and their order is not known; "
            "use a .keras file, which keeps the order of the layers, as --like"
        )
    return there


def _told(optimizer: MovedOptimizer, there: Optimizer) -> MovedOptimizer:
    """With the options that only the template's program knows."""
    known = there.groups[0].hyperparameters if there.groups else {}
    forms = ("eps_form", "lr_in_momentum", "momentum_sign", "momentum_form", "momentum_decay",
             "factored_axes", "amsgrad", "relative_step")  # fmt: skip
    options = {name: value for name, value in known.items()
               if name not in forms and value is not None}  # fmt: skip
    groups = []
    for group in optimizer.groups:
        own = group.hyperparameters
        more = {n: v for n, v in options.items() if n not in ("decay", "weight_decay")}
        if "decay" not in own and "weight_decay" not in own:
            more = options
        groups.append(replace(group, hyperparameters={**more, **own}))
    return replace(optimizer, groups=tuple(groups))


def _slots(one: Trained, there: Optimizer) -> tuple[dict[str, Moved], dict[str, tuple[str, str]]]:
    values: dict[str, Moved] = {}
    notes: dict[str, tuple[str, str]] = {}
    for slot, own in one.slots.items():
        for name, value in own.items():
            place = there.slots.get(name, {}).get(slot)
            if place is not None:
                values[place.path] = value
            else:
                lost = f"the template's optimizer has no {slot} for {name}"
                anew = (lost, "the optimizer starts anew for it")
                notes |= dict.fromkeys(value.sources, anew)
    for origin in there.counts.values():
        values[origin.path] = iterations(one)
    for origin in there.rates:
        rate = one.made.options[0]["learning_rate"]
        values[origin.path] = created(rate, "the learning rate of the source")
    if one.product is not None:
        values |= dict.fromkeys(_products(there), one.product)
    return values, notes


def _products(there: Optimizer) -> list[str]:
    found = [own["momentum_product"].path for own in there.slots.values()
             if "momentum_product" in own]  # fmt: skip
    return list(dict.fromkeys(found))


def _fitted(value: Moved, like: Node, path: str) -> Moved:
    """`value` in the dtype of the template's variable."""
    if not isinstance(like, Tensor):
        return value
    inner = value.value
    if not isinstance(inner, Tensor):
        import numpy as np

        from portackpt.tensor import from_array

        array = np.array(inner).astype(like.dtype.to_numpy())
        return replace(value, value=replace(from_array(array.reshape(like.shape)),
                                            attributes=like.attributes))  # fmt: skip
    if inner.shape != like.shape:
        raise UsageError(
            f"expected shape {list(like.shape)}, as the template has it, found "
            f"{list(inner.shape)} in the source; a mapping file (--map) declares layouts", path
        )  # fmt: skip
    if inner.dtype is like.dtype:
        return replace(value, value=Tensor(inner.dtype, inner.shape, inner.layout, like.attributes))
    import numpy as np

    turned = replace(cast(inner, like.dtype), attributes=like.attributes)
    if np.can_cast(inner.dtype.to_numpy(), like.dtype.to_numpy(), "safe"):
        return value.then(turned, Fate.RELAYOUT, f"{inner.dtype} widened to {like.dtype}")
    return value.then(turned, Fate.APPROXIMATE, f"{inner.dtype} rounded to {like.dtype}",
                      "values are rounded")  # fmt: skip


def _configured(text: str, one: Trained) -> Moved:
    """The configuration of a `.keras` file with the options of the source."""
    config = configuration(text)
    compiled = config.get("compile_config")
    found = compiled.get("optimizer") if isinstance(compiled, dict) else None
    if isinstance(found, dict) and normal(str(found.get("class_name"))) == WRAPPER:
        outer = found.get("config")
        found = outer.get("inner_optimizer") if isinstance(outer, dict) else None
    options = found.get("config") if isinstance(found, dict) else None
    if not isinstance(options, dict):
        return created(text, "the template's")
    changed = []
    for name, option in one.made.options[0].items():
        if name in options and not isinstance(options[name], Mapping) and options[name] != option:
            options[name] = option
            changed.append(name)
    if not changed:
        return created(text, "the template's: its options are the source's")
    told = f"the template's, with {', '.join(changed)} of the source"
    return created(json.dumps(config), told, NONE)


def _code(one: Trained, run: MovedRun, like: Template, there: Optimizer) -> str:
    """What is to do once the template's own loading has filled model and optimizer."""
    made = one.made
    schedule, _, _ = program.rate_functions(made, one.scheduled)
    archive = isinstance(like.tree, dict) and _CONFIG in like.tree
    graph = isinstance(like.tree, dict) and not any(
        name in like.tree for name in ("layers", "optimizer_weights", "vars", _CONFIG)
    )
    parts = [program.naming(made), schedule, program.momentum_code(one.scheduled),
             program.class_code(made)]  # fmt: skip
    if archive and made.step is None:
        parts.append("optimizer = model.optimizer\n")
    else:
        rates = [repr(own["learning_rate"]) for own in made.options]
        if "learning_rate" in made.differing and one.scheduled is not None:
            _, rates, _ = program.rate_functions(made, one.scheduled)
        parts.append(program.rate_helper(made) if "def rate_of" not in schedule else "")
        first = [repr(made.options[0]["learning_rate"]), *rates[1:]]
        parts.append(program.construction(made, rates, "optimizer", "model.trainable_variables",
                                          first[0]))  # fmt: skip
        parts.append(_restored(graph))
    if schedule and "schedule" in schedule and not schedule.startswith("class Plateau"):
        parts.append(program.scheduled(made, one.scheduled))
    return program.imports("\n\n".join(filter(None, parts)))


def _restored(graph: bool) -> str:
    if graph:
        return (
            "# `model` and `optimizer` stand for the names that your program gave them\n"
            "checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)\n"
            "checkpoint.read(prefix).assert_existing_objects_matched()\n"
        )
    return (
        "loaded = model.optimizer.variables\n"
        "for variable, stored in zip(optimizer.variables, loaded, strict=True):\n"
        "    variable.assign(stored)\n"
        "model.optimizer = optimizer\n"
    )
