"""How Flax writes its layers: linen, and nnx where that differs.

A leaf outside of the collection `params` stands under `COLLECTION:`.
"""

from __future__ import annotations

from portackpt.layouts.kinds import Kind, Spelling, Table, layer

_convolution = layer(("kernel", "... in out", "weight"), ("bias", "out", "bias"))
_norm = layer(("scale", "...", "weight"), ("bias", "...", "bias"))
_NO_COUNT = {
    "batches": "the number of batches seen; it counts only with momentum=None, which averages all"
}


def _batch_norm(collection: str) -> Spelling:
    return layer(
        ("scale", "channel", "weight"),
        ("bias", "channel", "bias"),
        (f"{collection}mean", "channel", "mean"),
        (f"{collection}var", "channel", "variance"),
        absent=_NO_COUNT,
    )


SPELLINGS: Table = {
    Kind.PLAIN: (layer(("", "...", "")),),
    Kind.LINEAR: (layer(("kernel", "in out", "weight"), ("bias", "out", "bias")),),
    Kind.LINEAR_IN_OUT: (layer(("kernel", "in out", "weight"), ("bias", "out", "bias")),),
    Kind.HF_CONV1D: (layer(("kernel", "out in", "weight"), ("bias", "out", "bias")),),
    Kind.FLATTEN_LINEAR: (
        layer(("kernel", "(... channel) out", "weight"), ("bias", "out", "bias")),
    ),
    Kind.CONV1D: (_convolution,),
    Kind.CONV2D: (_convolution,),
    Kind.CONV3D: (_convolution,),
    Kind.CONV_TRANSPOSE: (layer(("kernel", "~... in out", "weight"), ("bias", "out", "bias")),),
    Kind.CONV_TRANSPOSE_KERNEL: (
        layer(("kernel", "... out in", "weight"), ("bias", "out", "bias")),
    ),
    Kind.DEPTHWISE: (
        layer(
            ("kernel", "... 1 (channel multiplier)", "weight"),
            ("bias", "(channel multiplier)", "bias"),
        ),
    ),
    Kind.EMBEDDING: (layer(("embedding", "token feature", "weight")),),
    Kind.LAYER_NORM: (_norm,),
    Kind.RMS_NORM: (layer(("scale", "...", "weight")),),
    Kind.GROUP_NORM: (_norm,),
    Kind.BATCH_NORM: (_batch_norm("batch_stats:"),),
    Kind.MULTIHEAD_ATTENTION: (
        layer(
            ("{projection}/kernel", "in head dim", "{projection}.weight"),
            ("{projection}/bias", "head dim", "{projection}.bias"),
            ("out/kernel", "head dim out", "out.weight"),
            ("out/bias", "out", "out.bias"),
            projection="query key value",
        ),
    ),
    Kind.LSTM: (
        layer(
            ("i{gate}/kernel", "in hidden", "input.weight.{gate}"),
            ("h{gate}/kernel", "recurrent hidden", "recurrent.weight.{gate}"),
            ("h{gate}/bias", "hidden", "input.bias.{gate} + recurrent.bias.{gate}"),
            gate="i f g o",
        ),
    ),
    Kind.GRU: (
        layer(
            ("i{gate}/kernel", "in hidden", "input.weight.{gate}"),
            ("h{gate}/kernel", "recurrent hidden", "recurrent.weight.{gate}"),
            ("ir/bias", "hidden", "input.bias.r + recurrent.bias.r"),
            ("iz/bias", "hidden", "input.bias.z + recurrent.bias.z"),
            ("in/bias", "hidden", "input.bias.n"),
            ("hn/bias", "hidden", "recurrent.bias.n"),
            gate="r z n",
        ),
    ),
    Kind.PRELU: (layer(("negative_slope", "", "weight")),),
    Kind.WEIGHT_NORM: (
        layer(
            ("layer_instance/kernel", "... in out", "direction"),
            ("layer_instance/kernel/scale", "out", "magnitude"),
            ("layer_instance/bias", "out", "bias"),
        ),
    ),
}

# without collections: nnx, and linen where its collections were told apart already
NNX: Table = {
    **SPELLINGS,
    Kind.BATCH_NORM: (_batch_norm(""),),
    Kind.LSTM: (
        layer(  # nnx.OptimizedLSTMCell
            ("dense_i/kernel", "in (gate hidden)", "input.weight.{gate}"),
            ("dense_h/kernel", "recurrent (gate hidden)", "recurrent.weight.{gate}"),
            ("dense_h/bias", "(gate hidden)", "input.bias.{gate} + recurrent.bias.{gate}"),
            gate="i f g o",
        ),
        layer(  # nnx.LSTMCell; `if` is a word of Python
            ("ii/kernel", "in hidden", "input.weight.i"),
            ("if_/kernel", "in hidden", "input.weight.f"),
            ("ig/kernel", "in hidden", "input.weight.g"),
            ("io/kernel", "in hidden", "input.weight.o"),
            ("h{gate}/kernel", "recurrent hidden", "recurrent.weight.{gate}"),
            ("h{gate}/bias", "hidden", "input.bias.{gate} + recurrent.bias.{gate}"),
            gate="i f g o",
        ),
        *SPELLINGS[Kind.LSTM],
    ),
    Kind.GRU: (
        layer(
            ("dense_i/kernel", "in (gate hidden)", "input.weight.{gate}"),
            ("dense_h/kernel", "recurrent (gate hidden)", "recurrent.weight.{gate}"),
            ("dense_i/bias", "(gate hidden)", "input.bias.{gate} + recurrent.bias.{gate}"),
            gate="r z n",
            absent={
                "recurrent.bias.n": "nnx.GRUCell has no bias inside of the reset gate; the move is "
                "exact where that bias is zero, and it is not trained any more"
            },
        ),
        *SPELLINGS[Kind.GRU],
    ),
    Kind.WEIGHT_NORM: (
        layer(
            ("layer_instance/kernel", "... in out", "direction"),
            ("scales/('kernel',)", "out", "magnitude"),
            ("layer_instance/bias", "out", "bias"),
        ),
        *SPELLINGS[Kind.WEIGHT_NORM],
    ),
}
