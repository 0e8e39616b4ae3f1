"""Axes of length one, put into the shape of a tensor and taken out of it."""

from __future__ import annotations

from dataclasses import replace

from portackpt.layouts.views import seen, view
from portackpt.tensor import Tensor


def widened(tensor: Tensor, axis: int) -> Tensor:
    """`tensor` with an axis of one that is `axis` (negative: from the end) of the result."""
    found = view(tensor)
    place = len(tensor.shape) + 1 + axis
    dimensions = (*found.dimensions[:place], (), *found.dimensions[place:])
    return seen(tensor, replace(found, dimensions=dimensions))


def narrowed(tensor: Tensor, axis: int) -> Tensor:
    """`tensor` without its `axis` (negative: from the end), which has a length of one."""
    found = view(tensor)
    place = len(tensor.shape) + axis
    dimensions = (*found.dimensions[:place], *found.dimensions[place + 1 :])
    return seen(tensor, replace(found, dimensions=dimensions))
