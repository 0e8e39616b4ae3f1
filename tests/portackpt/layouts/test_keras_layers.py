"""The real PyTorch and the real Keras compute the same from layers that our transforms moved."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portackpt.layouts.dialects import Dialect
from portackpt.layouts.kinds import Kind
from portackpt.layouts.translation import leaf_names

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")

import layers  # noqa: E402

nn = torch.nn
L = keras.layers


def values(module: Any) -> layers.Arrays:
    """A module's state in float64, filled at random: nothing is 0 or 1 that need not be."""
    generator = np.random.default_rng(0)
    module.double().eval()
    state = module.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            drawn = generator.standard_normal(tuple(tensor.shape))
            state[name] = torch.from_numpy(np.abs(drawn) + 0.1 if "var" in name else drawn)
    module.load_state_dict(state)
    return {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}


def named(layer: Any) -> dict[str, Any]:
    """Variables of a Keras layer by their path below it (below the cell, for recurrent ones)."""
    found = {}
    for variable in layer.weights:
        _, _, name = variable.path.partition("/")
        found[name.removeprefix("lstm_cell/").removeprefix("gru_cell/")] = variable
    return found


def last(array: Any) -> np.ndarray:
    """Channels last."""
    return np.moveaxis(np.asarray(array), 1, -1)


def close(ours: Any, theirs: Any, tolerance: float = 1e-12) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def x(*shape: int) -> Any:
    return torch.from_numpy(np.random.default_rng(1).standard_normal(shape))


def filled(kind: Kind, module: Any, layer: Any, built: tuple[int, ...], **options: Any) -> Any:
    """The Keras layer with the moved state of the PyTorch module: every variable, nothing else."""
    layer.build(built)
    there = named(layer)
    template = {name: tuple(variable.shape) for name, variable in there.items()}
    moved = layers.moved(kind, values(module), Dialect.KERAS, template, **options)
    assert set(moved) == set(there)
    for name, variable in there.items():
        variable.assign(moved[name])
    return layer


CASES = [
    (Kind.LINEAR, lambda: nn.Linear(4, 3), lambda: L.Dense(3, dtype="float64"), (2, 4)),
    (Kind.CONV1D, lambda: nn.Conv1d(4, 6, 3, padding=1),
     lambda: L.Conv1D(6, 3, padding="same", dtype="float64"), (2, 4, 9)),
    (Kind.CONV2D, lambda: nn.Conv2d(4, 6, (3, 5), padding=(1, 2)),
     lambda: L.Conv2D(6, (3, 5), padding="same", dtype="float64"), (2, 4, 8, 9)),
    (Kind.CONV3D, lambda: nn.Conv3d(2, 3, 3, padding=1),
     lambda: L.Conv3D(3, 3, padding="same", dtype="float64"), (2, 2, 5, 6, 7)),
    (Kind.CONV2D, lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2),
     lambda: L.Conv2D(6, 3, padding="same", groups=2, dtype="float64"), (2, 4, 8, 8)),
    (Kind.DEPTHWISE, lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4),
     lambda: L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, dtype="float64"),
     (2, 4, 8, 8)),
    (Kind.CONV_TRANSPOSE, lambda: nn.ConvTranspose1d(4, 6, 3, stride=2),
     lambda: L.Conv1DTranspose(6, 3, strides=2, dtype="float64"), (2, 4, 8)),
    (Kind.CONV_TRANSPOSE, lambda: nn.ConvTranspose2d(4, 6, (3, 4), stride=2),
     lambda: L.Conv2DTranspose(6, (3, 4), strides=2, dtype="float64"), (2, 4, 5, 6)),
    (Kind.LAYER_NORM, lambda: nn.LayerNorm(4),
     lambda: L.LayerNormalization(epsilon=1e-5, dtype="float64"), (2, 4)),
    (Kind.RMS_NORM, lambda: nn.RMSNorm(4, eps=1e-6),
     lambda: L.RMSNormalization(dtype="float64"), (2, 4)),
    (Kind.GROUP_NORM, lambda: nn.GroupNorm(2, 4),
     lambda: L.GroupNormalization(2, epsilon=1e-5, dtype="float64"), (2, 4, 5, 5)),
    (Kind.GROUP_NORM, lambda: nn.InstanceNorm2d(4, affine=True),
     lambda: L.GroupNormalization(-1, epsilon=1e-5, dtype="float64"), (2, 4, 5, 5)),
    (Kind.BATCH_NORM, lambda: nn.BatchNorm2d(4),
     lambda: L.BatchNormalization(epsilon=1e-5, dtype="float64"), (2, 4, 5, 5)),
    (Kind.PRELU, lambda: nn.PReLU(4),
     lambda: L.PReLU(shared_axes=[1, 2], dtype="float64"), (2, 4, 5, 5)),
    (Kind.PRELU, lambda: nn.PReLU(4), lambda: L.PReLU(dtype="float64"), (2, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "ours", "theirs", "shape"), CASES)
