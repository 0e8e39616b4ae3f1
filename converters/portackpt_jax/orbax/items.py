"""The items of a checkpoint: pytrees, JSON documents, and files of programs' own handlers.

_CHECKPOINT_METADATA   {"item_handlers": {NAME: type name} (composite) or type name (direct),
                        "custom_metadata": {…}, "init_timestamp_nsecs", …}
orbax.checkpoint       empty; only the second API writes it
commit_success.txt     from 0.12 on everywhere, before only on object stores
NAME/                  an item: a pytree, or `metadata`, `metrics` or `data.json` alone in its
                       directory, or what another handler wrote, or items again
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from portackpt.bytesource import FileRange
from portackpt.dtypes import UINT8
from portackpt.errors import DamagedError, RefusedError
from portackpt.tensor import contiguous
from portackpt.tree import MAX_DEPTH, Node
from portackpt_jax.ocdbt.reader import open_regular
from portackpt_jax.orbax.directory import read_json
from portackpt_jax.orbax.places import (
    CHECKPOINT_METADATA,
    COMMITTED,
    DELETION,
    INDICATOR,
    NOT_ITEMS,
    is_plain_array,
    is_pytree,
    names,
)
from portackpt_jax.orbax.pytree import Opened, open_pytree

PYTREE = "pytree"
ARRAY = "array"
JSON = "json"
FILES = "files"
COMPOSITE = "composite"
JSON_FILES = ("metadata", "metrics", "data.json")
# the names under which Orbax itself puts what was given no name
UNNAMED = ("default", "state", "pytree")
_LARGEST_JSON = 256 << 20
_MOST_FILES = 100_000


def open_checkpoint(path: Path) -> Opened:
    """The tree of one checkpoint; its items by name, or the only one itself if it has no name."""
    metadata = _checkpoint_metadata(path)
    opened = _open_item(path, 0)
    details = opened.details
    for key in ("item_handlers", "custom_metadata", "metrics"):
        if metadata.get(key):
            details[f"checkpoint_{key}"] = metadata[key]
    if (path / INDICATOR).exists():
        details["indicator"] = True
    items = details.get("items", {})
    if len(items) == 1 and next(iter(items)) in UNNAMED:
        details["unnamed"] = next(iter(items))
        opened.tree = opened.tree[details["unnamed"]]
    return opened


def _checkpoint_metadata(path: Path) -> dict[str, Any]:
    file = path / CHECKPOINT_METADATA
    found = read_json(file, _LARGEST_JSON) if file.is_file() else {}
    return found if isinstance(found, dict) else {}


def _open_item(path: Path, depth: int) -> Opened:
    if depth > MAX_DEPTH:
        raise RefusedError(f"items {depth} deep", str(path))
    found = names(path)
    if is_pytree(path, found):
        opened = open_pytree(path)
        opened.details["kind"] = PYTREE
        if is_plain_array(path / "checkpoint") and list(opened.tree) == ["checkpoint"]:
            opened.tree = opened.tree["checkpoint"]
            opened.details["kind"] = ARRAY
        return opened
    found -= NOT_ITEMS
    if len(found) == 1 and (name := next(iter(found))) in JSON_FILES and (path / name).is_file():
        return Opened(read_json(path / name, _LARGEST_JSON), {"kind": JSON, "file": name})
    folders = sorted(name for name in found if (path / name).is_dir())
    if depth == 0 and not folders:
        raise DamagedError("no pytree and no items: nothing of Orbax is here", str(path))
    if depth == 0 or (folders and len(folders) == len(found)):
        return _open_composite(path, folders, sorted(found.difference(folders)), depth)
    return _open_files(path)


def _open_composite(path: Path, folders: list[str], others: Iterable[str], depth: int) -> Opened:
    opened = Opened({}, {"kind": COMPOSITE, "items": {}})
    deleted = _deleted(path)
    for name in folders:
        if name == deleted:
            opened.notes.append(f"item {name!r} is being deleted, and left out")
            continue
        item = _open_item(path / name, depth + 1)
        opened.tree[name] = item.tree
        opened.details["items"][name] = item.details
        opened.notes += [f"{name}: {note}" for note in item.notes]
    opened.notes += [f"the file {name!r} belongs to no item, and is left out" for name in others]
    return opened


def _deleted(path: Path) -> str | None:
    """The item whose deletion was begun and not finished."""
    file = path / DELETION
    record = read_json(file, _LARGEST_JSON) if file.is_file() else None
    name = record.get("checkpointable_name") if isinstance(record, dict) else None
    return name if isinstance(name, str) else None


def _open_files(path: Path) -> Opened:
    """An item of a handler that is not Orbax's own: its files, as bytes."""
    tree: dict[str, Node] = {}
    for file in sorted(path.rglob("*")):
        if file.is_dir() or file.name == COMMITTED:
            continue
        if len(tree) >= _MOST_FILES:
            raise RefusedError(f"over {_MOST_FILES} files", str(path))
        source = open_regular(file)
        data = FileRange(source, 0, source.size)
        tree[file.relative_to(path).as_posix()] = contiguous(UINT8, (source.size,), data)
    return Opened(tree, {"kind": FILES})
