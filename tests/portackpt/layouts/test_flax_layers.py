"""The real PyTorch and the real Flax compute the same from layers that our transforms moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from portackpt.layouts.dialects import Dialect
from portackpt.layouts.kinds import Kind

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")
jnp = jax.numpy

import layers  # noqa: E402

nn = torch.nn


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.manual_seed(0)
    with jax.enable_x64(True):
        yield


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


def variables(leaves: layers.Arrays) -> dict[str, Any]:
    """Leaves by path, as the variables of linen: nested, in their collections."""
    found: dict[str, Any] = {}
    for name, array in leaves.items():
        collection, _, path = name.rpartition(":")
        node = found.setdefault(collection or "params", {})
        *parents, last = path.split("/")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = jnp.asarray(array)
    return found


def last(array: Any) -> np.ndarray:
    """Channels last."""
    return np.moveaxis(np.asarray(array), 1, -1)


def close(ours: Any, theirs: Any, tolerance: float = 1e-12) -> None:
    ours, theirs = (
        np.asarray(ours),
        np.asarray(theirs.detach() if hasattr(theirs, "detach") else theirs),
    )
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def x(*shape: int) -> Any:
    return torch.from_numpy(np.random.default_rng(1).standard_normal(shape))


DENSE = [
    (Kind.LINEAR, lambda: nn.Linear(4, 3), lambda: linen.Dense(3), (2, 4)),
    (Kind.LAYER_NORM, lambda: nn.LayerNorm(4), lambda: linen.LayerNorm(epsilon=1e-5), (2, 4)),
    (Kind.RMS_NORM, lambda: nn.RMSNorm(4, eps=1e-6), lambda: linen.RMSNorm(), (2, 4)),
    (Kind.PRELU, lambda: nn.PReLU(), lambda: linen.PReLU(), (2, 4)),
]
MAPS = [
    (Kind.CONV1D, lambda: nn.Conv1d(4, 6, 3, padding=1), lambda: linen.Conv(6, (3,)), (2, 4, 9)),
    (Kind.CONV2D, lambda: nn.Conv2d(4, 6, (3, 5), padding=(1, 2)),
     lambda: linen.Conv(6, (3, 5)), (2, 4, 8, 9)),
    (Kind.CONV3D, lambda: nn.Conv3d(2, 3, 3, padding=1),
     lambda: linen.Conv(3, (3, 3, 3)), (2, 2, 5, 6, 7)),
    (Kind.CONV2D, lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2),
     lambda: linen.Conv(6, (3, 3), feature_group_count=2), (2, 4, 8, 8)),
    (Kind.CONV2D, lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1),
     lambda: linen.Conv(6, (3, 3), strides=2, padding=1), (2, 4, 8, 8)),
    (Kind.DEPTHWISE, lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4),
     lambda: linen.Conv(8, (3, 3), feature_group_count=4), (2, 4, 8, 8)),
    (Kind.CONV_TRANSPOSE, lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1),
     # linen pads the inputs that were spread out: by kernel - 1 - padding
     lambda: linen.ConvTranspose(6, (3,), strides=(2,), padding=((1, 1),)), (2, 4, 8)),
    (Kind.CONV_TRANSPOSE, lambda: nn.ConvTranspose2d(4, 6, (3, 4), stride=2),
     lambda: linen.ConvTranspose(6, (3, 4), strides=(2, 2), padding="VALID"), (2, 4, 5, 6)),
    (Kind.CONV_TRANSPOSE_KERNEL, lambda: nn.ConvTranspose2d(4, 6, (3, 4), stride=2),
     lambda: linen.ConvTranspose(6, (3, 4), strides=(2, 2), padding="VALID", transpose_kernel=True),
     (2, 4, 5, 6)),
    (Kind.GROUP_NORM, lambda: nn.GroupNorm(2, 4), lambda: linen.GroupNorm(2, epsilon=1e-5),
     (2, 4, 5, 5)),
    (Kind.BATCH_NORM, lambda: nn.BatchNorm2d(4),
     lambda: linen.BatchNorm(use_running_average=True), (2, 4, 5, 5)),
]  # fmt: skip


def forward(kind: Kind, ours: Callable[[], Any], theirs: Callable[[], Any], inputs: Any) -> Any:
    """Output of the PyTorch module and of the linen module with its moved state."""
    module = ours()
    moved = layers.moved(kind, values(module), Dialect.FLAX)
    given = inputs.numpy() if inputs.ndim < 3 else last(inputs)
    return theirs().apply(variables(moved), jnp.asarray(given)), module(inputs)


@pytest.mark.parametrize(("kind", "ours", "theirs", "shape"), DENSE)
def test_it_computes_the_same_in_linen(
    kind: Kind, ours: Callable[[], Any], theirs: Callable[[], Any], shape: tuple[int, ...]
) -> None:
    found, expected = forward(kind, ours, theirs, x(*shape))
    close(found, expected)


@pytest.mark.parametrize(("kind", "ours", "theirs", "shape"), MAPS)
def test_it_computes_the_same_maps_in_linen(
    kind: Kind, ours: Callable[[], Any], theirs: Callable[[], Any], shape: tuple[int, ...]
) -> None:
    found, expected = forward(kind, ours, theirs, x(*shape))
    close(found, last(expected.detach()))


def test_it_looks_up_the_same_rows_in_linen() -> None:
    module = nn.Embedding(7, 4)
    moved = layers.moved(Kind.EMBEDDING, values(module), Dialect.FLAX)
    index = np.array([[0, 6], [3, 3]])
    close(linen.Embed(7, 4).apply(variables(moved), index), module(torch.from_numpy(index)))


def test_it_attends_to_a_tied_embedding_without_turning_it() -> None:
    module = nn.Embedding(7, 4)
    moved = layers.moved(Kind.EMBEDDING, values(module), Dialect.FLAX)
    inputs = x(2, 4)
    embed = linen.Embed(7, 4)
    found = embed.apply(variables(moved), jnp.asarray(inputs.numpy()), method=embed.attend)
    close(found, inputs @ module.weight.T)


def test_it_flattens_channels_last_in_linen() -> None:
    module = nn.Linear(2 * 3 * 4, 5)
    moved = layers.moved(Kind.FLATTEN_LINEAR, values(module), Dialect.FLAX, shape=[2, 3, 4])
    maps = x(2, 2, 3, 4)
    inputs = jnp.asarray(last(maps).reshape(2, -1))
    close(linen.Dense(5).apply(variables(moved), inputs), module(maps.flatten(1)))


def test_it_is_wrong_to_flatten_as_if_channels_came_first() -> None:
    module = nn.Linear(2 * 3 * 4, 5)
    moved = layers.moved(Kind.LINEAR, values(module), Dialect.FLAX)
    maps = x(2, 2, 3, 4)
    found = linen.Dense(5).apply(variables(moved), jnp.asarray(last(maps).reshape(2, -1)))
    assert np.abs(np.asarray(found) - module(maps.flatten(1)).detach().numpy()).max() > 0.1


def test_it_attends_in_linen() -> None:
    module = nn.MultiheadAttention(12, 3, batch_first=True)
    moved = layers.moved(Kind.MULTIHEAD_ATTENTION, values(module), Dialect.FLAX, head=3)
    inputs = x(2, 5, 12)
    theirs = linen.MultiHeadDotProductAttention(3, dtype=jnp.float64, param_dtype=jnp.float64)
    found = theirs.apply(variables(moved), jnp.asarray(inputs.numpy()))
    close(found, module(inputs, inputs, inputs)[0])


@pytest.mark.parametrize("cell", ["LSTMCell", "OptimizedLSTMCell"])
def test_it_runs_an_lstm_in_linen(cell: str) -> None:
    module = nn.LSTMCell(3, 5)
    moved = layers.moved(Kind.LSTM, values(module), Dialect.FLAX)
    inputs, h, c = x(2, 3), x(2, 5), x(2, 5) * 2
    theirs = getattr(linen, cell)(5, param_dtype=jnp.float64)
    carry = (jnp.asarray(c.numpy()), jnp.asarray(h.numpy()))
    (new_c, new_h), _ = theirs.apply(variables(moved), carry, jnp.asarray(inputs.numpy()))
    expected_h, expected_c = module(inputs, (h, c))
    close(new_h, expected_h)
    close(new_c, expected_c)


def test_it_runs_a_gru_in_linen() -> None:
    module = nn.GRUCell(3, 5)
    moved = layers.moved(Kind.GRU, values(module), Dialect.FLAX)
    inputs, h = x(2, 3), x(2, 5)
    theirs = linen.GRUCell(5, param_dtype=jnp.float64)
    found, _ = theirs.apply(variables(moved), jnp.asarray(h.numpy()), jnp.asarray(inputs.numpy()))
    close(found, module(inputs, h))


@pytest.mark.parametrize("old", [False, True])
def test_it_normalizes_weights_in_linen(old: bool) -> None:
    module = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    leaves = values(module)
    inputs = x(2, 4)
    expected = module(inputs)
    if old:
        leaves = {
            "weight_g": leaves["parametrizations.weight.original0"],
            "weight_v": leaves["parametrizations.weight.original1"],
            "bias": leaves["bias"],
        }
    moved = layers.moved(Kind.WEIGHT_NORM, leaves, Dialect.FLAX)

    class Wrapped(linen.Module):
        def setup(self) -> None:
            self.head = linen.WeightNorm(linen.Dense(3))

        def __call__(self, inputs: Any) -> Any:
            return self.head(inputs)

    head = variables(
        {name: array for name, array in moved.items() if name != "layer_instance/kernel/scale"}
    )["params"]
    head["layer_instance/kernel/scale"] = jnp.asarray(moved["layer_instance/kernel/scale"])
    close(Wrapped().apply({"params": {"head": head}}, jnp.asarray(inputs.numpy())), expected)


def test_it_agrees_on_the_mean_but_not_on_the_variance_of_a_batch() -> None:
    module = nn.BatchNorm2d(4, momentum=0.125)
    before = values(module)
    module.train()
    inputs = x(3, 4, 5, 8)
    expected = module(inputs)
    theirs = linen.BatchNorm(momentum=1 - 0.125, use_running_average=False)
    moved = layers.moved(Kind.BATCH_NORM, before, Dialect.FLAX)
    found, updated = theirs.apply(
        variables(moved), jnp.asarray(last(inputs)), mutable=["batch_stats"]
    )
    close(found, last(expected.detach()))
    close(updated["batch_stats"]["mean"], module.running_mean)
    biased = np.asarray(updated["batch_stats"]["var"]) - 0.875 * before["running_var"]
    close(0.875 * before["running_var"] + biased * 120 / 119, module.running_var)


def nnx_module(make: Callable[[Any], Any], leaves: layers.Arrays) -> Any:
    module = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    nnx.update(module, variables(leaves)["params"])
    return module


NNX = [
    (Kind.LINEAR, lambda: nn.Linear(4, 3), lambda r: nnx.Linear(4, 3, rngs=r), (2, 4)),
    (Kind.CONV2D, lambda: nn.Conv2d(4, 6, 3, padding=1),
     lambda r: nnx.Conv(4, 6, (3, 3), rngs=r), (2, 4, 8, 8)),
    (Kind.CONV_TRANSPOSE, lambda: nn.ConvTranspose2d(4, 6, (3, 4), stride=2),
     lambda r: nnx.ConvTranspose(4, 6, (3, 4), strides=(2, 2), padding="VALID", rngs=r),
     (2, 4, 5, 6)),
    (Kind.LAYER_NORM, lambda: nn.LayerNorm(4),
     lambda r: nnx.LayerNorm(4, epsilon=1e-5, rngs=r), (2, 4)),
    (Kind.RMS_NORM, lambda: nn.RMSNorm(4, eps=1e-6), lambda r: nnx.RMSNorm(4, rngs=r), (2, 4)),
    (Kind.GROUP_NORM, lambda: nn.GroupNorm(2, 4),
     lambda r: nnx.GroupNorm(4, 2, epsilon=1e-5, rngs=r), (2, 4, 5, 5)),
    (Kind.BATCH_NORM, lambda: nn.BatchNorm2d(4),
     lambda r: nnx.BatchNorm(4, use_running_average=True, rngs=r), (2, 4, 5, 5)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "ours", "theirs", "shape"), NNX)
def test_it_computes_the_same_in_nnx(
    kind: Kind, ours: Callable[[], Any], theirs: Callable[[Any], Any], shape: tuple[int, ...]
) -> None:
    module = ours()
    moved = layers.moved(kind, values(module), Dialect.NNX)
    inputs = x(*shape)
    expected = module(inputs).detach()
    maps = len(shape) > 2
    given = last(inputs) if maps else inputs.numpy()
    close(nnx_module(theirs, moved)(jnp.asarray(given)), last(expected) if maps else expected)


def test_it_attends_in_nnx_to_the_precision_of_its_logits() -> None:
    module = nn.MultiheadAttention(12, 3, batch_first=True)
    moved = layers.moved(Kind.MULTIHEAD_ATTENTION, values(module), Dialect.NNX, head=3)
    inputs = x(2, 5, 12)
    theirs = nnx_module(lambda r: nnx.MultiHeadAttention(3, 12, decode=False, rngs=r), moved)
    close(theirs(jnp.asarray(inputs.numpy())), module(inputs, inputs, inputs)[0], 1e-6)


@pytest.mark.parametrize("cell", ["LSTMCell", "OptimizedLSTMCell"])
def test_it_runs_an_lstm_in_nnx(cell: str) -> None:
    module = nn.LSTMCell(3, 5)
    theirs = nnx.eval_shape(lambda: getattr(nnx, cell)(3, 5, rngs=nnx.Rngs(0)))
    template = {
        "/".join(map(str, path)): leaf.shape
        for path, leaf in nnx.to_flat_state(nnx.state(theirs, nnx.Param))
    }
    moved = layers.moved(Kind.LSTM, values(module), Dialect.NNX, template)
    nnx.update(theirs, variables(moved)["params"])
    inputs, h, c = x(2, 3), x(2, 5), x(2, 5)
    (_, new_h), _ = theirs((jnp.asarray(c.numpy()), jnp.asarray(h.numpy())), inputs.numpy())
    close(new_h, module(inputs, (h, c))[0])


def test_it_runs_a_gru_in_nnx_where_its_missing_bias_is_zero() -> None:
    module = nn.GRUCell(3, 5)
    values(module)
    with torch.no_grad():
        module.bias_hh[10:] = 0
    leaves = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    moved = layers.moved(Kind.GRU, leaves, Dialect.NNX)
    theirs = nnx_module(lambda r: nnx.GRUCell(3, 5, rngs=r), moved)
    inputs, h = x(2, 3), x(2, 5)
    found, _ = theirs(jnp.asarray(h.numpy()), jnp.asarray(inputs.numpy()))
    close(found, module(inputs, h))
