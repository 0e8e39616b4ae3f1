"""The neutral model: a checkpoint as a tree of lazy leaves, and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portackpt.tree import Node


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """One checkpoint, opened but not loaded.

    `format` is the format it was read from, `framework` the one that wrote it (`pytorch`, `jax`,
    `tensorflow`; None where the format belongs to none), `step` the training step where known.
    `details` are facts of that format which it needs in order to write the same checkpoint again
    (plain data); a format ignores the details of another. `notes` are sentences that a reader must
    know ("this format has no checksums: a flipped bit is not found").
    """

    tree: Node
    format: str
    framework: str | None = None
    framework_version: str | None = None
    step: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def details_for(self, format: str) -> Mapping[str, Any]:
        """The details where they are of `format`, also after a stay in the neutral store."""
        origin = self.format
        own = self.details.get("portackpt")
        if origin == "portackpt" and isinstance(own, Mapping):
            origin = own.get("source", origin)
        return self.details if origin == format else {}
