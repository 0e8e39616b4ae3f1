"""A neutral checkpoint format, and conversion of training runs between frameworks.

portackpt.open(path)          -> Checkpoint, lazy, any format
portackpt.save(path, objects)     live objects of any framework as a neutral checkpoint
portackpt.restore(path, objects)  -> Restored: the objects filled, and a ledger
portackpt.rng_state()             the global random streams, as one such object
portackpt.convert(src, dst)   -> Ledger: what became of every leaf
portackpt.validate(path)      -> faults of a neutral checkpoint, none when it is valid
portackpt.diff(a, b)          -> Comparison of any two checkpoints
portackpt.inspect(path)       -> Inspection: what is in a checkpoint
portackpt.CheckpointManager   when to save, what to keep, where to resume
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portackpt.comparison import diff
    from portackpt.conversion import convert
    from portackpt.conversion import open_checkpoint as open
    from portackpt.inspection import inspect
    from portackpt.manager import CheckpointManager
    from portackpt.rng import rng_state
    from portackpt.saving import restore, save
    from portackpt.validation import validate

__version__ = "0.1.0"
__all__ = [
    "CheckpointManager",
    "convert",
    "diff",
    "inspect",
    "open",
    "restore",
    "rng_state",
    "save",
    "validate",
]

_DOORS = {
    "CheckpointManager": ("portackpt.manager", "CheckpointManager"),
    "convert": ("portackpt.conversion", "convert"),
    "diff": ("portackpt.comparison", "diff"),
    "inspect": ("portackpt.inspection", "inspect"),
    "open": ("portackpt.conversion", "open_checkpoint"),
    "restore": ("portackpt.saving", "restore"),
    "rng_state": ("portackpt.rng", "rng_state"),
    "save": ("portackpt.saving", "save"),
    "validate": ("portackpt.validation", "validate"),
}


def __getattr__(name: str) -> Any:
    """The front door's functions, imported when first used: `import portackpt` costs nothing."""
    if name not in _DOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _DOORS[name]
    return getattr(import_module(module), attribute)
