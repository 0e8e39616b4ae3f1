"""The models of the moved runs, as a Flax program writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import linen as nn

F64 = {"param_dtype": jnp.float64, "dtype": jnp.float64}


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.LayerNorm(epsilon=1e-5, name="norm", **F64)(nn.Dense(8, name="first", **F64)(x))
        return nn.Dense(4, name="second", **F64)(jnp.tanh(x))


class Cnn(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = jnp.moveaxis(x, 1, -1)
        x = nn.Conv(4, (3, 3), padding=1, name="conv", **F64)(x)
        x = nn.BatchNorm(use_running_average=False, momentum=0.9, name="bn", **F64)(x)
        x = nn.ConvTranspose(3, (3, 3), padding="SAME", name="up", **F64)(jnp.tanh(x))
        return nn.Dense(4, name="head", **F64)(jnp.tanh(x).reshape(x.shape[0], -1))


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, tokens: Any) -> Any:
        embed = nn.Embed(11, 8, name="embed", **F64)
        x = embed(tokens)
        h = nn.LayerNorm(epsilon=1e-5, name="ln_1", **F64)(x)
        x = x + nn.MultiHeadDotProductAttention(2, name="attn", **F64)(h, h)
        h = nn.LayerNorm(epsilon=1e-5, name="ln_2", **F64)(x)
        x = x + nn.Dense(8, name="down", **F64)(jnp.tanh(nn.Dense(16, name="up", **F64)(h)))
        return embed.attend(x)


class Lstm(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.RNN(nn.OptimizedLSTMCell(5, name="cell", **F64), name="rnn")(x)
        return nn.Dense(4, name="head", **F64)(x[:, -1])


class Gru(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.RNN(nn.GRUCell(5, name="cell", **F64), name="rnn")(x)
        return nn.Dense(4, name="head", **F64)(x[:, -1])


MODELS = {"mlp": Mlp, "cnn": Cnn, "transformer": Transformer, "lstm": Lstm, "gru": Gru}
OPTIMIZERS = {
    "adamw": lambda: optax.adamw(2**-6, b1=0.875, b2=0.984375, weight_decay=2**-4),
    "sgd": lambda: optax.sgd(2**-4, momentum=0.875),
}
SETTINGS = {
    "adamw": {"optimizer": "adamw", "lr": "0.015625", "beta1": "0.875", "beta2": "0.984375",
              "eps": "1e-8", "weight_decay": "0.0625", "decay": "decoupled"},
    "sgd": {"lr": "0.0625", "momentum": "0.875", "weight_decay": "0", "decay": "none"},
}  # fmt: skip


class Program:
    """A Flax run of one model."""

    settings = SETTINGS

    def __init__(self, model: str, optimizer: str, x: np.ndarray[Any, Any]) -> None:
        jax.config.update("jax_enable_x64", True)
        self.model = MODELS[model]()
        variables = self.model.init(jax.random.key(1), x)
        self.tx = OPTIMIZERS[optimizer]()
        self.params = variables["params"]
        self.stats = dict(variables).get("batch_stats", {})
        self.opt_state = self.tx.init(self.params)
        self.count = 0
        self._update = jax.jit(self._updated)

    def _updated(self, params: Any, stats: Any, opt_state: Any, x: Any, y: Any) -> Any:
        def loss(params: Any) -> Any:
            variables = {"params": params, **({"batch_stats": stats} if stats else {})}
            out, more = self.model.apply(variables, x, mutable=["batch_stats"])
            return ((out - y) ** 2).mean(), more.get("batch_stats", {})

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = self.tx.update(grads, opt_state, params)
        return value, optax.apply_updates(params, updates), stats, opt_state

    def step(self, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
        """One update; the loss before it."""
        value, self.params, self.stats, self.opt_state = self._update(
            self.params, self.stats, self.opt_state, x, y
        )
        self.count += 1
        return float(value)

    def state(self) -> dict[str, Any]:
        state = {"params": self.params, "opt_state": self.opt_state, "step": self.count}
        return {**state, "batch_stats": self.stats} if self.stats else state

    def save(self, path: Path) -> Path:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path, self.state())
        return path

    def restore(self, path: Path) -> None:
        with ocp.StandardCheckpointer() as checkpointer:
            state = checkpointer.restore(path, self.state())
        self.params, self.opt_state = state["params"], state["opt_state"]
        self.stats, self.count = state.get("batch_stats", {}), int(state["step"])
