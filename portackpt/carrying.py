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
from portackpt.run import Run
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
        return Fate.RELAYOUT if self.assignment and self.assignment.detail else Fate.EXACT

    @property
    def detail(self) -> str:
        return self.assignment.detail if self.assignment else ""

    @property
    def notes(self) -> tuple[Note, ...]:
        return self.assignment.notes if self.assignment else ()


def carry(
    run: Run, model: Model, resolution: Resolution | None, settings: Mapping[str, str]
) -> Carried:
    """`run`, whose model is `model`, where `resolution` puts it (None: under its own names).

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
    for optimizer in run.optimizers:
        if optimizer.algorithms and settings.get("optimizer") != NATIVE:
            carried, lost = _optimizer(optimizer, ways, run, settings)
            optimizers.append(carried)
            dropped |= lost
    parameters = {name: value for name, value in moved.items() if name not in buffers}
    return Carried(
        MovedRun(
            parameters, {name: moved[name] for name in moved if name in buffers}, ties,
            tuple(optimizers), run.schedules, run.streams,
        ),
        dropped,
    )  # fmt: skip


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
    optimizer: Optimizer, ways: Sequence[_Way], run: Run, settings: Mapping[str, str]
) -> tuple[MovedOptimizer, dict[str, tuple[str, str]]]:
    if len(optimizer.algorithms) > 1 or optimizer.ambiguity:
        raise AmbiguousError(
            f"{optimizer.ambiguity}, or carry its state as it stands with --set optimizer={NATIVE}",
            optimizer.name,
        )
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
        _groups(optimizer, ways, hyperparameters(settings)),
        slots,
        _step(optimizer, run),
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
    notes = tuple(filter(None, (objected, *[n for n in way.notes if n.learning_rate != 1])))
    fate = worst(way.fate, *[_fate(note) for note in notes])
    return [
        (target, slot, Moved(
            tensor, paths, fate, _joined(way.detail, *[note.text for note in notes]),
            _joined(*[note.consequence for note in notes]),
        ))
        for target, tensor in zip(way.targets, way.apply(tensors, slots=True), strict=True)
    ]  # fmt: skip


def _fate(note: Note) -> Fate:
    return Fate.APPROXIMATE if note.approximate or note.learning_rate != 1 else Fate.EXACT


def _groups(
    optimizer: Optimizer, ways: Sequence[_Way], given: Mapping[str, Any]
) -> tuple[Group, ...]:
    """The groups with the target's names; a parameter made of several is where the first was."""
    targets = {way.sources[0]: way.targets for way in (*ways, *_strangers(optimizer, ways))}
    return tuple([
        replace(
            group,
            parameters=tuple([t for name in group.parameters for t in targets.get(name, ())]),
            hyperparameters={**group.hyperparameters, **given},
        )
        for group in optimizer.groups
    ])  # fmt: skip


def _step(optimizer: Optimizer, run: Run) -> Moved:
    assumed = _joined(*optimizer.assumptions)
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
