"""safetensors: a file of named tensors, or a Hugging Face directory of such files with an index.

    8 bytes              n bytes                        the rest
    n, little-endian     JSON, padded with spaces       bytes of the tensors, without holes
                         {"__metadata__": {text: text},
                          name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …}

Source: https://github.com/huggingface/safetensors. A flat dict of tensors is written just so; what
else a tree may hold (nesting, plain values, objects, shared storage, dtypes without a spelling) is
kept in a document in the metadata (`document`), which other readers pass over. The format has no
checksums.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portackpt.checkpoint import Checkpoint
from portackpt.collector import paused_collector
from portackpt.errors import InputError, UnknownFormatError, UsageError
from portackpt.plugins import Probe, Progress
from portackpt.tree import PLAIN, Object
from portackpt.vocabulary import EVERY_DTYPE, Vocabulary
from portackpt_safetensors.document import KEY, Spelled, read, spell, tree_of
from portackpt_safetensors.header import SPELLINGS
from portackpt_safetensors.reading import Contents, read_directory, read_file
from portackpt_safetensors.shards import DEFAULT_INDEX, INDEX, index_names, read_index
from portackpt_safetensors.writing import write_sharded, write_single

_FRAMEWORKS = {"flax": "jax", "jax": "jax", "tf": "tensorflow", "keras": "tensorflow"}
_SPELLINGS = {"pytorch": "pt", "jax": "flax", "tensorflow": "tf"}
_NOTE = "safetensors has no checksums: a flipped bit is not found"


def _any_object(node: Object) -> bool:
    return True


def _kept_attribute(name: str) -> bool:
    # what torch puts off is done to the values: another reader knows of nothing that is put off
    return name not in ("conj", "neg")


_EVERYTHING = Vocabulary(
    keys=frozenset((*PLAIN, tuple, Object)),
    objects=_any_object,
    attributes=_kept_attribute,
    shared=True,
    remarks={
        name: f"other readers give its bytes, in one more dimension: view them as {name}"
        for name in EVERY_DTYPE - SPELLINGS.keys()
    },
)


@dataclass(frozen=True)
class Safetensors:
    """The format `safetensors`."""

    name: str = "safetensors"
    framework: str | None = "pytorch"
    summary: str = "safetensors: a file, or a Hugging Face sharded directory with its index"
    suffixes: tuple[str, ...] = (".safetensors",)
    vocabulary: Vocabulary | None = _EVERYTHING
    holds_steps: bool = False

    def recognize(self, probe: Probe) -> bool:
        if probe.is_directory:
            return _is_sharded(probe)
        if INDEX.fullmatch(probe.path.name):
            return probe.head.lstrip()[:1] == b"{"
        if len(probe.head) < 10:
            return probe.path.suffix == ".safetensors" and probe.path.is_file()
        return re.match(rb'.{8}\s*\{\s*["}]', probe.head, re.DOTALL) is not None

    def steps(self, path: Path) -> tuple[int, ...]:
        return ()

    def open(self, path: Path, *, step: int | None = None) -> Checkpoint:
        if step is not None:
            raise UsageError("safetensors keeps no steps", str(path))
        contents = _contents(path)
        metadata = contents.metadata or {}
        framework = _FRAMEWORKS.get(metadata.get("format", ""), "pytorch")
        details = _details(contents)
        notes = (_NOTE, *contents.notes)
        entry = contents.index.metadata.get(KEY) if contents.index else metadata.get(KEY)
        if not isinstance(entry, str):
            tree = dict(contents.tensors)
            return Checkpoint(tree, self.name, framework, details=details, notes=notes)
        with paused_collector():
            document = read(entry, contents.tensors)
            tree = tree_of(document, contents.tensors)
        return Checkpoint(
            tree, self.name, document.framework or framework, document.framework_version,
            document.step, details, notes,
        )  # fmt: skip

    def write(
        self,
        checkpoint: Checkpoint,
        path: Path,
        *,
        overwrite: bool,
        step: int | None,
        progress: Progress,
    ) -> None:
        if step is not None:
            raise UsageError("safetensors keeps no steps", str(path))
        kept = checkpoint.details_for(self.name)
        with paused_collector():
            spelled = spell(checkpoint)
        metadata = _metadata(checkpoint, kept)
        if not _means_directory(path, "index" in kept):
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

    def resume(self, path: Path, step: int | None) -> str:
        if not _means_directory(path, path.is_dir()):
            return (
                f"from safetensors.torch import load_file\n\ntensors = load_file({str(path)!r})\n"
            )
        return (
            "from pathlib import Path\n\nfrom safetensors.torch import load_file\n\n"
            f"shards = sorted(Path({str(path)!r}).glob('*.safetensors'))\n"
            "tensors = {name: t for shard in shards for name, t in load_file(shard).items()}\n"
        )


def _is_sharded(probe: Probe) -> bool:
    """True for a directory of an index and its shards, with nothing else in it."""
    indexes = index_names(probe.names)
    rest = probe.names.difference(indexes)
    if len(indexes) != 1 or not all(name.endswith(".safetensors") for name in rest):
        return False
    try:
        return rest <= set(read_index(probe.path / indexes[0]).files)
    except (InputError, OSError):
        return True  # a damaged index: opening says what is wrong with it


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


def _means_directory(path: Path, sharded: bool) -> bool:
    """True where a target is a directory of shards: its name has no suffix, or the source was."""
    if path.suffix == ".safetensors":
        return False
    return sharded or path.is_dir() or not re.fullmatch(r"\.[A-Za-z_]\w*", path.suffix)


FORMAT = Safetensors()
