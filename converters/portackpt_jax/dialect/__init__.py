"""The JAX dialect: what optax and Flax trees mean, and how they spell what others mean."""
