"""Layers as PyTorch writes them, and their way into another dialect, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from portackpt.layouts.dialects import Dialect
from portackpt.layouts.kinds import Kind
from portackpt.layouts.translation import Translation, translate
from portackpt.tensor import from_array

Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]

# (kind, leaves of the layer in PyTorch, options that its line in a mapping would have)
TORCH: tuple[tuple[Kind, Shapes, dict[str, Any]], ...] = (
    (Kind.PLAIN, {"": (1, 2, 3)}, {}),
    (Kind.LINEAR, {"weight": (3, 4), "bias": (3,)}, {}),
    (Kind.LINEAR_IN_OUT, {"weight": (4, 3), "bias": (3,)}, {}),
    (Kind.HF_CONV1D, {"weight": (4, 3), "bias": (3,)}, {}),
    (Kind.FLATTEN_LINEAR, {"weight": (5, 24), "bias": (5,)}, {"shape": [2, 3, 4]}),
    (Kind.CONV1D, {"weight": (4, 2, 3), "bias": (4,)}, {}),
    (Kind.CONV2D, {"weight": (4, 2, 3, 5), "bias": (4,)}, {}),
    (Kind.CONV3D, {"weight": (4, 2, 3, 5, 2), "bias": (4,)}, {}),
    (Kind.CONV_TRANSPOSE, {"weight": (2, 4, 3), "bias": (4,)}, {}),
    (Kind.CONV_TRANSPOSE, {"weight": (2, 4, 3, 5), "bias": (4,)}, {}),
    (Kind.CONV_TRANSPOSE_KERNEL, {"weight": (2, 4, 3, 5), "bias": (4,)}, {}),
    (Kind.DEPTHWISE, {"weight": (6, 1, 3, 5), "bias": (6,)}, {"multiplier": 2}),
    (Kind.EMBEDDING, {"weight": (7, 4)}, {}),
    (Kind.LAYER_NORM, {"weight": (3, 4), "bias": (3, 4)}, {}),
    (Kind.RMS_NORM, {"weight": (4,)}, {}),
    (Kind.GROUP_NORM, {"weight": (4,), "bias": (4,)}, {}),
    (Kind.BATCH_NORM, {"weight": (4,), "bias": (4,), "running_mean": (4,), "running_var": (4,),
                       "num_batches_tracked": ()}, {}),
    (Kind.MULTIHEAD_ATTENTION, {"in_proj_weight": (36, 12), "in_proj_bias": (36,),
                                "out_proj.weight": (12, 12), "out_proj.bias": (12,)}, {"head": 3}),
    (Kind.LSTM, {"weight_ih": (20, 3), "weight_hh": (20, 5), "bias_ih": (20,), "bias_hh": (20,)},
     {}),
    (Kind.GRU, {"weight_ih": (15, 3), "weight_hh": (15, 5), "bias_ih": (15,), "bias_hh": (15,)},
     {}),
    (Kind.PRELU, {"weight": (1,)}, {}),
    (Kind.WEIGHT_NORM, {"parametrizations.weight.original0": (3, 1),
                        "parametrizations.weight.original1": (3, 4), "bias": (3,)}, {}),
    (Kind.WEIGHT_NORM, {"weight_g": (3, 1, 1, 1), "weight_v": (3, 4, 2, 5), "bias": (3,)}, {}),
)  # fmt: skip


def moved(
    kind: Kind,
    leaves: Arrays,
    target: Dialect,
    template: Shapes | None = None,
    source: Dialect = Dialect.TORCH,
    *,
    slots: bool = False,
    **options: Any,
) -> Arrays:
    """The arrays of a layer in another dialect, by our transforms."""
    shapes = {name: array.shape for name, array in leaves.items()}
    return carried(translate(kind, source, target, shapes, template, options), leaves, slots=slots)


def carried(translation: Translation, leaves: Arrays, *, slots: bool = False) -> Arrays:
    found: Arrays = {}
    for move in translation.moves:
        tensors = [from_array(leaves[name]) for name in move.sources]
        results = move.regroup.apply(tensors, slots=slots)
        assert tuple(result.shape for result in results) == move.regroup.shapes()
        found.update({n: t.read() for n, t in zip(move.targets, results, strict=True)})
    return found