def test_it_computes_the_same_in_keras(
    kind: Kind, ours: Callable[[], Any], theirs: Callable[[], Any], shape: tuple[int, ...]
) -> None:
    module, inputs = ours(), x(*shape)
    maps = len(shape) > 2
    given = last(inputs) if maps else inputs.numpy()
    layer = filled(kind, module, theirs(), given.shape)
    expected = module(inputs).detach()
    close(layer(given), last(expected) if maps else expected)


def test_it_looks_up_the_same_rows_in_keras() -> None:
    module = nn.Embedding(7, 4)
    layer = filled(Kind.EMBEDDING, module, L.Embedding(7, 4, dtype="float64"), (2, 2))
    index = np.array([[0, 6], [3, 3]])
    close(layer(index), module(torch.from_numpy(index)).detach())


def test_it_multiplies_by_a_tied_embedding_without_turning_it() -> None:
    module = nn.Embedding(7, 4)
    layer = filled(Kind.EMBEDDING, module, L.ReversibleEmbedding(7, 4, dtype="float64"), (2, 2))
    inputs = x(2, 4)
    close(layer(inputs.numpy(), reverse=True), (inputs @ module.weight.T).detach())


def test_it_flattens_channels_last_in_keras() -> None:
    module = nn.Linear(2 * 3 * 4, 5)
    layer = filled(
        Kind.FLATTEN_LINEAR, module, L.Dense(5, dtype="float64"), (2, 24), shape=[2, 3, 4]
    )
    maps = x(2, 2, 3, 4)
    close(layer(L.Flatten(dtype="float64")(last(maps))), module(maps.flatten(1)).detach())


def test_it_pads_a_stride_as_pytorch_does_where_padding_is_spelled_out() -> None:
    module = nn.Conv2d(4, 6, 3, stride=2, padding=1)
    inputs = x(2, 4, 8, 8)
    layer = filled(Kind.CONV2D, module, L.Conv2D(6, 3, strides=2, dtype="float64"), (2, 10, 10, 4))
    padded = L.ZeroPadding2D(1, dtype="float64")(last(inputs))
    close(layer(padded), last(module(inputs).detach()))


def test_it_attends_in_keras() -> None:
    module = nn.MultiheadAttention(12, 3, batch_first=True)
    layer = L.MultiHeadAttention(3, 4, dtype="float64")
    inputs = x(2, 5, 12)
    layer.build((2, 5, 12), (2, 5, 12))
    template = {name: tuple(variable.shape) for name, variable in named(layer).items()}
    moved = layers.moved(Kind.MULTIHEAD_ATTENTION, values(module), Dialect.KERAS, template)
    for name, variable in named(layer).items():
        variable.assign(moved[name])
    found = layer(inputs.numpy(), inputs.numpy())
    close(found, module(inputs, inputs, inputs)[0].detach())


