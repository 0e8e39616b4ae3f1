"""What lies in a folder: its files and sub-folders by relative name, nothing outside it.

Links are followed only to files within the folder, and to the blobs of a Hugging Face cache, whose
snapshots are folders of links `../../blobs/HASH`.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from portackpt.errors import RefusedError

MOST = 10_000
DEEPEST = 16
LEFT_OUT = frozenset((".git", ".cache", "__pycache__", ".ipynb_checkpoints"))
"""Folders of other tools, which are no part of a checkpoint."""

_BLOB = re.compile(r"(\.\./)+blobs/[0-9a-f]{40,64}")


@dataclass(frozen=True, slots=True)
class Item:
    """A file, or a folder that is one part as a whole."""

    name: str
    path: Path


def items(root: Path, is_part: Callable[[Path], bool]) -> tuple[list[Item], list[str]]:
    """The files below `root` in order of their names, and the folders that were left out.

    A folder for which `is_part` holds is one item.
    """
    found: list[Item] = []
    left_out: list[str] = []
    for item in _walk(root, root, "", is_part, left_out):
        found.append(item)
        if len(found) > MOST:
            raise RefusedError(f"more than {MOST} files", str(root))
    return found, left_out


def _walk(
    root: Path, folder: Path, prefix: str, is_part: Callable[[Path], bool], left_out: list[str]
) -> Iterator[Item]:
    if prefix.count("/") > DEEPEST:
        raise RefusedError(f"folders deeper than {DEEPEST}", str(folder))
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        name = f"{prefix}{entry.name}"
        if _is_file(entry, root):
            yield Item(name, entry)
        elif entry.name in LEFT_OUT:
            left_out.append(name)
        elif is_part(entry):
            yield Item(name, entry)
        else:
            yield from _walk(root, entry, f"{name}/", is_part, left_out)


def _is_file(path: Path, root: Path) -> bool:
    """True for a file, False for a folder; raises for the rest, and for links that lead away."""
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode):
        return True
    if stat.S_ISDIR(mode):
        return False
    if not stat.S_ISLNK(mode):
        raise RefusedError("neither a file nor a folder", str(path))
    target = path.readlink().as_posix()
    inside = path.resolve().is_relative_to(root.resolve())
    if not (inside or _BLOB.fullmatch(target)) or not path.is_file():
        raise RefusedError(f"a link to {target}, which is no file of this folder", str(path))
    return True


def is_safe(name: str) -> bool:
    """Whether a relative name stays below the folder it is joined to, on any system."""
    return all(
        part not in ("", ".", "..")
        and len(part.encode("utf-8", "replace")) <= 200
        and not re.search(r'[\\\x00-\x1f\x7f:*?"<>|]', part)
        for part in name.split("/")
    )
