"""Translation: a checkpoint of one framework as the tree that another one's program would save.

Lift, carry, lower, and account for every leaf. Whether a conversion is a translation or keeps the
tree as it stands is for `planning` to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Never, Protocol

from portackpt import dialects
from portackpt.accounting import account, merged, rest
from portackpt.carrying import Carried, carry
from portackpt.checkpoint import Checkpoint
from portackpt.errors import AmbiguousError, UsageError
from portackpt.ledger import NONE
from portackpt.matching import Mapping as Rules
from portackpt.matching import Resolution
from portackpt.matching.proposal import propose
from portackpt.models import Model, model_of
from portackpt.moved import Lowered, Moved, MovedRun, Template, placed
from portackpt.run import Run
from portackpt.settings import NATIVE
from portackpt.spelling import Spelling
from portackpt.streams import poured
from portackpt.tree import Node


@dataclass(frozen=True, slots=True, eq=False)
class Translation:
    """A spelled tree with its entries, and the code for the target's program."""

    spelling: Spelling
    code: str


def lift(checkpoint: Checkpoint, settings: Mapping[str, str]) -> Run:
    """What the checkpoint means, by the dialect of its framework; nothing where there is none."""
    dialect = dialects.get(checkpoint.framework) if checkpoint.framework else None
    return Run() if dialect is None else dialect.lift(checkpoint, settings)


def has_meaning(run: Run, settings: Mapping[str, str]) -> bool:
    """Whether there is more to move than names and values: a model with its optimizer."""
    if settings.get("optimizer") == NATIVE or not run.parameters:
        return False
    return any(
        one.algorithms and (not one.slots or not run.parameters.keys().isdisjoint(one.slots))
        for one in run.optimizers
    )


def translate(
    checkpoint: Checkpoint,
    run: Run,
    where: str,
    framework: str | None,
    like: Checkpoint | None,
    rules: Rules | None,
    settings: Mapping[str, str],
) -> Translation:
    """`checkpoint`, read from `where`, as `framework` spells it: in the places of `like`, if given.

    Without a framework the model goes by its names, and all else as it stands. Without `rules` for
    these names they are those of the source, or, with a template, what `portackpt map` would
    propose where that leaves no doubt.
    """
    dialect: _Lowers = _Plain()
    if framework is None:
        settings = {**settings, "optimizer": NATIVE}
    else:
        dialect = dialects.get(framework) or _missing(framework)
    model = model_of(checkpoint, run, where)
    template = None if like is None else Template(like.tree, lift(like, settings))
    resolution = _resolution(model, like, template, rules)
    carried = carry(run, model, resolution, settings, fixed=template is not None)
    lowered = dialect.lower(carried.run, template)
    claimed = _claimed(run, carried, model)
    if template is None:
        tree = merged(lowered.tree, rest(checkpoint.tree, claimed))
    else:
        tree = placed(lowered.tree, _more(checkpoint.tree, run, template))
    lost = {**_in_code(run, carried), **carried.dropped, **lowered.notes}
    return Translation(account(checkpoint.tree, tree, lost), lowered.code)


class _Lowers(Protocol):
    def lower(self, run: MovedRun, like: Template | None) -> Lowered: ...


class _Plain:
    """No framework's spelling: tensors by their names."""

    def lower(self, run: MovedRun, like: Template | None) -> Lowered:
        model: dict[Node, Node] = {**run.parameters, **run.buffers}
        if like is None:
            return Lowered(model | {name: model[owner] for name, owner in run.ties.items()})
        there = {**like.run.parameters, **like.run.buffers}
        values = {there[name].path: value for name, value in model.items() if name in there}
        return Lowered(placed(like.tree, values))


def _missing(framework: str) -> Never:
    raise UsageError(f"no dialect of {framework} is installed")


def _resolution(
    model: Model, like: Checkpoint | None, template: Template | None, rules: Rules | None
) -> Resolution | None:
    there = None if like is None or template is None else model_of(like, template.run, "--like")
    if rules is not None:
        return rules.resolve(model.shapes, there.shapes if there else None, model.ties)
    if there is None or there.shapes == model.shapes:
        return None
    own = {name: shape for name, shape in there.shapes.items() if name not in there.ties}
    proposal = propose(model.shapes, own, model.dialect, there.dialect, model.ties)
    if proposal.doubts or proposal.remarks:
        open_ = [str(rule) for rule in proposal.doubts] + list(proposal.remarks)
        raise AmbiguousError(
            f"it is not clear which leaf becomes which: {'; '.join(open_[:5])}; write a mapping "
            "with portackpt map SRC LIKE -o map.toml, correct it, and pass it with --map"
        )
    resolution = proposal.resolve(model.shapes, own, model.ties)
    told = "names matched by structure, order and layer kind, as portackpt map proposes"
    return replace(
        resolution,
        tied_targets=(*resolution.tied_targets, *there.ties.items()),
        assignments=tuple([
            replace(one, assumption=one.assumption or told) for one in resolution.assignments
        ]),
    )  # fmt: skip


def _claimed(run: Run, carried: Carried, model: Model) -> set[str]:
    """Paths of the source that are lowered, or whose meaning is."""
    claimed = {origin.path for origin in model.leaves.values()} | set(carried.dropped)
    names = {optimizer.name for optimizer in carried.run.optimizers}
    for optimizer in run.optimizers:
        if optimizer.name in names:
            claimed.add(optimizer.name)
            claimed |= {o.path for own in optimizer.slots.values() for o in own.values()}
            claimed |= {origin.path for origin in optimizer.counts.values()}
            claimed |= {origin.path for origin in optimizer.rates}
    if names:
        claimed |= {scheduled.path for scheduled in run.schedules}
    return claimed


def _in_code(run: Run, carried: Carried) -> dict[str, tuple[str, str]]:
    """What of an optimizer and its schedules is no leaf of the target."""
    told = {scheduled.path: ("in the code for the target's program", NONE)
            for scheduled in run.schedules}  # fmt: skip
    for optimizer in carried.run.optimizers:
        told[optimizer.name] = (f"an option of {optimizer.algorithm}; it is in the code", NONE)
    return told


def _more(tree: Node, run: Run, template: Template) -> dict[str, Moved]:
    """Values for the template's counters, gradient scaler and random streams, by path."""
    there = template.run
    values = {
        origin.path: Moved(run.progress[name].value, (run.progress[name].path,))
        for name, origin in there.progress.items()
        if name in run.progress
    }
    values |= {
        origin.path: Moved(run.scaler[name].value, (run.scaler[name].path,))
        for name, origin in there.scaler.items()
        if name in run.scaler
    }
    return values | poured(tree, run.streams, template.tree, there.streams)
