"""Directories and archives that hold several checkpoints: formats of portackpt."""
