"""Dialects: whose names and axes a checkpoint's layers are written in."""

from __future__ import annotations

from enum import StrEnum

from portackpt.layouts import flax, keras, pytorch
from portackpt.layouts.kinds import Kind, Spelling, Table


class Dialect(StrEnum):
    TORCH = "torch"
    FLAX = "flax"
    """Flax linen"""
    NNX = "nnx"
    KERAS = "keras"
    """names of variables: `dense/kernel`"""
    KERAS_H5 = "keras-h5"
    """names of a `.weights.h5`, also inside of `.keras`: `layers/dense/vars/0`"""
    KERAS_OBJECTS = "keras-objects"
    """names of a TensorFlow object graph: `_operations/1/_kernel`"""

    @property
    def family(self) -> str:
        """`torch`, `flax` or `keras`: dialects of one family differ in names only."""
        return _FAMILIES[self]

    @property
    def separator(self) -> str:
        return "." if self is Dialect.TORCH else "/"


_FAMILIES = {
    Dialect.TORCH: "torch",
    Dialect.FLAX: "flax",
    Dialect.NNX: "flax",
    Dialect.KERAS: "keras",
    Dialect.KERAS_H5: "keras",
    Dialect.KERAS_OBJECTS: "keras",
}
_TABLES: dict[Dialect, Table] = {
    Dialect.TORCH: pytorch.SPELLINGS,
    Dialect.FLAX: flax.SPELLINGS,
    Dialect.NNX: flax.NNX,
    Dialect.KERAS: keras.SPELLINGS,
    Dialect.KERAS_H5: keras.H5,
    Dialect.KERAS_OBJECTS: keras.OBJECTS,
}


def spellings(dialect: Dialect, kind: Kind) -> tuple[Spelling, ...]:
    """How `dialect` writes `kind`; empty where it has no such layer."""
    return _TABLES[dialect].get(kind, ())
