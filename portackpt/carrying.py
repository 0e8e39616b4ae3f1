"""Carrying a run over: from the source's names and layouts to the target's. Pure and lazy.

Parameters go by the assignments of a mapping (without one, under their own names, as they stand),
and each slot of an optimizer goes the way of its parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from portackpt.errors import AmbiguousError
from portackpt.layouts.notes import Note, objection
from portackpt.ledger import Fate, worst
from portackpt.matching import Assignment, Resolution
from portackpt.models import Model
from portackpt.moved import Moved, MovedOptimizer, MovedRun, created, flat
from portackpt.optimizers import Group, Optimizer, Origin, Slot
from portackpt.run import Run, Scheduled
from portackpt.schedules.regrouping import regrouped
from portackpt.settings import NATIVE, hyperparameters
from portackpt.tensor import Tensor

_FACTORS = {Slot.ROW_MOMENT: Slot.COLUMN_MOMENT, Slot.COLUMN_MOMENT: Slot.ROW_MOMENT}
_ANEW = "the optimizer starts anew for this parameter"


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """A run in the target's names; `dropped` are source paths without a place, with reason and
    consequence."""

    run: MovedRun
    dropped: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """Source names, the target names that they become, and how; None: as they stand."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    assignment: Assignment | None = None

    def apply(self, tensors: Sequence[Tensor], slots: bool = False) -> tuple[Tensor, ...]:
        return self.assignment.apply(tensors, slots=slots) if self.assignment else tuple(tensors)

    @property
    def fate(self) -> Fate:
        if self.assignment is None or not self.assignment.detail:
            return Fate.EXACT
        return Fate.EQUIVALENT if self.assignment.regroup.adds else Fate.RELAYOUT

    @property
    def detail(self) -> str:
        return self.assignment.detail if self.assignment else ""

    @property
    def notes(self) -> tuple[Note, ...]:
        return self.assignment.notes if self.assignment else ()


def carry(
    run: Run,
    model: Model,
    resolution: Resolution | None,
    settings: Mapping[str, str],
    *,
    fixed: bool = False,
) -> Carried:
    """`run`, whose model is `model`, where `resolution` puts it (None: under its own names).

    `fixed`: the target's optimizer is built already, with the groups that it has.
    Raises `AmbiguousError` where it is open what an optimizer is.
    """
    ways = _ways(model, resolution)
    dropped: dict[str, tuple[str, str]] = {}
    moved = {name: value for way in ways for name, value in _parameters(way, model).items()}
    buffers = {name for way in ways if way.sources[0] in model.buffers for name in way.targets}
    ties = dict(model.ties)
    if resolution is not None:
        ties = dict(resolution.tied_targets)
        zero = {name: created(0, "the source keeps no such count") for name in resolution.zeros}
        moved, buffers = moved | zero, buffers | set(zero)
        dropped |= {model.leaves[n].path: (why, "none") for n, why in resolution.dropped}
    optimizers = []
    schedules = run.schedules
    for optimizer in run.optimizers:
        if is_known(optimizer, model, settings):
            shares = _shares(optimizer, ways, factors=not fixed)
            single = len(run.optimizers) == 1
            followed = _schedules(run, shares) if single else run.schedules
            if fixed or followed is None:
                shares = _shares(optimizer, ways, factors=False)
                moved |= {
                    name: _slower(way, place, moved[name])
                    for way in ways
                    for place, name in enumerate(way.targets)
                }
                followed = _schedules(run, shares) if single else run.schedules
            schedules = followed or run.schedules
            carried, lost = _optimizer(optimizer, ways, shares, run, settings)
            optimizers.append(carried)
            dropped |= lost
    parameters = {name: value for name, value in moved.items() if name not in buffers}
    return Carried(
        MovedRun(
            parameters, {name: moved[name] for name in moved if name in buffers}, ties,
            tuple(optimizers), schedules, run.streams,
        ),
        dropped,
    )  # fmt: skip


def is_known(optimizer: Optimizer, model: Model, settings: Mapping[str, str]) -> bool:
    """Whether it is clear what an optimizer is and whose parameters it has: else its state goes as
    it stands."""
    if not optimizer.algorithms or settings.get("optimizer") == NATIVE:
        return False
    return not optimizer.slots or any(name in model.leaves for name in optimizer.slots)


def _ways(model: Model, resolution: Resolution | None) -> list[_Way]:
    if resolution is None:
        return [_Way((name,), (name,)) for name in model.leaves if name not in model.ties]
    return [_Way(a.sources, a.targets, a) for a in resolution.assignments]


