"""The format `dcp`: directories of torch.distributed.checkpoint, without torch.

    .metadata       what items there are, and where their chunks lie: a pickle (see `dcp_metadata`)
    __0_0.distcp …  one file or more for each rank: archives of torch.save, one after the other

Source: torch/distributed/checkpoint/{metadata,filesystem,default_planner}.py of torch 2.13. A
directory of any number of ranks is read, whatever its sharding; one file is written. A root of
directories called `step-N` or the like is a root of steps, read only.
"""

from __future__ import annotations

import re
from pathlib import Path

from portackpt.bytesource import File
from portackpt.checkpoint import Checkpoint
from portackpt.errors import DamagedError, RefusedError, UnsupportedError, UsageError, located
from portackpt.plugins import Probe, Progress
from portackpt.storage.local import staged_directory
from portackpt_torch.vocabulary import VOCABULARY

METADATA = ".metadata"
_RANK = re.compile(r"__\d+\.metadata")
_STEP = re.compile(r"(?:step|global_step|epoch|iter|checkpoint|ckpt)?[-_=]?(\d{1,18})")
_OTHERS = (".pt", ".pth", ".bin", ".pkl", ".safetensors", ".json", ".ckpt", ".msgpack", ".npz")
"""Suffixes of files of which a checkpoint is made: a directory that has them is more than DCP."""


class DCP:
    """`torch.distributed.checkpoint` directories."""

    name = "dcp"
    framework: str | None = "pytorch"
    summary = "torch.distributed.checkpoint directories (.metadata and .distcp), any sharding"
    suffixes: tuple[str, ...] = (".dcp",)
    vocabulary = VOCABULARY
    holds_steps = False

    def recognize(self, probe: Probe) -> bool:
        if not probe.is_directory:
            return False
        names = probe.names
        if any(name.endswith(_OTHERS) for name in names):
            return False
        shards = any(name.endswith(".distcp") for name in names)
        if METADATA in names or shards or any(map(_RANK.fullmatch, names)):
            return True
        return bool(self.steps(probe.path)) and all(map(_STEP.fullmatch, names))

    def steps(self, path: Path) -> tuple[int, ...]:
        return tuple(sorted(_steps(path)))

    def open(self, path: Path, *, step: int | None = None) -> Checkpoint:
        steps = {} if (path / METADATA).exists() else _steps(path)
        if step is not None and step not in steps:
            told = ", ".join(map(str, sorted(steps))) or "none: this is one checkpoint"
            raise UsageError(f"there is no step {step}; steps are {told}", str(path))
        if steps:
            step = max(steps) if step is None else step
            path = steps[step]
        return _open(path, step)

    def write(
        self,
        checkpoint: Checkpoint,
        path: Path,
        *,
        overwrite: bool,
        step: int | None,
        progress: Progress,
    ) -> None:
        from portackpt_torch.dcp_writing import write_directory

        if step is not None:
            raise UsageError("a DCP directory holds one checkpoint and no step", str(path))
        with staged_directory(path, overwrite=overwrite) as directory:
            write_directory(directory, checkpoint.tree, progress)

    def resume(self, path: Path, step: int | None) -> str:
        return (
            "import torch.distributed.checkpoint as dcp\n\n"
            'state = {"model": model.state_dict()}  # of the shapes that were saved\n'
            f"dcp.load(state, checkpoint_id={str(path)!r})\n"
            "# without a template: torch.distributed.checkpoint.format_utils.dcp_to_torch_save\n"
        )


def _steps(path: Path) -> dict[int, Path]:
    """The directories of a root that are checkpoints, by step."""
    found: dict[int, Path] = {}
    for entry in path.iterdir() if path.is_dir() else ():
        match = _STEP.fullmatch(entry.name)
        if match and (entry / METADATA).is_file():
            number = int(match[1])
            if number in found:
                raise RefusedError(f"step {number} is there twice", str(path))
            found[number] = entry
    return found


def _open(path: Path, step: int | None) -> Checkpoint:
    from portackpt.collector import paused_collector
    from portackpt_torch import dcp_document
    from portackpt_torch.dcp_metadata import MAX_BYTES, parse
    from portackpt_torch.dcp_reading import Files, nest, read_items

    place = path / METADATA
    if not place.is_file():
        raise _without_metadata(path)
    file = File(place)
    if file.size > MAX_BYTES:
        raise RefusedError(f"metadata of {file.size} bytes, at most {MAX_BYTES} are read",
                           str(place))  # fmt: skip
    files = Files(path)
    with located(str(place)), paused_collector():
        metadata = parse(file.read(0, file.size))
        if metadata.document is not None:
            tree = dcp_document.tree_of(dcp_document.parse(metadata.document), files)
        else:
            tree = nest(read_items(metadata, files), metadata.paths)
    return Checkpoint(tree, "dcp", "pytorch", step=step, notes=_notes(path))


def _without_metadata(path: Path) -> Exception:
    if (path / f"{METADATA}.tmp").exists():
        return DamagedError("the save was never finished: there is only .metadata.tmp", str(path))
    if path.is_dir() and any(_RANK.fullmatch(entry.name) for entry in path.iterdir()):
        return UnsupportedError(
            "every rank wrote its own metadata (use_collectives=False); load it with torch on as "
            "many ranks and save it with collectives",
            str(path),
        )
    return DamagedError("not a DCP directory, or a save that was never finished: no .metadata",
                        str(path))  # fmt: skip


def _notes(path: Path) -> tuple[str, ...]:
    others = sorted(
        entry.name for entry in path.iterdir()
        if entry.name != METADATA and not entry.name.endswith(".distcp")
    )  # fmt: skip
    if not others:
        return ()
    shown = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
    return (f"{len(others)} other files are no part of it and are left out: {shown}",)


FORMAT = DCP()
