"""Saving live objects as a neutral checkpoint, and restoring them from a checkpoint of any format.

portackpt.save("run/100", {"model": model, "optimizer": optimizer, "step": 100})
restored = portackpt.restore("run/100", {"model": model, "optimizer": optimizer, "step": 0})
step = restored.objects["step"]
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from portackpt.conversion import open_checkpoint
from portackpt.errors import located
from portackpt.live import Restored, apply, capture
from portackpt.plugins import Progress


def save(
    path: str | os.PathLike[str],
    objects: Mapping[str, object],
    *,
    step: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write `objects` as a neutral checkpoint at `path`, durably, and whole or not at all.

    The objects may be of any framework, or plain data. `step` is recorded. Where `path` exists,
    nothing is written without `overwrite`; with it, the old checkpoint is replaced in one step.
    Raises `UsageError`, naming all that cannot be saved, and `WriteError`.
    """
    from portackpt.store.format import FORMAT

    checkpoint = replace(capture(objects), step=step)
    FORMAT.write(
        checkpoint, Path(path), overwrite=overwrite, step=None, progress=progress or _unheard
    )


def restore(
    path: str | os.PathLike[str],
    objects: Mapping[str, object],
    *,
    strict: bool = True,
    step: int | None = None,
    settings: Mapping[str, str] | None = None,
) -> Restored:
    """Fill `objects` from the checkpoint at `path`, of any format and of any framework.

    Everything is compared first, so that what does not fit is told at once and changes nothing.
    Bytes are checked as they are read; where one is wrong, the error says that the objects are
    filled in part. `step` picks one of a root's steps, `settings` say what a checkpoint of another
    framework leaves open.
    """
    checkpoint = open_checkpoint(path, step=step)
    with located(str(path)):
        return apply(checkpoint, objects, strict=strict, where=str(path), settings=settings)


def _unheard(count: int) -> None:
    pass