def _parameters(way: _Way, model: Model) -> dict[str, Moved]:
    origins = [model.leaves[name] for name in way.sources]
    paths = tuple([origin.path for origin in origins])
    told = [note for note in way.notes if not note.approximate]
    doubts = [note for note in way.notes if note.approximate]
    fate = Fate.APPROXIMATE if doubts else way.fate
    tolerances = [note.tolerance for note in way.notes if note.tolerance is not None]
    assumption = way.assignment.assumption if way.assignment else ""
    lost = [f"{part} has no place: {why}" for part, why in way.assignment.lost] if (
        way.assignment
    ) else []  # fmt: skip
    return {
        name: Moved(
            tensor, paths, fate,
            _joined(way.detail, *[note.text for note in (*told, *doubts)], *lost),
            _joined(*[note.consequence for note in way.notes if note.consequence != "none"]),
            max(tolerances) if tolerances else None, assumption,
        )
        for name, tensor in zip(
            way.targets, way.apply([origin.value for origin in origins]), strict=True
        )
    }  # fmt: skip


def _joined(*parts: str) -> str:
    return "; ".join(dict.fromkeys(filter(None, parts)))


def _optimizer(
    optimizer: Optimizer,
    ways: Sequence[_Way],
    shares: Sequence[_Share],
    run: Run,
    settings: Mapping[str, str],
) -> tuple[MovedOptimizer, dict[str, tuple[str, str]]]:
    if len(optimizer.algorithms) > 1 or optimizer.ambiguity:
        raise AmbiguousError(
            f"{optimizer.ambiguity}, or carry its state as it stands with --set optimizer={NATIVE}",
            optimizer.name,
        )
    given = hyperparameters(settings)
    slots: dict[str, dict[str, Moved]] = {}
    dropped: dict[str, tuple[str, str]] = {}
    gone = set(optimizer.slots)
    for way in (*ways, *_strangers(optimizer, ways)):
        gone -= set(way.sources)
        found = [optimizer.slots.get(name, {}) for name in way.sources]
        for slot in dict.fromkeys(slot for own in found for slot in own):
            origins = [own.get(slot) for own in found]
            known = [origin for origin in origins if origin is not None]
            if len(known) < len(origins):
                lost = "the parameters that become one do not all have it"
                dropped |= {origin.path: (lost, _ANEW) for origin in known}
                continue
            placed = _slot(optimizer, way, slot, known)
            if placed is None:
                lost = f"{slot} cannot follow its parameter through {way.detail}"
                dropped |= {origin.path: (lost, _ANEW) for origin in known}
                continue
            for target, where, value in placed:
                slots.setdefault(target, {})[where] = value
    for name in gone:
        lost = f"its parameter, {name}, has no place"
        dropped |= {origin.path: (lost, "none") for origin in optimizer.slots[name].values()}
    return MovedOptimizer(
        optimizer.name,
        optimizer.algorithms[0],
        tuple([_group(optimizer.groups[share.group], share, given) for share in shares]),
        slots,
        _step(optimizer, run, settings),
        _steps(optimizer, ways),
    ), dropped


def _strangers(optimizer: Optimizer, ways: Sequence[_Way]) -> list[_Way]:
    """Parameters that only the optimizer knows: where no mapping says other, as they stand."""
    if any(way.assignment for way in ways):
        return []
    known = {name for way in ways for name in way.sources}
    return [_Way((name,), (name,)) for name in optimizer.slots if name not in known]


def _slot(
    optimizer: Optimizer, way: _Way, slot: str, origins: Sequence[Origin]
) -> list[tuple[str, str, Moved]] | None:
    """One slot of the parameters of `way`, by target name and slot; None where it cannot follow."""
    paths = tuple([origin.path for origin in origins])
    tensors = [origin.value for origin in origins]
    first = Moved(tensors[0], paths)
    if way.assignment is None:
        return [(way.targets[0], slot, first)]
    if all(not isinstance(t, Tensor) or t.size == 1 for t in tensors):
        return [(target, slot, first) for target in way.targets]
    regroup = way.assignment.regroup
    if slot in _FACTORS:
        if not regroup.moves:
            return [(way.targets[0], slot, first)]
        if regroup.direct is None or len(regroup.shapes()[0]) != 2:
            return None
        turned = first.then(tensors[0], Fate.RELAYOUT, "rows and columns change places")
        return [(way.targets[0], _FACTORS[Slot(slot)], turned)]
    objected = objection(str(optimizer.algorithms[0]), regroup)
    notes = (objected,) if objected else ()
    fate = worst(way.fate, *[Fate.APPROXIMATE for note in notes if note.approximate])
    return [
        (target, slot, Moved(
            tensor, paths, fate, _joined(way.detail, *[note.text for note in notes]),
            _joined(*[note.consequence for note in notes]),
        ))
        for target, tensor in zip(way.targets, way.apply(tensors, slots=True), strict=True)
    ]  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Share:
    """Parameters of one group of the source that become one of the target: all that have the same
    factors of the learning rate and of the weight decay."""

    group: int
    learning_rate: float
    weight_decay: float
    parameters: tuple[str, ...]


