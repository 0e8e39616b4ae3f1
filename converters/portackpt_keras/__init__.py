"""Keras: formats of portackpt."""
