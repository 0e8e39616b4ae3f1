"""JAX, Orbax and Flax: formats of portackpt."""
