"""Where a checkpoint lies: from the path that a user gives to the files that hold it.

dir/ckpt-9             a prefix: dir/ckpt-9.index and dir/ckpt-9.data-00000-of-00001
dir/ckpt-9.index, dir/ckpt-9.data-00000-of-00001, dir/checkpoint       one of these files
dir                    the checkpoint that dir/checkpoint names, or the only or newest one there
dir                    a SavedModel: dir/saved_model.pb and dir/variables/variables.index
dir/model.ckpt-9       TensorFlow 1's single file
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from portackpt.errors import (
    AmbiguousError,
    DamagedError,
    InputError,
    UnsupportedError,
    UsageError,
)
from portackpt_tensorflow import statefile
from portackpt_tensorflow.shards import NAME as SHARD_NAME
from portackpt_tensorflow.shards import index_path

_STEP = re.compile(r"-(\d{1,18})$")
PROGRAMS = ("saved_model.pb", "saved_model.pbtxt")


class Kind(StrEnum):
    BUNDLE = "bundle"
    SAVED_MODEL = "SavedModel"
    SINGLE_FILE = "V1 file"


@dataclass(frozen=True, slots=True)
class Location:
    """One checkpoint: the prefix of a bundle, or a single file."""

    path: Path
    kind: Kind
    notes: tuple[str, ...] = ()

    @property
    def step(self) -> int | None:
        """The number at the end of its name."""
        found = _STEP.search(self.path.name)
        return int(found[1]) if found else None


def locate(path: Path, step: int | None = None) -> Location:
    """The checkpoint that `path` (and `step`, in a directory of several) means."""
    if path.name == statefile.NAME and _is_state(path):
        path = path.parent
    if path.is_dir() and not index_path(path).is_file():
        return _in_directory(path, step)
    if step is not None:
        raise UsageError("--step is for a directory of several checkpoints", str(path))
    return _at(path)


def checkpoints(directory: Path) -> dict[str, Location]:
    """The checkpoints of a directory by name, without those in a SavedModel."""
    names = sorted(entry.name for entry in directory.iterdir())
    found = {
        name.removesuffix(".index"): Location(directory / name.removesuffix(".index"), Kind.BUNDLE)
        for name in names
        if name.endswith(".index") and not name.startswith(".")
    }
    state = statefile.read_state(directory)
    for text in () if state is None else (*state.known, state.newest or ""):
        name = statefile.last_component(text)
        if name and name not in found and is_single_file(directory / name):
            found[name] = Location(directory / name, Kind.SINGLE_FILE)
    return found


def steps(path: Path) -> tuple[int, ...]:
    """The numbers of a directory of several checkpoints; empty for anything else."""
    if path.name == statefile.NAME and _is_state(path):
        path = path.parent
    if not path.is_dir() or index_path(path).is_file() or _variables(path) is not None:
        return ()
    found = {place.step for place in checkpoints(path).values()}
    numbers = sorted(number for number in found if number is not None)
    return tuple(numbers) if len(numbers) > 1 else ()


def _in_directory(path: Path, step: int | None) -> Location:
    variables = _variables(path)
    if variables is not None:
        if step is not None:
            raise UsageError("--step is for a directory of several checkpoints", str(path))
        return _saved_model(path, variables)
    found = checkpoints(path)
    if step is not None:
        return _numbered(path, found, step)
    if not found:
        raise DamagedError("no index of a checkpoint in this directory", str(path))
    state = statefile.read_state(path)
    newest = state.newest if state else None
    place = found.get(statefile.last_component(newest or ""))
    if place is None:
        place = next(iter(found.values())) if len(found) == 1 else _newest(path, found)
    if newest in (None, place.path.name):
        return place
    note = f"the file `checkpoint` names {newest!r}; read {place.path.name!r} of this directory"
    return Location(place.path, place.kind, (note,))


def _numbered(path: Path, found: dict[str, Location], step: int) -> Location:
    fitting = [place for place in found.values() if place.step == step]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        known = sorted({place.step for place in found.values() if place.step is not None})
        raise UsageError(
            f"no step {step} here; there are {', '.join(map(str, known)) or 'none'}", str(path)
        )
    raise AmbiguousError(
        f"several checkpoints of step {step}: "
        f"{', '.join(place.path.name for place in fitting)}; give the path of one",
        str(path),
    )


def _newest(path: Path, found: dict[str, Location]) -> Location:
    """The highest number of checkpoints that have the same name otherwise."""
    stems = {_STEP.sub("", name) for name in found}
    numbered = [place for place in found.values() if place.step is not None]
    if len(stems) > 1 or len(numbered) < len(found):
        raise AmbiguousError(
            f"several checkpoints: {', '.join(found)}; give the path of one, such as "
            f"{path / next(iter(found))}",
            str(path),
        )
    return max(numbered, key=lambda place: place.step or 0)


def _variables(path: Path) -> Path | None:
    """The prefix of the variables of a SavedModel; None where `path` is none."""
    prefix = path / "variables" / "variables"
    if any((path / name).is_file() for name in PROGRAMS) or index_path(prefix).is_file():
        return prefix
    return None


def _saved_model(path: Path, prefix: Path) -> Location:
    if not index_path(prefix).is_file():
        if prefix.parent.is_dir() and any(prefix.parent.iterdir()):
            raise DamagedError("the index of the variables is missing", str(index_path(prefix)))
        raise UnsupportedError("a SavedModel without variables: a program only", str(path))
    note = "the variables of a SavedModel are read; its program is not"
    return Location(prefix, Kind.SAVED_MODEL, (note,))


def _at(path: Path) -> Location:
    shard = SHARD_NAME.fullmatch(path.name)
    if shard:
        path = path.with_name(shard[1])
    elif path.name.endswith(".index"):
        path = path.with_name(path.name.removesuffix(".index"))
    if index_path(path).is_file():
        return Location(path, Kind.BUNDLE)
    if path.is_file():
        return Location(path, Kind.SINGLE_FILE)
    if has_shards(path):
        raise DamagedError(
            "data without an index: the write was interrupted, or a file is missing",
            str(index_path(path)),
        )
    raise InputError("no such checkpoint", str(path))


def has_shards(prefix: Path) -> bool:
    """True where data of a bundle lies, with or without its index."""
    if not prefix.parent.is_dir():
        return False
    matches = (SHARD_NAME.fullmatch(entry.name) for entry in prefix.parent.iterdir())
    return any(match and match[1] == prefix.name for match in matches)


def is_single_file(path: Path) -> bool:
    """True for a table with a V1 list of tensors under the empty key."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return is_v1_list(file.read(64))


def is_v1_list(head: bytes) -> bool:
    """True for the beginning of a V1 file: under the empty key, a list of tensors with names."""
    value = _first_value(head)
    if value[:1] != b"\x0a":
        return False
    at = 1
    while value[at : at + 1] > b"\x7f":
        at += 1
    return value[at + 1 : at + 2] in (b"\x0a", b"\x12")  # a tensor, or a version and no tensor


def first_tag(head: bytes) -> int | None:
    """The first byte of the value under the empty key that begins a table; None for no table."""
    value = _first_value(head)
    return value[0] if value else None


def _first_value(head: bytes) -> bytes:
    if head[:2] != b"\0\0":
        return b""
    at = 2
    while head[at : at + 1] > b"\x7f":
        at += 1
    return head[at + 1 :]


def _is_state(path: Path) -> bool:
    return path.is_file() and statefile.read_state(path.parent) is not None
