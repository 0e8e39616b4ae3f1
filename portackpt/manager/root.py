"""The root of a run on disk: checkpoints are committed, un-committed, set aside and cleaned up.

ROOT/step-10/  step-20/ …        checkpoints
     damaged-step-30/            set aside by a restore that found it damaged
     journal.jsonl               the journal
     .step-40.tmp-…/             being written, or left by a process that died
     .trash-…/                   un-committed, being deleted
"""

from __future__ import annotations

import errno
import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from portackpt.checkpoint import Checkpoint
from portackpt.errors import UsageError, located
from portackpt.manager import owner, record
from portackpt.manager.record import Record
from portackpt.storage.local import make_directory, staged_directory, sync_directory
from portackpt.store import manifest, roots
from portackpt.store.reader import read_checkpoint
from portackpt.store.writer import write_checkpoint

_TRASH = ".trash-"
_DAMAGED = "damaged-step-"
_STAGED = re.compile(r"\.step-[0-9]{1,25}\.tmp-[0-9a-f]+")


def prepare(root: Path) -> None:
    """Make `root`, durably, or check that it can be one; delete what dead processes left in it."""
    if root.is_dir() and (root / manifest.NAME).exists():
        told = "this is one checkpoint, not a root of steps; give the manager a directory above it"
        raise UsageError(told, str(root))
    if not root.is_dir():
        if root.exists() or root.is_symlink():
            raise UsageError("a root is a directory; something else is there", str(root))
        make_directory(root)
    for entry in list(root.iterdir()):
        abandoned = _STAGED.fullmatch(entry.name) and owner.is_abandoned(entry)
        if abandoned or entry.name.startswith(_TRASH):
            shutil.rmtree(entry, ignore_errors=True)


def records(root: Path) -> tuple[Record, ...]:
    """The records of all steps that have a manifest, oldest first."""
    found = []
    for step, places in sorted(roots.directories(root).items()):
        with suppress(OSError):  # one that another process deletes meanwhile
            place = next((p for p in places if (p / manifest.NAME).is_file()), None)
            if place is not None:
                found.append(record.read(place, step))
    return tuple(found)


def complete(root: Path) -> tuple[int, ...]:
    """The steps whose manifest is whole, ascending."""
    found = roots.directories(root)
    return tuple(sorted(step for step in found if any(map(roots.is_complete, found[step]))))


def holds(root: Path, step: int) -> bool:
    """True when a whole checkpoint of `step` is there."""
    return any(map(roots.is_complete, roots.directories(root).get(step, ())))


def has_damaged(root: Path) -> bool:
    """True when a checkpoint was set aside here."""
    return any(entry.name.startswith(_DAMAGED) for entry in root.iterdir())


def read(place: Path) -> Checkpoint:
    """The checkpoint in the directory `place`, opened. Raises `InputError`."""
    with located(str(place)):
        return read_checkpoint(place)


def commit(
    root: Path, checkpoint: Checkpoint, told: Record, progress: Callable[[int], None]
) -> None:
    """Write a checkpoint and its record: whole and durable when this returns, or not there."""
    target = root / roots.step_name(told.step)
    if target.exists() and not roots.is_complete(target):
        set_aside(root, told.step)
    with staged_directory(target, overwrite=False) as directory:
        owner.claim(directory)
        record.write(directory, told)
        write_checkpoint(directory, checkpoint, step=told.step, progress=progress)
        owner.release(directory)
        progress(0)  # the last word of one who gives this save up


def set_aside(root: Path, step: int) -> str | None:
    """Rename the directories of a damaged step, so that nothing takes them for a checkpoint.

    Answers a name, or None where the root cannot be changed.
    """
    name: str | None = None
    for place in roots.directories(root).get(step, ()):
        wanted = f"{_DAMAGED}{place.name.removeprefix('step-')}"
        target = root / wanted
        if target.exists():
            target = root / f"{wanted}-{secrets.token_hex(4)}"
        try:
            place.rename(target)
        except OSError:
            return None
        name = target.name
    with suppress(OSError):
        sync_directory(root)
    return name


def remove(root: Path, steps: tuple[int, ...]) -> None:
    """Delete checkpoints: first all lose their names, durably; then their bytes go."""
    trash = []
    for step in steps:
        for place in roots.directories(root).get(step, ()):
            target = root / f"{_TRASH}{place.name}-{secrets.token_hex(8)}"
            try:
                place.rename(target)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    continue  # another process was faster
                raise
            trash.append(target)
    if trash:
        sync_directory(root)
    for place in trash:
        shutil.rmtree(place, ignore_errors=True)
