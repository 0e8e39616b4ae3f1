"""numpy: formats of portackpt."""