def test_it_runs_an_lstm_in_keras() -> None:
    module = nn.LSTM(3, 5, batch_first=True)
    leaves = {name.removesuffix("_l0"): array for name, array in values(module).items()}
    layer = L.LSTM(5, return_sequences=True, dtype="float64")
    layer.build((2, 4, 3))
    moved = layers.moved(Kind.LSTM, leaves, Dialect.KERAS)
    for name, variable in named(layer).items():
        variable.assign(moved[name])
    inputs = x(2, 4, 3)
    close(layer(inputs.numpy()), module(inputs)[0].detach())


def test_it_runs_a_gru_in_keras() -> None:
    module = nn.GRU(3, 5, batch_first=True)
    leaves = {name.removesuffix("_l0"): array for name, array in values(module).items()}
    layer = L.GRU(5, return_sequences=True, reset_after=True, dtype="float64")
    layer.build((2, 4, 3))
    moved = layers.moved(Kind.GRU, leaves, Dialect.KERAS)
    for name, variable in named(layer).items():
        variable.assign(moved[name])
    inputs = x(2, 4, 3)
    close(layer(inputs.numpy()), module(inputs)[0].detach())


def test_it_keeps_a_biased_variance_in_keras() -> None:
    module = nn.BatchNorm2d(4, momentum=0.125)
    layer = L.BatchNormalization(momentum=1 - 0.125, epsilon=1e-5, dtype="float64")
    inputs = x(3, 4, 5, 8)
    filled(Kind.BATCH_NORM, module, layer, (3, 5, 8, 4))
    before = module.running_var.numpy().copy()
    module.train()
    expected = module(inputs).detach()
    close(layer(last(inputs), training=True), last(expected))
    close(layer.moving_mean, module.running_mean)
    biased = np.asarray(layer.moving_variance) - 0.875 * before
    close(0.875 * before + biased * 120 / 119, module.running_var)


BUILT = [
    (Kind.LINEAR, lambda: L.Dense(3), (2, 4)),
    (Kind.CONV2D, lambda: L.Conv2D(3, 2), (2, 5, 5, 4)),
    (Kind.CONV_TRANSPOSE, lambda: L.Conv2DTranspose(3, 2), (2, 5, 5, 4)),
    (Kind.DEPTHWISE, lambda: L.DepthwiseConv2D(3), (2, 5, 5, 4)),
    (Kind.EMBEDDING, lambda: L.Embedding(7, 4), (2, 3)),
    (Kind.LAYER_NORM, lambda: L.LayerNormalization(), (2, 4)),
    (Kind.RMS_NORM, lambda: L.RMSNormalization(), (2, 4)),
    (Kind.GROUP_NORM, lambda: L.GroupNormalization(2), (2, 5, 5, 4)),
    (Kind.BATCH_NORM, lambda: L.BatchNormalization(), (2, 4)),
    (Kind.PRELU, lambda: L.PReLU(), (2, 4)),
    (Kind.LSTM, lambda: L.LSTMCell(5), (2, 4)),
    (Kind.GRU, lambda: L.GRUCell(5), (2, 4)),
]


def test_it_knows_the_names_in_weights_files_and_object_graphs(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    tf = pytest.importorskip("tensorflow")
    for kind, make, shape in BUILT:
        layer = make()
        layer.build(shape)
        size = len(layer.weights)
        assert leaf_names(kind, Dialect.KERAS)[:size] == tuple(named(layer))
        with h5py.File(tmp_path / f"{kind}.h5", "w") as file:
            layer.save_own_variables(file)
            stored = [f"vars/{key}" for key in sorted(file)]
        assert leaf_names(kind, Dialect.KERAS_H5)[:size] == tuple(stored)
        prefix = str(tmp_path / kind / "checkpoint")
        tf.train.Checkpoint(layer=layer).write(prefix)
        tracked = {
            name.removeprefix("layer/").removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"): shape
            for name, shape in tf.train.list_variables(prefix)
            if name.startswith("layer/")
        }
        assert set(leaf_names(kind, Dialect.KERAS_OBJECTS)[:size]) == set(tracked), kind
