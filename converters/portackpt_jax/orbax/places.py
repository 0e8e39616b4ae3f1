"""What lies at a path: one pytree, a composite of named items, or a root of steps."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from portackpt.errors import DamagedError, UsageError

TEMPORARY = ".orbax-checkpoint-tmp"
CHECKPOINT_METADATA = "_CHECKPOINT_METADATA"
INDICATOR = "orbax.checkpoint"
COMMITTED = "commit_success.txt"
DELETION = "_CHECKPOINT_DELETION"
PYTREE_FILES = frozenset(("_METADATA", "manifest.ocdbt"))
# what stands beside items and is none
NOT_ITEMS = frozenset((CHECKPOINT_METADATA, INDICATOR, COMMITTED, DELETION))
_MOST_NAMES = 100_000
_STEP = re.compile(r"(?:.*_)?(\d{1,18})")
_MSGPACK_MAPS = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))


def names(path: Path) -> frozenset[str]:
    """Names in a directory; empty for anything else."""
    try:
        return frozenset(entry.name for entry in islice(path.iterdir(), _MOST_NAMES))
    except OSError:
        return frozenset()


def is_pytree(path: Path, found: frozenset[str]) -> bool:
    """True when `path` with these names in it holds one pytree itself."""
    if not PYTREE_FILES.isdisjoint(found):
        return True
    if "checkpoint" in found and _starts_like_msgpack(path / "checkpoint"):
        return True
    return any(is_plain_array(path / name) for name in islice(sorted(found), 16))


def is_plain_array(path: Path) -> bool:
    return (path / ".zarray").is_file() or (path / "zarr.json").is_file()


def _starts_like_msgpack(path: Path) -> bool:
    """True for a msgpack map, and not for the text file that TensorFlow calls the same."""
    try:
        with path.open("rb") as file:
            head = file.read(1)
    except OSError:
        return False
    return bool(head) and head[0] in _MSGPACK_MAPS


def is_checkpoint(path: Path) -> bool:
    """True for one checkpoint: a pytree, or a composite of which some item is one."""
    found = names(path)
    if not found.isdisjoint(NOT_ITEMS) or is_pytree(path, found):
        return True
    return any(is_pytree(path / name, names(path / name)) for name in islice(sorted(found), 64))


def is_one_checkpoint(path: Path) -> bool:
    """True for what is surely no root, whatever the names in it."""
    found = names(path)
    return not found.isdisjoint(NOT_ITEMS) or is_pytree(path, found)


def step_of(name: str) -> int | None:
    """The step that the name of a directory means: 7 for `7` and `checkpoint_7`."""
    match = _STEP.fullmatch(name)
    return int(match[1]) if match else None


def steps(root: Path) -> dict[int, Path]:
    """The complete steps of a root, ascending; empty where `root` is itself one checkpoint."""
    if is_one_checkpoint(root):
        return {}
    by_step = {}
    for name in sorted(names(root)):
        step = step_of(name)
        if step is not None and is_checkpoint(root / name) and is_committed(root / name):
            by_step[step] = root / name
    return dict(sorted(by_step.items()))


def is_committed(path: Path) -> bool:
    """False while Orbax is still writing: by the name, or by what its own metadata say."""
    if TEMPORARY in path.name:
        return False
    found = names(path)
    if any(TEMPORARY in name for name in found):
        return False
    if COMMITTED in found or CHECKPOINT_METADATA not in found:
        return True
    from portackpt_jax.orbax.directory import read_json

    try:
        metadata = read_json(path / CHECKPOINT_METADATA, 16 << 20)
    except DamagedError:
        return True
    missing = object()
    stamp = metadata.get("commit_timestamp_nsecs", missing) if isinstance(metadata, dict) else 0
    return stamp is not None


def choose(path: Path, step: int | None) -> tuple[Path, int | None]:
    """The one checkpoint meant by `path` and `step`, and which step it is."""
    if not path.is_dir():
        raise DamagedError("not a directory, as an Orbax checkpoint is", str(path))
    found = steps(path)
    if found:
        chosen = max(found) if step is None else step
        if chosen not in found:
            raise UsageError(
                f"no complete step {step}; there are {', '.join(map(str, found))}", str(path)
            )
        return found[chosen], chosen
    if not is_checkpoint(path) and any(TEMPORARY in name for name in names(path)):
        raise DamagedError("no step is committed: each was interrupted while saving", str(path))
    if not is_committed(path):
        raise DamagedError(
            "not committed: saving was interrupted; use an earlier checkpoint", str(path)
        )
    own = int(path.name) if path.name.isascii() and path.name.isdigit() else None
    if step is not None and step != own:
        raise UsageError(f"this is one checkpoint, not a root with step {step}", str(path))
    return path, own
