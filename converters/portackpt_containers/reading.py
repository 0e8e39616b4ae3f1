"""Reading a folder of files as one checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from portackpt import plugins
from portackpt.checkpoint import Checkpoint
from portackpt.errors import UnknownFormatError, located
from portackpt.tree import Node
from portackpt_containers.kinds import kind_of, step_of
from portackpt_containers.parts import (
    BYTES,
    NAME,
    ROOT,
    TEXT,
    Part,
    is_folder_part,
    open_part,
    open_with,
)
from portackpt_containers.places import items

ALL_TEXTS = 32 << 20
"""What all texts of a container take at most; further ones stay on disk, as bytes."""
METADATA = ".metadata"
"""What tells that the folder itself is a DCP checkpoint, beside its other files."""


def read_folder(path: Path, archive: str | None) -> Checkpoint:
    """The files below `path`, each read by its format. Raises `InputError`."""
    found, left_out = items(path, is_folder_part)
    opened: dict[str, Part] = {}
    names = [item.name for item in found]
    if any(map(_is_of_root, names)):
        opened[ROOT] = _alone(open_with(plugins.get("dcp"), path))
        found = [item for item in found if not _is_of_root(item.name)]
    room = ALL_TEXTS
    for item in found:
        with located(item.name):
            part = opened[item.name] = open_part(item.path, room)
        if isinstance(part.tree, str):
            room -= len(part.tree)
    if all(part.format in (TEXT, BYTES) for part in opened.values()):
        raise UnknownFormatError("no format knows a file of this folder", str(path))
    tree: dict[str, Node] = {name: part.tree for name, part in opened.items()}
    notes = [f"{name}: {note}" for name, part in opened.items() for note in part.notes]
    notes += [f"{name} is left out: it is no part of a checkpoint" for name in left_out]
    return Checkpoint(
        tree,
        NAME,
        _first(opened, "framework"),
        _first(opened, "framework_version"),
        _step(opened),
        {
            "kind": kind_of(names),
            "archive": archive,
            "parts": {
                name: {"format": part.format, "details": dict(part.details)}
                for name, part in opened.items()
            },
        },
        _shortened(notes),
    )


def _is_of_root(name: str) -> bool:
    return name == METADATA or (name.endswith(".distcp") and "/" not in name)


def _alone(part: Part) -> Part:
    """The part without its remark on the files beside it, which are parts of their own."""
    return replace(part, notes=tuple(note for note in part.notes if "left out" not in note))


def _step(opened: dict[str, Part]) -> int | None:
    stated = step_of({name: part.tree for name, part in opened.items() if part.format == TEXT})
    found: int | None = _first(opened, "step")
    return found if stated is None else stated


def _first(opened: dict[str, Part], fact: str) -> Any:
    """What the first part that knows it says."""
    for part in opened.values():
        value = getattr(part.checkpoint, fact, None)
        if value is not None:
            return value
    return None


def _shortened(notes: list[str]) -> tuple[str, ...]:
    """The notes of many parts that say the same, once."""
    by_text: dict[str, list[str]] = {}
    for note in notes:
        name, _, text = note.partition(": ")
        by_text.setdefault(text or note, []).append(name)
    return tuple(
        text if names == [text] or not text else f"{_list(names)}: {text}"
        for text, names in by_text.items()
    )


def _list(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} others"
