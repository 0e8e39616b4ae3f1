"""The PyTorch dialect: what PyTorch's state dicts mean, and how it spells what others mean."""
