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
from dataclasses import dataclass
from pathlib import Path

from portackpt.checkpoint import Checkpoint
from portackpt.errors import InputError, UsageError
from portackpt.plugins import Probe, Progress
from portackpt.tree import PLAIN, Object
from portackpt.vocabulary import EVERY_DTYPE, Vocabulary
from portackpt_safetensors.spellings import INDEX, SPELLINGS, index_names, means_directory


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
    framework: str | None = None
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
        from portackpt_safetensors.opening import open_checkpoint

        if step is not None:
            raise UsageError("safetensors keeps no steps", str(path))
        return open_checkpoint(path)

    def write(
        self,
        checkpoint: Checkpoint,
        path: Path,
        *,
        overwrite: bool,
        step: int | None,
        progress: Progress,
    ) -> None:
        from portackpt_safetensors.storing import store

        if step is not None:
            raise UsageError("safetensors keeps no steps", str(path))
        store(checkpoint, path, overwrite=overwrite, progress=progress)

    def resume(self, path: Path, step: int | None) -> str:
        if not means_directory(path, path.is_dir()):
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
    from portackpt_safetensors.shards import read_index

    indexes = index_names(probe.names)
    rest = probe.names.difference(indexes)
    if len(indexes) != 1 or not all(name.endswith(".safetensors") for name in rest):
        return False
    try:
        return rest <= set(read_index(probe.path / indexes[0]).files)
    except (InputError, OSError):
        return True  # a damaged index: opening says what is wrong with it


FORMAT = Safetensors()
