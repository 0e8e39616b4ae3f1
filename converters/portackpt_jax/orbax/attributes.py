"""What a tensor's attributes say about the kind of leaf it was in Orbax."""

from collections.abc import Mapping
from typing import Any

JAX_ARRAY: Mapping[str, Any] = {"jax.class": "jax.Array"}
"""A leaf of value type `jax.Array`; without this a leaf is an `np.ndarray`."""
NUMPY_SCALAR: Mapping[str, Any] = {"numpy.class": "numpy.scalar"}
"""A `scalar` of a dtype that Python has no type for."""
NOTHING: Mapping[str, Any] = {}
KEPT = frozenset(("jax.class", "numpy.class"))
