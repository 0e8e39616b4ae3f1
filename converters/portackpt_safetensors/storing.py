"""Storing a checkpoint: as one file, or as shards with an index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portackpt.checkpoint import Checkpoint
from portackpt.collector import paused_collector
from portackpt.plugins import Progress
from portackpt_safetensors.document import KEY, Spelled, spell
from portackpt_safetensors.shards import DEFAULT_INDEX
from portackpt_safetensors.spellings import means_directory
from portackpt_safetensors.writing import write_sharded, write_single

_SPELLINGS = {"pytorch": "pt", "jax": "flax", "tensorflow": "tf"}


def store(checkpoint: Checkpoint, path: Path, *, overwrite: bool, progress: Progress) -> None:
    """Write `checkpoint` to `path`, whole and durable or not at all."""
    kept = checkpoint.details_for("safetensors")
    with paused_collector():
        spelled = spell(checkpoint)
    metadata = _metadata(checkpoint, kept)
    if not means_directory(path, "index" in kept):
        if spelled.entry is not None:
            metadata = {**(metadata or {}), KEY: spelled.entry}
        write_single(path, spelled.tensors, metadata, overwrite=overwrite, progress=progress)
        return
    index_metadata = dict(kept.get("index_metadata", {}))
    if spelled.entry is not None:
        index_metadata[KEY] = spelled.entry
    write_sharded(
        path, spelled.tensors, {"": metadata, **kept.get("shard_metadata", {})},
        kept.get("index", DEFAULT_INDEX), index_metadata, _kept_map(kept, spelled),
        overwrite=overwrite, progress=progress,
    )  # fmt: skip


def _metadata(checkpoint: Checkpoint, kept: Mapping[str, Any]) -> Mapping[str, str] | None:
    """The metadata of the source where it was such a file, else the name of its framework."""
    if "metadata" in kept:
        found: Mapping[str, str] | None = kept["metadata"]
        return found
    spelling = _SPELLINGS.get(checkpoint.framework or "")
    return {"format": spelling} if spelling else None


def _kept_map(kept: Mapping[str, Any], spelled: Spelled) -> Mapping[str, str] | None:
    """The source's own assignment of tensors to shards, where the tensors are still the same."""
    weight_map: Mapping[str, str] | None = kept.get("weight_map")
    same = weight_map is not None and weight_map.keys() == spelled.tensors.keys()
    return weight_map if same else None
