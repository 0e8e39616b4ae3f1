"""PyTorch: formats of portackpt."""
