"""Makes tests/data/flax: files that flax.serialization wrote.

python tests/data/make_flax.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization
from flax.training.train_state import TrainState

HERE = Path(__file__).parent / "flax"


def tree() -> dict[str, Any]:
    """One leaf of every kind."""
    return {
        "params": {"w/x": np.arange(6, dtype=np.float32).reshape(2, 3), "größe": np.ones((0, 2))},
        "half": jnp.ones(3, jnp.bfloat16),
        "scalar": np.float32(2.5),
        "zero_d": np.array(7, np.int8),
        "numbers": {"int": -(2**40), "big": 2**63 - 1, "float": 0.1, "bool": True, "none": None},
        "complex": 1 - 2j,
        "text": "größe",
        "bytes": b"\x00\xff",
        "empty": {},
        "list": [1, {"a": np.zeros(2)}, []],
    }


def state() -> TrainState:
    params = {"dense": {"kernel": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float32)}}
    made = TrainState.create(apply_fn=None, params=params, tx=optax.adamw(1e-3))
    return made.apply_gradients(grads=params)


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    (HERE / "tree.msgpack").write_bytes(serialization.msgpack_serialize(tree()))
    (HERE / "state.msgpack").write_bytes(serialization.to_bytes(state()))
    serialization.MAX_CHUNK_SIZE = 100
    chunked = {"a": np.arange(60, dtype=np.int32).reshape(2, 30)}
    (HERE / "chunked.msgpack").write_bytes(serialization.msgpack_serialize(chunked))
