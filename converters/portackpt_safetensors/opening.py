"""Opening a file or a sharded directory: the tree, and what it takes to write the same again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portackpt.checkpoint import Checkpoint
from portackpt.collector import paused_collector
from portackpt.errors import UnknownFormatError
from portackpt_safetensors.document import KEY, read, tree_of
from portackpt_safetensors.reading import Contents, read_directory, read_file
from portackpt_safetensors.spellings import INDEX, index_names

_FRAMEWORKS = {"flax": "jax", "jax": "jax", "tf": "tensorflow", "keras": "tensorflow"}
_NOTE = "safetensors has no checksums: a flipped bit is not found"


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at `path`, a file or a directory of an index and its shards."""
    contents = _contents(path)
    metadata = contents.metadata or {}
    framework = _FRAMEWORKS.get(metadata.get("format", ""), "pytorch")
    details = _details(contents)
    notes = (_NOTE, *contents.notes)
    entry = contents.index.metadata.get(KEY) if contents.index else metadata.get(KEY)
    if not isinstance(entry, str):
        tree = dict(contents.tensors)
        return Checkpoint(tree, "safetensors", framework, details=details, notes=notes)
    with paused_collector():
        document = read(entry, contents.tensors)
        tree = tree_of(document, contents.tensors)
    return Checkpoint(
        tree, "safetensors", document.framework or framework, document.framework_version,
        document.step, details, notes,
    )  # fmt: skip


def _contents(path: Path) -> Contents:
    if path.is_dir():
        indexes = index_names(entry.name for entry in path.iterdir())
        if len(indexes) != 1:
            found = ", ".join(indexes) or "none"
            raise UnknownFormatError(
                f"a sharded directory has one *.safetensors.index.json, found {found}", str(path)
            )
        return read_directory(path / indexes[0])
    if INDEX.fullmatch(path.name):
        return read_directory(path)
    return read_file(path)


def _details(contents: Contents) -> dict[str, Any]:
    """What it takes to write the same files again."""
    details: dict[str, Any] = {"metadata": _without_document(contents.metadata)}
    index = contents.index
    if index is not None:
        details["index"] = index.name
        details["index_metadata"] = _without_document(index.metadata)
        details["weight_map"] = dict(index.weight_map)
        details["shard_metadata"] = {
            shard: _without_document(metadata)
            for shard, metadata in contents.shard_metadata.items()
        }
    return details


def _without_document(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if metadata is None:
        return None
    return {name: value for name, value in metadata.items() if name != KEY}
