"""Roots: directories that hold the steps of a run, each a checkpoint called `step-N`."""

from __future__ import annotations

import re
from pathlib import Path

from portackpt.errors import AmbiguousError, InputError, UnsupportedError, UsageError
from portackpt.store import manifest as m
from portackpt.store.reader import read_manifest_bytes

MAX_STEP = (1 << 63) - 1
_STEP = re.compile(r"step-([0-9]{1,25})")


def step_of(name: str) -> int | None:
    """The step that a directory of this name holds; None where it is not one."""
    found = _STEP.fullmatch(name)
    step = int(found[1]) if found else -1
    return step if 0 <= step <= MAX_STEP else None


def step_name(step: int) -> str:
    """The name of the directory that holds a step."""
    if not 0 <= step <= MAX_STEP:
        raise UsageError(f"step {step} is outside 0 to 2^63 - 1")
    return f"step-{step}"


def directories(root: Path) -> dict[int, list[Path]]:
    """The directories in `root` that are named like a step, by step, newest first."""
    found: dict[int, list[Path]] = {}
    for entry in root.iterdir():
        step = step_of(entry.name)
        if step is not None and entry.is_dir():
            found.setdefault(step, []).append(entry)
    return {step: sorted(found[step]) for step in sorted(found, reverse=True)}


def complete_steps(root: Path) -> tuple[int, ...]:
    """Steps that have a manifest, ascending."""
    return tuple(
        sorted(
            step
            for step, places in directories(root).items()
            if any((place / m.NAME).is_file() for place in places)
        )
    )


def is_complete(directory: Path) -> bool:
    """True when a directory has a manifest whose digest is its own."""
    try:
        data = read_manifest_bytes(directory)
        m.check_version(data)
        m.check_digest(data)
    except UnsupportedError:
        return True  # of a later version: there, but not for us
    except (InputError, OSError):
        return False
    return True


def find(root: Path, step: int) -> Path:
    """The directory of one step. Raises `UsageError`, `AmbiguousError`."""
    places = directories(root).get(step, [])
    if not places:
        steps = complete_steps(root)
        known = f"its steps are {_told(steps)}" if steps else "it holds none"
        raise UsageError(f"step {step} is not in this root; {known}", str(root))
    if len(places) > 1:
        names = " and ".join(place.name for place in places)
        raise AmbiguousError(f"step {step} is there twice, as {names}; remove one", str(root))
    return places[0]


def newest(root: Path) -> tuple[Path, tuple[int, ...]]:
    """The directory of the newest complete step, and the incomplete ones that are newer.

    Raises `UnsupportedError` where none is complete.
    """
    skipped: list[int] = []
    for step, places in directories(root).items():
        if any(map(is_complete, places)):
            return find(root, step), tuple(skipped)
        skipped.append(step)
    raise UnsupportedError(
        "no step of this root is committed: none has a valid manifest.json "
        f"(found {_told(tuple(sorted(skipped)))})",
        str(root),
    )


def _told(steps: tuple[int, ...]) -> str:
    if len(steps) <= 6:
        return ", ".join(map(str, steps))
    first, last = ", ".join(map(str, steps[:3])), ", ".join(map(str, steps[-2:]))
    return f"{first}, …, {last} ({len(steps)} in all)"
