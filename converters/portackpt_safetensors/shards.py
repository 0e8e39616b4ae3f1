"""Hugging Face's sharded directories: an index that says which file holds which tensor.

    model.safetensors.index.json        {"metadata": {"total_size": …}, "weight_map": {name: file}}
    model-00001-of-00002.safetensors
    model-00002-of-00002.safetensors

The names of files in the index are data from outside: a shard is a plain name, and the file it
names lies in the directory of the index (or in the blobs of the Hugging Face cache, whose snapshots
are links).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portackpt.bytesource import File
from portackpt.errors import DamagedError, RefusedError, located
from portackpt_safetensors.header import MAX_HEADER

DEFAULT_INDEX = "model.safetensors.index.json"
SHARD_SIZE = 5 * 10**9
"""Bytes of tensors in a shard, at most, as Hugging Face's tools write them."""
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ +=-]{0,199}")


@dataclass(frozen=True, slots=True)
class Index:
    """`weight_map` has the shard of each tensor, in the order of the file."""

    name: str
    metadata: Mapping[str, Any]
    weight_map: Mapping[str, str]

    @property
    def files(self) -> tuple[str, ...]:
        """The shards, in the order in which they are first named."""
        return tuple(dict.fromkeys(self.weight_map.values()))


def read_index(path: Path) -> Index:
    """The index at `path`. Raises `DamagedError`, `RefusedError`."""
    with located(str(path)):
        file = File(path)
        if file.size > MAX_HEADER:
            raise RefusedError(f"an index has at most {MAX_HEADER} bytes, found {file.size}")
        document = _parse(file.read(0, file.size))
        file.close()
        weight_map = document.get("weight_map") if isinstance(document, dict) else None
        if not isinstance(weight_map, dict):
            raise DamagedError("an index has an object weight_map of shard names, found none")
        for tensor, shard in weight_map.items():
            if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
                raise RefusedError(
                    f"a shard is the plain name of a file beside the index, found {shard!r}",
                    f"weight_map[{tensor!r}]",
                )
        metadata = document.get("metadata")
        return Index(path.name, metadata if isinstance(metadata, dict) else {}, weight_map)


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"the index is not JSON: {error}") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RefusedError("the index has a name twice; readers disagree which is meant")
    return found


def shard_path(directory: Path, name: str) -> Path:
    """The regular file that a shard's name means. Raises where it is none or lies elsewhere."""
    path = directory / name
    if not path.exists():
        raise DamagedError(f"the index names the shard {name!r}, which is absent", str(directory))
    if path.is_symlink():
        home = directory.resolve()
        blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
        target = path.resolve()
        if not any(target.is_relative_to(place) for place in (home, blobs)):
            raise RefusedError(
                f"the shard {name!r} is a link to {target}, outside of the checkpoint; "
                "copy that file in its place if it is meant",
                str(directory),
            )
    if not path.is_file():
        raise DamagedError(f"the shard {name!r} is not a regular file", str(directory))
    return path


def assign(tensors: Sequence[tuple[str, int]], size: int = SHARD_SIZE) -> dict[str, str]:
    """A weight map of (name, bytes), in order; a full shard has no room for one more in `size`."""
    groups: list[list[str]] = [[]]
    taken = 0
    for name, nbytes in tensors:
        if groups[-1] and taken + nbytes > size:
            groups.append([])
            taken = 0
        groups[-1].append(name)
        taken += nbytes
    return {
        name: f"model-{number:05}-of-{len(groups):05}.safetensors"
        for number, group in enumerate(groups, 1)
        for name in group
    }


def emit_index(metadata: Mapping[str, Any], weight_map: Mapping[str, str]) -> bytes:
    document = {"metadata": dict(metadata), "weight_map": dict(weight_map)}
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def by_shard(weight_map: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """(shard, its tensors), in the order in which the shards are first named."""
    shards: dict[str, list[str]] = {}
    for name, shard in weight_map.items():
        shards.setdefault(shard, []).append(name)
    yield from shards.items()
