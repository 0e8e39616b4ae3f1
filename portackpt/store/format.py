"""The format `portackpt`: a checkpoint in a neutral directory (`spec/format.md`).

    PATH/                    or, with steps,    PATH/step-10/
      manifest.json   the index and commit point       …
      state.msgpack   the tree                  PATH/step-20/
      shard-00000.safetensors                          …

The manifest is written last; the directory appears under its name when all of it is durable. What
reads and writes is imported when it is used: every look for a format imports this module.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from portackpt.checkpoint import Checkpoint
from portackpt.errors import InputError, UsageError, located
from portackpt.plugins import Probe, Progress
from portackpt.tree import PLAIN, Object
from portackpt.vocabulary import Vocabulary

_NEWEST = 1000
"""Steps of a root that detection looks at."""


def _every(_: object) -> bool:
    return True


_EVERYTHING = Vocabulary(
    keys=frozenset((*PLAIN, tuple, Object)), objects=_every, attributes=_every, shared=True
)


@dataclass(frozen=True, slots=True)
class StoreFormat:
    """The neutral store, behind the same door as every other format."""

    name: str = "portackpt"
    framework: str | None = None
    summary: str = "neutral directory: JSON manifest, MessagePack tree, safetensors shards"
    suffixes: tuple[str, ...] = (".portackpt",)
    vocabulary: Vocabulary | None = _EVERYTHING
    holds_steps: bool = True

    def recognize(self, probe: Probe) -> bool:
        if not probe.is_directory:
            return False
        from portackpt.store import roots

        if _is_ours(probe.path, probe.names):
            return True
        named = ((roots.step_of(name), name) for name in probe.names)
        steps = sorted(((step, name) for step, name in named if step is not None), reverse=True)
        return any(_is_step(probe.path / name) for _, name in steps[:_NEWEST])

    def steps(self, path: Path) -> tuple[int, ...]:
        from portackpt.store import manifest, roots

        if not path.is_dir() or (path / manifest.NAME).is_file():
            return ()
        return roots.complete_steps(path)

    def open(self, path: Path, *, step: int | None = None) -> Checkpoint:
        from portackpt.store import manifest, roots

        if not path.is_dir():
            raise InputError("expected a directory", str(path))
        if (path / manifest.NAME).exists() or not roots.directories(path):
            if step is not None:
                raise UsageError("a step is for a root that holds several; this is one checkpoint",
                                 str(path))  # fmt: skip
            return _read(path)
        if step is not None:
            return _read(roots.find(path, step))
        place, skipped = roots.newest(path)
        opened = _read(place)
        if not skipped:
            return opened
        told = ", ".join(map(str, skipped))
        note = f"newer steps are not complete and were passed over: {told}"
        return replace(opened, notes=(*opened.notes, note))

    def write(
        self,
        checkpoint: Checkpoint,
        path: Path,
        *,
        overwrite: bool,
        step: int | None,
        progress: Progress,
    ) -> None:
        from portackpt.storage.local import staged_directory
        from portackpt.store.writer import write_checkpoint

        target = _target(path, step)
        with staged_directory(target, overwrite=overwrite) as directory:
            write_checkpoint(directory, checkpoint, step=step, progress=progress)

    def resume(self, path: Path, step: int | None) -> str:
        chosen = "" if step is None else f", step={step}"
        return f"import portackpt\n\ncheckpoint = portackpt.open({str(path)!r}{chosen})\n"


def _target(path: Path, step: int | None) -> Path:
    """The directory that will hold the checkpoint. A root and a checkpoint exclude each other."""
    from portackpt.store import manifest, roots

    if step is not None:
        if (path / manifest.NAME).exists():
            raise UsageError("this is one checkpoint, not a root of steps", str(path))
        return path / roots.step_name(step)
    if path.is_dir() and not (path / manifest.NAME).exists() and roots.complete_steps(path):
        raise UsageError(
            "this is a root that holds steps; choose one with --step, or remove it first", str(path)
        )
    return path


def _read(path: Path) -> Checkpoint:
    from portackpt.store.reader import read_checkpoint

    with located(str(path)):
        return read_checkpoint(path)


def _is_ours(path: Path, names: frozenset[str]) -> bool:
    from portackpt.store import manifest
    from portackpt.store.writer import STATE_NAME

    if manifest.NAME in names and manifest.is_manifest(_head(path / manifest.NAME)):
        return True
    # no manifest, or a damaged one: the other names say whose it was
    return STATE_NAME in names


def _is_step(path: Path) -> bool:
    try:
        return _is_ours(path, frozenset(entry.name for entry in path.iterdir()))
    except OSError:
        return False


def _head(path: Path) -> bytes:
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(4096)
    except OSError:
        return b""


FORMAT = StoreFormat()
