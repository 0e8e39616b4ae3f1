"""Layouts of layers: where each framework puts the axes, and the transforms between them."""
