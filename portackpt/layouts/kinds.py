"""Kinds of layers, and the parts that each is made of.

Between two dialects stand the canonical parts of a layer: what no dialect divides any further. A
packed projection has three weights here, an LSTM one matrix a gate, a GRU two biases a gate. A
dialect says for each of its leaves which parts it holds, in which order, along which axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a layer is: the name of its axes, never guessed from their lengths."""

    PLAIN = "plain"
    """values that every framework keeps as they are: a class token, a position table"""
    LINEAR = "linear"
    LINEAR_IN_OUT = "linear_in_out"
    """a linear layer whose weight is (in, out) in PyTorch, too"""
    HF_CONV1D = "hf_conv1d"
    """`Conv1D` of Hugging Face's GPT-2, a linear layer: (in, out) in PyTorch, (out, in) in Flax"""
    FLATTEN_LINEAR = "flatten_linear"
    """the first linear layer after feature maps were flattened; needs their shape"""
    CONV1D = "conv1d"
    CONV2D = "conv2d"
    CONV3D = "conv3d"
    CONV_TRANSPOSE = "conv_transpose"
    CONV_TRANSPOSE_KERNEL = "conv_transpose_kernel"
    """a transposed convolution that Flax computes with `transpose_kernel=True`"""
    DEPTHWISE = "depthwise"
    EMBEDDING = "embedding"
    LAYER_NORM = "layer_norm"
    RMS_NORM = "rms_norm"
    GROUP_NORM = "group_norm"
    BATCH_NORM = "batch_norm"
    MULTIHEAD_ATTENTION = "multihead_attention"
    LSTM = "lstm"
    GRU = "gru"
    PRELU = "prelu"
    WEIGHT_NORM = "weight_norm"
    """a linear layer or convolution under weight normalization"""
    TIED = "tied"
    """another name of a parameter that has a place already"""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of a layer in one dialect: its name, its axes, and the parts that it holds.

    `{gate}` in `name` and `of` stands for one leaf a gate; a name of `Spelling.parts` among `axes`
    for all of them in one leaf, one after another. `of` may add parts: `a + b`.
    """

    name: str
    axes: str
    of: str


@dataclass(frozen=True, slots=True, eq=False)
class Spelling:
    """How one dialect writes one kind of layer.

    `parts` are the axes along which parts follow each other: `gate` is i, f, g, o, in that order.
    `absent` are the parts that the dialect does not keep, and why that is so.
    """

    leaves: tuple[Leaf, ...]
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)


def layer(
    *leaves: tuple[str, str, str],
    absent: Mapping[str, str] | None = None,
    **parts: str,
) -> Spelling:
    """A spelling from (name, axes, parts held) of its leaves."""
    return Spelling(
        tuple([Leaf(*leaf) for leaf in leaves]),
        {axis: tuple(names.split()) for axis, names in parts.items()},
        absent or {},
    )


Table = Mapping[Kind, tuple[Spelling, ...]]
"""All spellings of a dialect; of several for one kind, the first is written by default."""

_WEIGHTS = {"weight": "out in", "bias": "out"}
_CONVOLUTION = {"weight": "out in ...", "bias": "out"}
_NORM = {"weight": "...", "bias": "..."}
_GATES = {
    "input.weight": "hidden in",
    "recurrent.weight": "hidden recurrent",
    "input.bias": "hidden",
    "recurrent.bias": "hidden",
}

CANONICAL: Mapping[Kind, Mapping[str, str]] = {
    Kind.PLAIN: {"": "..."},
    Kind.LINEAR: _WEIGHTS,
    Kind.LINEAR_IN_OUT: _WEIGHTS,
    Kind.HF_CONV1D: _WEIGHTS,
    Kind.FLATTEN_LINEAR: {"weight": "out channel ...", "bias": "out"},
    Kind.CONV1D: _CONVOLUTION,
    Kind.CONV2D: _CONVOLUTION,
    Kind.CONV3D: _CONVOLUTION,
    Kind.CONV_TRANSPOSE: {"weight": "in out ...", "bias": "out"},
    Kind.CONV_TRANSPOSE_KERNEL: {"weight": "in out ...", "bias": "out"},
    Kind.DEPTHWISE: {"weight": "channel multiplier ...", "bias": "channel multiplier"},
    Kind.EMBEDDING: {"weight": "token feature"},
    Kind.LAYER_NORM: _NORM,
    Kind.RMS_NORM: {"weight": "..."},
    Kind.GROUP_NORM: _NORM,
    Kind.BATCH_NORM: {
        "weight": "channel",
        "bias": "channel",
        "mean": "channel",
        "variance": "channel",
        "batches": "",
    },
    Kind.MULTIHEAD_ATTENTION: {
        **{f"{name}.weight": "head dim in" for name in ("query", "key", "value")},
        **{f"{name}.bias": "head dim" for name in ("query", "key", "value")},
        "out.weight": "out head dim",
        "out.bias": "out",
    },
    Kind.LSTM: {f"{part}.{gate}": axes for gate in "ifgo" for part, axes in _GATES.items()},
    Kind.GRU: {f"{part}.{gate}": axes for gate in "rzn" for part, axes in _GATES.items()},
    Kind.PRELU: {"weight": "channel"},
    Kind.WEIGHT_NORM: {"direction": "out in ...", "magnitude": "out", "bias": "out"},
}
"""Parts and axes of every kind, in PyTorch's order where that has one. `gate` axes are single
letters: input, forget, cell (g) and output of an LSTM; reset, update (z) and new of a GRU."""
