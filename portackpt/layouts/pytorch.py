"""How PyTorch writes its layers (torch.nn, and torch.nn.utils.parametrizations)."""

from __future__ import annotations

from portackpt.layouts.kinds import Kind, Table, layer

_convolution = layer(("weight", "out in ...", "weight"), ("bias", "out", "bias"))
_transposed = layer(("weight", "in out ...", "weight"), ("bias", "out", "bias"))
_norm = layer(("weight", "...", "weight"), ("bias", "...", "bias"))
_recurrent = (
    ("weight_ih", "(gate hidden) in", "input.weight.{gate}"),
    ("weight_hh", "(gate hidden) recurrent", "recurrent.weight.{gate}"),
    ("bias_ih", "(gate hidden)", "input.bias.{gate}"),
    ("bias_hh", "(gate hidden)", "recurrent.bias.{gate}"),
)

SPELLINGS: Table = {
    Kind.PLAIN: (layer(("", "...", "")),),
    Kind.LINEAR: (layer(("weight", "out in", "weight"), ("bias", "out", "bias")),),
    Kind.LINEAR_IN_OUT: (layer(("weight", "in out", "weight"), ("bias", "out", "bias")),),
    Kind.HF_CONV1D: (layer(("weight", "in out", "weight"), ("bias", "out", "bias")),),
    Kind.FLATTEN_LINEAR: (
        layer(("weight", "out (channel ...)", "weight"), ("bias", "out", "bias")),
    ),
    Kind.CONV1D: (_convolution,),
    Kind.CONV2D: (_convolution,),
    Kind.CONV3D: (_convolution,),
    Kind.CONV_TRANSPOSE: (_transposed,),
    Kind.CONV_TRANSPOSE_KERNEL: (_transposed,),
    Kind.DEPTHWISE: (
        layer(
            ("weight", "(channel multiplier) 1 ...", "weight"),
            ("bias", "(channel multiplier)", "bias"),
        ),
    ),
    Kind.EMBEDDING: (layer(("weight", "token feature", "weight")),),
    Kind.LAYER_NORM: (_norm,),
    Kind.RMS_NORM: (layer(("weight", "...", "weight")),),
    Kind.GROUP_NORM: (_norm,),
    Kind.BATCH_NORM: (
        layer(
            ("weight", "channel", "weight"),
            ("bias", "channel", "bias"),
            ("running_mean", "channel", "mean"),
            ("running_var", "channel", "variance"),
            ("num_batches_tracked", "", "batches"),
        ),
    ),
    Kind.MULTIHEAD_ATTENTION: (
        layer(
            ("in_proj_weight", "(projection head dim) in", "{projection}.weight"),
            ("in_proj_bias", "(projection head dim)", "{projection}.bias"),
            ("out_proj.weight", "out (head dim)", "out.weight"),
            ("out_proj.bias", "out", "out.bias"),
            projection="query key value",
        ),
    ),
    Kind.LSTM: (layer(*_recurrent, gate="i f g o"),),
    Kind.GRU: (layer(*_recurrent, gate="r z n"),),
    Kind.PRELU: (layer(("weight", "channel", "weight")),),
    Kind.WEIGHT_NORM: (
        layer(
            ("parametrizations.weight.original0", "out 1 1...", "magnitude"),
            ("parametrizations.weight.original1", "out in ...", "direction"),
            ("bias", "out", "bias"),
        ),
        layer(  # torch.nn.utils.weight_norm, before parametrizations
            ("weight_g", "out 1 1...", "magnitude"),
            ("weight_v", "out in ...", "direction"),
            ("bias", "out", "bias"),
        ),
    ),
}
