"""Orbax checkpoints of every layout, read and written without JAX, Orbax or TensorStore.

    DIRECT                          COMPOSITE                     ROOT
    _CHECKPOINT_METADATA            _CHECKPOINT_METADATA          3/     a direct or composite
    _METADATA                       [orbax.checkpoint]            7/     checkpoint of that step
    manifest.ocdbt, d/, …           NAME/  a pytree               9.orbax-checkpoint-tmp…
                                    NAME/metadata  JSON                  not committed

Sources: the files that orbax-checkpoint 0.12 writes, by both of its APIs, and its code; see `items`
for checkpoints and items, `pytree` and `tree_metadata` for pytrees, `aggregate` for what came
before, `portackpt_jax.zarr` and `portackpt_jax.ocdbt` for arrays.

Without a step a checkpoint is written directly, whatever it was read from; with one it goes into a
root, with the items it was read with, or as the item `default`.
Its arrays are uncompressed chunks of an OCDBT database. Numbers and text are leaves of their own
kind; a tuple is a list to Orbax unless a target says otherwise; empty containers and None are kept.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from portackpt.checkpoint import Checkpoint
from portackpt.collector import paused_collector
from portackpt.dtypes import TABLE
from portackpt.errors import UsageError
from portackpt.plugins import Probe, Progress
from portackpt.renaming import Renames
from portackpt.storage.local import save_id, staged_directory
from portackpt.tree import Node, Object
from portackpt.vocabulary import Vocabulary
from portackpt_jax.orbax import places
from portackpt_jax.orbax.attributes import KEPT

NO_CHECKSUMS = "this format has no checksums on array data: a flipped bit there is not found"
_MOST_STEPS_PROBED = 64


# what knows Orbax's spelling is imported where a tree is to be spelled, not where one is recognized
def _is_random_key(node: Object) -> bool:
    from portackpt_jax.orbax.spelling import is_random_key

    return is_random_key(node)


def _renames(tree: Node) -> Renames:
    from portackpt_jax.orbax.distinct import renames

    return renames(tree)


class Orbax:
    """The format; see the module."""

    name = "orbax"
    framework: str | None = "jax"
    summary = "Orbax checkpoint directories: OCDBT or zarr, items, roots of steps"
    suffixes: tuple[str, ...] = (".orbax",)
    holds_steps = True
    vocabulary: Vocabulary | None = Vocabulary(
        dtypes=frozenset(dtype.name for dtype in TABLE if dtype.zarr),
        scalars=frozenset((type(None), bool, int, float, str)),
        containers=frozenset((dict, list)),
        objects=_is_random_key,
        attributes=KEPT.__contains__,
        large_integers=False,
        renames=_renames,
    )

    def recognize(self, probe: Probe) -> bool:
        if not probe.is_directory:
            return False
        if places.is_checkpoint(probe.path) or places.TEMPORARY in probe.path.name:
            return True
        numbered = (name for name in sorted(probe.names) if places.step_of(name) is not None)
        return any(
            places.is_checkpoint(probe.path / name) for name in islice(numbered, _MOST_STEPS_PROBED)
        ) or any(places.TEMPORARY in name for name in probe.names)

    def steps(self, path: Path) -> tuple[int, ...]:
        return tuple(places.steps(path))

    def open(self, path: Path, *, step: int | None = None) -> Checkpoint:
        from portackpt_jax.orbax.items import open_checkpoint

        chosen, which = places.choose(path, step)
        with paused_collector():
            opened = open_checkpoint(chosen)
        return Checkpoint(
            opened.tree, self.name, self.framework, None, which, opened.details,
            (NO_CHECKSUMS, *opened.notes),
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
        from portackpt_jax.orbax.items_writer import write_checkpoint

        details = checkpoint.details_for(self.name)
        target = path
        if step is not None:
            if step < 0:
                raise UsageError(f"a step is 0 or more, not {step}", str(path))
            if places.is_one_checkpoint(path):
                raise UsageError("this is one checkpoint, not a root of steps", str(path))
            target = path / str(step)
        with staged_directory(target, overwrite=overwrite) as directory:
            write_checkpoint(
                checkpoint.tree, details, directory, save_id(), progress, named=step is not None
            )

    def resume(self, path: Path, step: int | None) -> str:
        lines = ["import orbax.checkpoint as ocp", ""]
        if step is None:
            return "\n".join([
                *lines,
                f'state = ocp.StandardCheckpointer().restore("{path.resolve()}")',
                "# into your own state: restore(path, target), target a tree of shapes and dtypes",
            ])  # fmt: skip
        return "\n".join([
            *lines,
            f'manager = ocp.CheckpointManager("{path.resolve()}")',
            f"state = manager.restore({step})",
        ])  # fmt: skip


FORMAT = Orbax()
