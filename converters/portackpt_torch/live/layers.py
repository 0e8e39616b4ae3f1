"""What a parameter is part of: its layer's kind and the names of its axes, by the layer's class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from portackpt.layouts.kinds import Kind
from portackpt.layouts.pytorch import SPELLINGS

_CLASSES: Mapping[str, Kind] = {
    "Linear": Kind.LINEAR,
    "Conv1d": Kind.CONV1D,
    "Conv2d": Kind.CONV2D,
    "Conv3d": Kind.CONV3D,
    "_ConvTransposeNd": Kind.CONV_TRANSPOSE,
    "Embedding": Kind.EMBEDDING,
    "EmbeddingBag": Kind.EMBEDDING,
    "LayerNorm": Kind.LAYER_NORM,
    "RMSNorm": Kind.RMS_NORM,
    "GroupNorm": Kind.GROUP_NORM,
    "_BatchNorm": Kind.BATCH_NORM,
    "MultiheadAttention": Kind.MULTIHEAD_ATTENTION,
    "LSTM": Kind.LSTM,
    "GRU": Kind.GRU,
    "PReLU": Kind.PRELU,
}


def layers(module: Any) -> dict[str, dict[str, str]]:
    """`layer` and, where they are known, `axes` of every parameter and buffer, by FQN."""
    found: dict[str, dict[str, str]] = {}
    for prefix, layer in module.named_modules(remove_duplicate=False):
        kind = _kind(layer)
        if kind is None:
            continue
        for name in _names(layer):
            place = f"{prefix}.{name}" if prefix else name
            # the parts of a layer, as the projection of an attention, are its own
            found.setdefault(place, _told(kind, name))
    return found


def _names(layer: Any) -> Iterator[str]:
    for name, _ in layer.named_parameters(remove_duplicate=False):
        yield name
    for name, _ in layer.named_buffers(remove_duplicate=False):
        yield name


def _kind(layer: Any) -> Kind | None:
    for base in type(layer).__mro__:
        if base.__name__ == "Conv1D" and base.__module__.startswith("transformers."):
            return Kind.HF_CONV1D
        if base.__module__.startswith("torch.nn.modules.") and base.__name__ in _CLASSES:
            kind = _CLASSES[base.__name__]
            depthwise = getattr(layer, "groups", 1) == getattr(layer, "in_channels", 0) > 1
            convolution = kind in (Kind.CONV1D, Kind.CONV2D, Kind.CONV3D)
            return Kind.DEPTHWISE if convolution and depthwise else kind
    return None


def _told(kind: Kind, name: str) -> dict[str, str]:
    axes = _axes(kind).get(_plain(kind, name))
    return {"layer": str(kind)} | ({"axes": axes} if axes else {})


def _plain(kind: Kind, name: str) -> str:
    """The name of a recurrent layer's leaf without the number of its stack and direction."""
    return name.partition("_l")[0] if kind in (Kind.LSTM, Kind.GRU) else name


@cache
def _axes(kind: Kind) -> Mapping[str, str]:
    return {leaf.name: leaf.axes for spelling in SPELLINGS[kind] for leaf in spelling.leaves}
