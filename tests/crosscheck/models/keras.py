"""The models of the moved runs, as a Keras program writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

LN = {"epsilon": 1e-5}


def _mlp() -> keras.Model:
    x = inputs = keras.Input((6,))
    x = keras.layers.LayerNormalization(name="norm", **LN)(keras.layers.Dense(8, name="first")(x))
    return keras.Model(inputs, keras.layers.Dense(4, name="second")(keras.ops.tanh(x)))


def _cnn() -> keras.Model:
    inputs = keras.Input((2, 5, 5))
    x = keras.ops.moveaxis(inputs, 1, -1)
    x = keras.layers.Conv2D(4, 3, padding="same", name="conv")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="bn")(x)
    x = keras.layers.Conv2DTranspose(3, 3, padding="same", name="up")(keras.ops.tanh(x))
    x = keras.ops.reshape(keras.ops.tanh(x), (-1, 75))
    return keras.Model(inputs, keras.layers.Dense(4, name="head")(x))


def _transformer() -> keras.Model:
    tokens = keras.Input((5,), dtype="int64")
    embed = keras.layers.ReversibleEmbedding(11, 8, name="embed")
    x = embed(tokens)
    h = keras.layers.LayerNormalization(name="ln_1", **LN)(x)
    x = x + keras.layers.MultiHeadAttention(2, 4, name="attn")(h, h)
    h = keras.layers.LayerNormalization(name="ln_2", **LN)(x)
    h = keras.ops.tanh(keras.layers.Dense(16, name="up")(h))
    x = x + keras.layers.Dense(8, name="down")(h)
    return keras.Model(tokens, embed(x, reverse=True))


def _recurrent(kind: Any) -> keras.Model:
    inputs = keras.Input((4, 6))
    x = kind(5, name="rnn")(inputs)
    return keras.Model(inputs, keras.layers.Dense(4, name="head")(x))


MODELS = {
    "mlp": _mlp,
    "cnn": _cnn,
    "transformer": _transformer,
    "lstm": lambda: _recurrent(keras.layers.LSTM),
    "gru": lambda: _recurrent(keras.layers.GRU),
}
OPTIMIZERS = {
    "adamw": lambda: keras.optimizers.AdamW(
        2**-6, weight_decay=2**-4, beta_1=0.875, beta_2=0.984375, epsilon=2**-24
    ),
    "sgd": lambda: keras.optimizers.SGD(2**-4, momentum=0.875),
}
SETTINGS: dict[str, dict[str, str]] = {"adamw": {}, "sgd": {}}


class Program:
    """A Keras run of one model; its checkpoint is a `.keras` file."""

    settings = SETTINGS

    def __init__(self, model: str, optimizer: str) -> None:
        keras.config.set_floatx("float64")
        keras.utils.set_random_seed(2)
        self.model = MODELS[model]()
        self.optimizer = OPTIMIZERS[optimizer]()
        self.model.compile(self.optimizer, "mse")
        self.optimizer.build(self.model.trainable_variables)

    def step(self, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
        """One update; the loss before it."""
        with tf.GradientTape() as tape:
            out = self.model(x, training=True)
            loss = tf.reduce_mean((out - y) ** 2)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return float(loss)

    def save(self, path: Path) -> Path:
        self.model.save(path)
        return path

    def restore(self, path: Path) -> None:
        self.model = keras.saving.load_model(path)
        self.optimizer = self.model.optimizer