def _shares(optimizer: Optimizer, ways: Sequence[_Way], *, factors: bool) -> list[_Share]:
    """The groups with the target's names; a parameter made of several is where the first was.

    Without `factors` no group is divided.
    """
    by_name = {way.sources[0]: way for way in (*ways, *_strangers(optimizer, ways))}
    found: list[_Share] = []
    for index, group in enumerate(optimizer.groups):
        parts: dict[tuple[float, float], list[str]] = {(1.0, 1.0): []}
        for name in group.parameters:
            if name in by_name:
                way = by_name[name]
                for place, target in enumerate(way.targets):
                    own = _factors(way, place) if factors else (1.0, 1.0)
                    parts.setdefault(own, []).append(target)
        found += [
            _Share(index, *own, tuple(names))
            for own, names in parts.items()
            if names or not group.parameters or not any(parts.values())
        ]
    return found


def _factors(way: _Way, index: int) -> tuple[float, float]:
    """What the rate and the decay of a way's target are multiplied by."""
    if way.assignment is None:
        return 1.0, 1.0
    held = way.assignment.regroup.targets[index].holds
    return next(
        ((n.learning_rate, n.weight_decay) for n in way.notes
         if n.learning_rate != 1 and n.part in held), (1.0, 1.0)
    )  # fmt: skip


def _slower(way: _Way, place: int, value: Moved) -> Moved:
    """`value`, which should have a learning rate of its own and has none."""
    if _factors(way, place) == (1.0, 1.0):
        return value
    told = "it would need a learning rate of its own, and has the optimizer's"
    return value.then(value.value, Fate.APPROXIMATE, told, "it moves half as fast as before")


def _group(group: Group, share: _Share, given: Mapping[str, Any]) -> Group:
    options = {**group.hyperparameters, **given}
    for name, factor in (("lr", share.learning_rate), ("weight_decay", share.weight_decay)):
        if factor != 1 and isinstance(options.get(name), int | float):
            options[name] = options[name] * factor
    return replace(group, parameters=share.parameters, hyperparameters=options)


def _schedules(run: Run, shares: Sequence[_Share]) -> tuple[Scheduled, ...] | None:
    """The schedules of a run's one optimizer, for the groups that it has now; None where one has
    the same floor for all groups, and cannot give one of them a factor."""
    groups = [(share.group, share.learning_rate) for share in shares]
    found = []
    for scheduled in run.schedules:
        known = scheduled.schedule.groups
        if known and all(index < known for index, _ in groups):
            schedule = regrouped(scheduled.schedule, groups)
            if schedule is None:
                return None
            scheduled = replace(scheduled, schedule=schedule)
        found.append(scheduled)
    return tuple(found)


def _step(optimizer: Optimizer, run: Run, settings: Mapping[str, str]) -> Moved:
    """The count, which also bears what was assumed of the optimizer."""
    given = [f"{name}={settings[name]}" for name in ("optimizer", *hyperparameters(settings))
             if name in settings]  # fmt: skip
    said = f"{', '.join(given)}, as given with --set" if given else ""
    assumed = _joined(*optimizer.assumptions, said)
    shared = [o for name, o in optimizer.counts.items() if name not in optimizer.slots]
    known = shared or list(optimizer.counts.values())
    if optimizer.step is not None:
        counts = [origin for origin in known if origin.value == optimizer.step]
        paths = flat([Moved(None, (origin.path,)) for origin in counts])
        return Moved(optimizer.step, paths, assumption=assumed)
    origin = run.progress.get("step")
    step = origin.value if origin is not None else 0
    return replace(created(step, "the optimizer keeps no count of its own"), assumption=assumed)


def _steps(optimizer: Optimizer, ways: Sequence[_Way]) -> dict[str, Moved]:
    """Counts of single parameters that differ from the optimizer's."""
    return {
        target: Moved(origin.value, (origin.path,))
        for way in (*ways, *_strangers(optimizer, ways))
        for target in way.targets
        if (origin := optimizer.counts.get(way.sources[0])) is not None
        and origin.value != optimizer.step
    }
