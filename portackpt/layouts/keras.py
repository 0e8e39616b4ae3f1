"""How Keras writes its layers: by variable paths, in `.weights.h5` files, in object graphs.

The names of the three differ, the layouts do not.
"""

from __future__ import annotations

from dataclasses import replace

from portackpt.layouts.kinds import Kind, Spelling, Table, layer

_convolution = layer(("kernel", "... in out", "weight"), ("bias", "out", "bias"))
_norm = layer(("gamma", "...", "weight"), ("beta", "...", "bias"))
_transposed = layer(("kernel", "... out in", "weight"), ("bias", "out", "bias"))

SPELLINGS: Table = {
    Kind.PLAIN: (layer(("", "...", "")),),
    Kind.LINEAR: (layer(("kernel", "in out", "weight"), ("bias", "out", "bias")),),
    Kind.LINEAR_IN_OUT: (layer(("kernel", "in out", "weight"), ("bias", "out", "bias")),),
    Kind.HF_CONV1D: (layer(("weight", "in out", "weight"), ("bias", "1 out", "bias")),),
    Kind.FLATTEN_LINEAR: (
        layer(("kernel", "(... channel) out", "weight"), ("bias", "out", "bias")),
    ),
    Kind.CONV1D: (_convolution,),
    Kind.CONV2D: (_convolution,),
    Kind.CONV3D: (_convolution,),
    Kind.CONV_TRANSPOSE: (_transposed,),
    Kind.CONV_TRANSPOSE_KERNEL: (_transposed,),
    Kind.DEPTHWISE: (
        layer(
            ("kernel", "... channel multiplier", "weight"),
            ("bias", "(channel multiplier)", "bias"),
        ),
        layer(  # Keras 2
            ("depthwise_kernel", "... channel multiplier", "weight"),
            ("bias", "(channel multiplier)", "bias"),
        ),
    ),
    Kind.EMBEDDING: (layer(("embeddings", "token feature", "weight")),),
    Kind.LAYER_NORM: (_norm,),
    Kind.RMS_NORM: (layer(("scale", "...", "weight")),),
    Kind.GROUP_NORM: (_norm,),
    Kind.BATCH_NORM: (
        layer(
            ("gamma", "channel", "weight"),
            ("beta", "channel", "bias"),
            ("moving_mean", "channel", "mean"),
            ("moving_variance", "channel", "variance"),
            absent={
                "batches": "the number of batches seen; it counts only with momentum=None, which "
                "averages all"
            },
        ),
    ),
    Kind.MULTIHEAD_ATTENTION: (
        layer(
            ("{projection}/kernel", "in head dim", "{projection}.weight"),
            ("{projection}/bias", "head dim", "{projection}.bias"),
            ("attention_output/kernel", "head dim out", "out.weight"),
            ("attention_output/bias", "out", "out.bias"),
            projection="query key value",
        ),
    ),
    Kind.LSTM: (
        layer(
            ("kernel", "in (gate hidden)", "input.weight.{gate}"),
            ("recurrent_kernel", "recurrent (gate hidden)", "recurrent.weight.{gate}"),
            ("bias", "(gate hidden)", "input.bias.{gate} + recurrent.bias.{gate}"),
            gate="i f g o",
        ),
    ),
    Kind.GRU: (  # reset_after=True; the other form is another equation
        layer(
            ("kernel", "in (gate hidden)", "input.weight.{gate}"),
            ("recurrent_kernel", "recurrent (gate hidden)", "recurrent.weight.{gate}"),
            ("bias", "side (gate hidden)", "{side}.bias.{gate}"),
            gate="z r n",
            side="input recurrent",
        ),
    ),
    Kind.PRELU: (
        layer(("alpha", "channel", "weight")),
        layer(("alpha", "1 channel", "weight")),
        layer(("alpha", "1 1 channel", "weight")),
        layer(("alpha", "1 1 1 channel", "weight")),
    ),
}


def _respelled(spelling: Spelling, names: list[str]) -> Spelling:
    leaves = [replace(leaf, name=name) for leaf, name in zip(spelling.leaves, names, strict=True)]
    return replace(spelling, leaves=tuple(leaves))


def _stored(kind: Kind, spelling: Spelling) -> Spelling:
    """The names of `save_own_variables`: positions, and attributes of the layers inside."""
    if kind is Kind.PLAIN:
        return spelling
    if kind is Kind.MULTIHEAD_ATTENTION:
        return _respelled(spelling, ["{projection}_dense/vars/0", "{projection}_dense/vars/1",
                                     "output_dense/vars/0", "output_dense/vars/1"])  # fmt: skip
    return _respelled(spelling, [f"vars/{index}" for index in range(len(spelling.leaves))])


_PRIVATE = {
    Kind.LINEAR, Kind.LINEAR_IN_OUT, Kind.FLATTEN_LINEAR, Kind.CONV1D, Kind.CONV2D, Kind.CONV3D,
}  # fmt: skip
"""Layers whose kernel is an attribute `_kernel`: they can be quantized or have a LoRA."""


def _tracked(kind: Kind, spelling: Spelling) -> Spelling:
    """The names of a TensorFlow object graph: attributes."""
    if kind is Kind.MULTIHEAD_ATTENTION:
        return _respelled(spelling, ["_{projection}_dense/_kernel", "_{projection}_dense/bias",
                                     "_output_dense/_kernel", "_output_dense/bias"])  # fmt: skip
    if kind is Kind.EMBEDDING:
        return _respelled(spelling, ["_embeddings"])
    if kind in _PRIVATE:
        return _respelled(spelling, ["_kernel", "bias"])
    return spelling


H5: Table = {
    kind: tuple([_stored(kind, spelling) for spelling in spellings])
    for kind, spellings in SPELLINGS.items()
}
OBJECTS: Table = {
    kind: tuple([_tracked(kind, spelling) for spelling in spellings])
    for kind, spellings in SPELLINGS.items()
}
