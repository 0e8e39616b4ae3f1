"""Where to resume: the newest checkpoint that is whole, and what happens to those that are not."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portackpt.errors import DamagedError, InputError, RefusedError
from portackpt.manager import plain as live
from portackpt.manager import record
from portackpt.manager import root as disk
from portackpt.manager.record import Record
from portackpt.store import manifest, roots

log = logging.getLogger("portackpt")


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A checkpoint that was newer, and damaged: why, and the name that it has now (None where it
    could not be renamed)."""

    step: int
    reason: str
    name: str | None


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a run goes on: after `step`, with `objects` as they were then.

    `record` is what was known when it was saved; `passed_over` are newer checkpoints that could not
    be used.
    """

    step: int
    objects: Mapping[str, Any]
    ledger: Any
    record: Record
    passed_over: tuple[PassedOver, ...] = ()


def newest(root: Path, objects: Mapping[str, Any]) -> tuple[Resumed | None, list[PassedOver]]:
    """Restore `objects` from the newest checkpoint that is whole; what is damaged is set aside.

    Every byte is compared with its digest as it is read. Where that fails halfway, the next older
    checkpoint overwrites all that was restored before.
    """
    passed: list[PassedOver] = []
    for step in roots.directories(root):
        try:
            return one(root, step, objects, tuple(passed)), passed
        except (DamagedError, RefusedError) as error:
            reason = str(error)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            reason = f"cannot be read: {error.strerror}"
        name = disk.set_aside(root, step)
        log.warning("step %d of %s is damaged and was passed over: %s", step, root, reason)
        passed.append(PassedOver(step, reason, name))
    return None, passed


def one(
    root: Path, step: int, objects: Mapping[str, Any], passed: tuple[PassedOver, ...] = ()
) -> Resumed:
    """Restore `objects` from one step."""
    place = roots.find(root, step)
    if not (place / manifest.NAME).is_file():
        raise DamagedError("it has no manifest.json: its save did not end", str(place))
    restored = live.apply(disk.read(place), objects)
    return Resumed(step, restored.objects, restored.ledger, record.read(place, step), passed)


def nothing_usable(root: Path, passed: list[PassedOver]) -> InputError:
    """The error of a run that has had checkpoints, and has none that can be used."""
    told = "; ".join(f"step {one.step}: {one.reason}" for one in passed)
    return InputError(
        "this run has saved checkpoints, and none of them can be used"
        + (f" ({told})" if told else "")
        + "; the objects must not be trained on as they are. To start from scratch on purpose, "
        "choose a new root",
        str(root),
    )
