"""Conversion: open, plan, and carry the plan out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from portackpt import plugins
from portackpt.checkpoint import Checkpoint
from portackpt.errors import InputError, UsageError
from portackpt.ledger import Ledger
from portackpt.plugins import Progress

if TYPE_CHECKING:
    from portackpt.planning import Plan


def open_checkpoint(
    path: str | os.PathLike[str], *, format: str | None = None, step: int | None = None
) -> Checkpoint:
    """The checkpoint at `path`, of any format, lazily: tensors stay on disk until they are read.

    `format` names its format where the content does not say; `step` picks one of a root's steps
    (None: the newest complete one). Raises `InputError`, `AmbiguousError`, `UsageError`.
    """
    place = Path(path)
    reader = plugins.get(format) if format else plugins.detect(place)
    try:
        return reader.open(place, step=step)
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror or error}", str(path)) from error


def plan_conversion(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: str | None = None,
    from_: str | None = None,
    step: int | None = None,
    like: str | os.PathLike[str] | None = None,
    map: str | os.PathLike[str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Plan:
    """What converting `source` to `target` would do; nothing is written."""
    from portackpt.planning import plan

    origin, goal = Path(source), Path(target)
    reader = plugins.get(from_) if from_ else plugins.detect(origin)
    writer = plugins.get(to) if to else plugins.for_target(goal)
    try:
        steps = reader.steps(origin)
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror or error}", str(source)) from error
    if step is not None and not steps and not writer.holds_steps:
        raise UsageError("--step is for a root that holds several steps; this is one checkpoint",
                         str(source))  # fmt: skip
    checkpoint = open_checkpoint(origin, format=reader.name, step=step if steps else None)
    template = None if like is None else open_checkpoint(like)
    rules = None
    if map is not None:
        from portackpt.matching.files import read

        rules = read(Path(map))
    goal_step = step if writer.holds_steps else None
    return plan(checkpoint, origin, writer, goal, goal_step, template, rules, settings)


def execute(plan: Plan, *, overwrite: bool = False, progress: Progress | None = None) -> None:
    """Write what was planned: whole and durable, or not at all."""
    plan.target.write(
        plan.checkpoint, plan.path, overwrite=overwrite, step=plan.step,
        progress=progress or _unheard,
    )  # fmt: skip


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: str | None = None,
    from_: str | None = None,
    step: int | None = None,
    like: str | os.PathLike[str] | None = None,
    map: str | os.PathLike[str] | None = None,
    settings: Mapping[str, str] | None = None,
    require: str = "any",
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Ledger:
    """Convert a checkpoint, and say what became of every leaf.

    `like` is a checkpoint that the target's program wrote before training: the source's values are
    poured into its names, nesting and dtypes. `map` is a mapping file: which leaf of the source's
    model becomes which of the target's, and how layouts change. `settings` say what the source
    leaves open: `optimizer`, `parameters`, or a hyperparameter by its canonical name.
    `require` is `exact`, `equivalent` or `any`: where the verdict is below it, nothing is written
    and the caller sees that from `ledger.meets(require)`. With `dry_run` nothing is written either.
    """
    planned = plan_conversion(source, target, to=to, from_=from_, step=step, like=like,
                              map=map, settings=settings)  # fmt: skip
    if planned.ledger.meets(require) and not dry_run:
        execute(planned, overwrite=overwrite, progress=progress)
    return planned.ledger


def _unheard(count: int) -> None:
    pass
