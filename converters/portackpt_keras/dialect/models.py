"""Parameters of Keras models, and their order.

    .keras, .weights.h5   layers/dense_1/vars/0, by class; `vars/@name` is the layer's own name
    .h5                   model_weights/LAYER/…/kernel

The optimizer's slots stand in the order of the trainable variables, which is that of the layers in
the model's configuration.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from portackpt.optimizers import Origin
from portackpt.tensor import Tensor
from portackpt.tree import Node

_NORMALIZATION = re.compile(r"(^|/)batch_normalization(_\d+)?$")
_LARGEST = 1 << 26


def configuration(text: Node) -> dict[str, Any]:
    """A JSON object, or nothing where it is anything else."""
    if not isinstance(text, str) or len(text) > _LARGEST:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def is_attribute(path: str) -> bool:
    """Whether a path is an HDF5 attribute's."""
    return path.rpartition("/")[2].startswith("@")


def statistics(paths: Mapping[str, Tensor]) -> set[str]:
    """BatchNormalization's moving mean and variance: the last two of its variables."""
    counts: dict[str, int] = {}
    for path in paths:
        layer, _, index = path.rpartition("/vars/")
        if index.isdigit() and _NORMALIZATION.search(layer):
            counts[layer] = max(counts.get(layer, 0), int(index) + 1)
    return {
        f"{layer}/vars/{index}"
        for layer, count in counts.items()
        for index in (count - 2, count - 1)
        if index >= 0
    }


def trainable(
    config: Mapping[str, Any], values: Mapping[str, Node], parameters: Mapping[str, Origin]
) -> list[str] | None:
    """The parameters in the model's order; None where the configuration does not tell it."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, Mapping) else None
    if not isinstance(layers, list):
        return None
    folders = {
        name: path.removesuffix("/vars/@name")
        for path, name in values.items()
        if path.endswith("/vars/@name") and isinstance(name, str)
    }
    by_folder: dict[str, list[str]] = {}
    for name in parameters:
        folder, _, index = name.rpartition("/vars/")
        if index.isdigit():
            by_folder.setdefault(folder, []).append(name)
    order: list[str] = []
    for layer in layers:
        own = layer.get("config") if isinstance(layer, Mapping) else None
        if isinstance(own, Mapping) and own.get("trainable", True):
            names = by_folder.get(folders.get(str(own.get("name")), ""), [])
            order += sorted(names, key=lambda name: int(name.rpartition("/")[2]))
    return order


def named(
    slots: list[dict[str, Origin]], order: list[str] | None, parameters: Mapping[str, Origin]
) -> tuple[dict[str, dict[str, Origin]], str]:
    """The slots of each parameter by its name, or by its number, and what was assumed."""
    numbered = {str(index): own for index, own in enumerate(slots)}
    count = len(slots)
    if not slots or order is None or len(order) != count:
        why = f"the {count} parameters of the optimizer keep their numbers" if slots else ""
        return numbered, why and f"the model's order is not known: {why}"
    for name, own in zip(order, slots, strict=True):
        shape = parameters[name].value.shape
        factored = {"row_moment", "column_moment"} & own.keys()
        if not factored and any(origin.value.shape != shape for origin in own.values()):
            return numbered, f"the shapes of the optimizer's {count} parameters are not the model's"
    return dict(zip(order, slots, strict=True)), (
        f"{count} numbered parameters are the model's, in the order of its layers (shapes agree)"
    )
