"""The `directory` format: several files that are one checkpoint, in a folder or in an archive.

    checkpoint-500/
      model.safetensors      {"model.layers.0.weight": Tensor, …}    by the format safetensors
      optimizer.pt           {"state": …, "param_groups": […]}       by the format pytorch
      scheduler.pt, rng_state.pth                                    by the format pytorch
      trainer_state.json     "{\\"global_step\\": 500, …}"             text, as it is
      training_args.bin      Tensor of uint8                         bytes, as they are

The tree is a dict of relative names to the trees of the files (see `parts`); `kinds` names the
containers that are recognized. Archives (zip, tar, tar.gz) are read through a private folder.
A folder of `checkpoint-N` folders is a root: its steps are these N.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from portackpt import plugins
from portackpt.checkpoint import Checkpoint
from portackpt.errors import InputError, UsageError, located
from portackpt.plugins import Probe, Progress
from portackpt.renaming import Renames
from portackpt.tree import Node
from portackpt.vocabulary import Vocabulary
from portackpt_containers.kinds import kind_of

_GZIP, _TAR = b"\x1f\x8b\x08", b"ustar"
_STEP = re.compile(r"checkpoint[-_](\d{1,18})")


def _any(name: str) -> bool:
    return True


def _part(name: Node, tree: Node) -> Vocabulary | None:
    """The vocabulary of the format that writes a part of this name; files as they are have none."""
    from portackpt_containers.parts import BYTES, TEXT, guessed

    format = guessed(str(name), tree)
    return None if format in (TEXT, BYTES) else plugins.get(format).vocabulary


def _renames(tree: Node) -> Renames:
    from portackpt_containers.packing import renames

    return renames(tree)


_VOCABULARY = Vocabulary(
    containers=frozenset((dict,)), attributes=_any, any_root=False, renames=_renames, parts=_part
)
"""Names of files, and under each what its format holds."""


class DirectoryFormat:
    """Folders and archives of checkpoints."""

    name = "directory"
    framework: str | None = None
    summary = "folders and archives of several files: Trainer, accelerate, Composer, SB3, AllenNLP"
    suffixes: tuple[str, ...] = (".zip", ".tar", ".tar.gz", ".tgz")
    vocabulary: Vocabulary | None = _VOCABULARY
    holds_steps = False

    def recognize(self, probe: Probe) -> bool:
        try:
            if probe.is_directory:
                return _is_container(probe) or bool(_checkpoints(probe))
            return kind_of(_names(probe)) in _ARCHIVED
        except (OSError, InputError):
            return False

    def steps(self, path: Path) -> tuple[int, ...]:
        probe = Probe(path)
        return () if _is_container(probe) else tuple(_checkpoints(probe))

    def open(self, path: Path, *, step: int | None = None) -> Checkpoint:
        from portackpt_containers.reading import read_folder
        from portackpt_containers.unpacking import hold, unpack

        steps = self.steps(path)
        if step is not None and step not in steps:
            told = ", ".join(map(str, steps)) or "none: this is one checkpoint"
            raise UsageError(f"there is no step {step}; steps are {told}", str(path))
        if steps:
            path = _checkpoints(Probe(path))[steps[-1] if step is None else step]
        if path.is_dir():
            return read_folder(path, None)
        unpacked = unpack(path)
        with located(str(path)):
            found = read_folder(unpacked.folder.path, unpacked.kind)
        return replace(found, tree=hold(found.tree, unpacked.folder))

    def write(
        self,
        checkpoint: Checkpoint,
        path: Path,
        *,
        overwrite: bool,
        step: int | None,
        progress: Progress,
    ) -> None:
        from portackpt.storage.local import staged_directory, staged_file
        from portackpt_containers.packing import archive_of, pack, write_folder
        from portackpt_containers.unpacking import Private

        if step is not None:
            raise UsageError("a folder of files holds one checkpoint and no step", str(path))
        kind = archive_of(path.name)
        if kind is None:
            with staged_directory(path, overwrite=overwrite) as folder:
                write_folder(checkpoint, folder, progress)
            return
        with staged_file(path, overwrite=overwrite) as target:
            private = Private(target.parent)
            write_folder(checkpoint, private.path, progress)
            pack(private.path, target, kind)

    def resume(self, path: Path, step: int | None) -> str:
        return f"# every file of {str(path)!r} is what the program that wrote it expects there\n"


_ARCHIVED = ("stable-baselines3", "composer", "allennlp")


def _is_container(probe: Probe) -> bool:
    """Whether a folder holds a known set of files, and is of no other format as a whole."""
    from portackpt_containers.parts import format_of

    return kind_of(probe.names) != "files" and format_of(probe.path) is None


def _checkpoints(probe: Probe) -> dict[int, Path]:
    """The containers called `checkpoint-N` in a folder, by N."""
    found = {int(m[1]): probe.path / name for name in probe.names if (m := _STEP.fullmatch(name))}
    return {step: found[step] for step in sorted(found) if _is_container(Probe(found[step]))}


def _names(probe: Probe) -> tuple[str, ...]:
    """Names in an archive, as far as they are seen from its beginning."""
    if probe.members:
        return probe.members
    if not probe.head.startswith(_GZIP) and probe.head[257:262] != _TAR:
        return ()
    from portackpt_containers.unpacking import first_names

    return first_names(probe.path, probe.head)


FORMAT = DirectoryFormat()
