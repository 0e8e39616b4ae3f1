"""A run as a JAX program with optax keeps it.

    params          parameters, nested by the slashes in their names
    batch_stats, …  other collections, by the first part of their names; else `buffers`
    opt_state       the states of the chain that the code builds: NamedTuples as dicts, tuples as
                    lists, as Orbax restores them
    step            the count of updates

Several groups, optimizers, or counts of updates are the labels `group_0`, … of one
`multi_transform`; parameters that none of them has are `frozen`.
With a template, values go to the places where its own optimizer has the same slot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from portackpt.ledger import NONE, Fate
from portackpt.moved import Lowered, Moved, MovedOptimizer, MovedRun, Template, placed
from portackpt.optimizers import Algorithm, Group
from portackpt.run import Scheduled
from portackpt.schedules import Schedule
from portackpt.schedules.clock import Clock, infer_clock
from portackpt.tree import Node
from portackpt_jax.dialect.chains import Chain, Name, Rate, chain
from portackpt_jax.dialect.pouring import poured
from portackpt_jax.dialect.program import Label, program
from portackpt_jax.dialect.schedules import spell, spell_momentum
from portackpt_jax.dialect.states import PARAMETERS, Share, count, empty, put, state, stem

_COLLECTIONS = ("batch_stats", "cache", "model_state")
_WITH_BETA = (Algorithm.ADAM, Algorithm.ADAMAX, Algorithm.RADAM, Algorithm.LAMB, Algorithm.LION)


def lower(run: MovedRun, like: Template | None) -> Lowered:
    """`run` in the places of a template, or in the default layout."""
    lowering = _Lowering(run)
    labels = lowering.labels() if run.optimizers else []
    code = program(labels, lowering.schedules, restore=like is None)
    if like is not None:
        return Lowered(placed(like.tree, dict(poured(run, like, labels))), code, lowering.notes)
    tree: dict[Node, Node] = {}
    for name, value in run.parameters.items():
        put(tree, f"{PARAMETERS}/{stem(name)}", value)
    for name, value in run.buffers.items():
        known = name.partition("/")[0] in _COLLECTIONS
        put(tree, name if known else f"buffers/{name}", value)
    if labels:
        tree["opt_state"] = _opt_state(run, labels)
        tree["step"] = count(run.optimizers[0].step)
    return Lowered(tree, code, lowering.notes)


def _opt_state(run: MovedRun, labels: Sequence[Label]) -> Node:
    names = [name for label in labels for name in label.names]
    states = {
        label.name: empty()
        if label.chain is None
        else state(label.share, label.chain, names, run.parameters)
        for label in labels
    }
    if len(states) == 1:
        return states[labels[0].name]
    return {"inner_states": {name: {"inner_state": one} for name, one in states.items()}}


@dataclass(slots=True)
class _Lowering:
    """The schedules' code and the notes, which grow as optimizers are lowered."""

    run: MovedRun
    notes: dict[str, tuple[str, str]] = field(default_factory=dict)
    schedules: dict[str, str] = field(default_factory=dict)

    def labels(self) -> list[Label]:
        """The parameters by what is done to them."""
        labels: list[Label] = []
        taken: set[str] = set()
        for index, optimizer in enumerate(self.run.optimizers):
            optimizer.need("lr")
            for number, group in enumerate(optimizer.groups):
                names = self._names(group, index)
                names = [name for name in names if name not in taken]
                taken.update(names)
                if names:
                    group = replace(group, parameters=tuple(names))
                    labels += self._shares(index, number, group, len(labels))
        frozen = [name for name in self.run.parameters if name not in taken]
        if frozen:
            labels.append(Label("frozen", tuple(frozen), labels[0].share, None))
        return labels

    def _names(self, group: Group, index: int) -> Sequence[str]:
        """Those of a group; all where a lone optimizer does not say."""
        optimizer = self.run.optimizers[index]
        if any(one.parameters for one in optimizer.groups) or len(self.run.optimizers) > 1:
            return [name for name in group.parameters if name in self.run.parameters]
        return list(self.run.parameters)

    def _shares(self, index: int, number: int, group: Group, first: int) -> Iterator[Label]:
        """A label for each count of updates that parameters of the group have."""
        optimizer = self.run.optimizers[index]
        counts: dict[int, tuple[Moved, list[str]]] = {}
        for name in group.parameters:
            step = optimizer.steps.get(name, optimizer.step)
            counts.setdefault(int(step.value), (step, []))[1].append(name)
        rate, ticks = self._rate(index, number, group)
        for place, (step, names) in enumerate(counts.values()):
            part = replace(group, parameters=tuple(names))
            share = Share(optimizer, part, number, step, ticks, rate.scheduled)
            one: Chain = chain(optimizer, part, rate)
            yield Label(f"group_{first + place}", tuple(names), share, one)

    def _rate(self, index: int, number: int, group: Group) -> tuple[Rate, Moved]:
        """The learning rate of a group, and the count of its schedule."""
        optimizer = self.run.optimizers[index]
        scheduled = _schedule_of(self.run, index)
        suffix = f"{f'_{index}' if index else ''}{f'_{number}' if number else ''}"
        name = Name(f"schedule{suffix}")
        if scheduled is None:
            rate, decay = group.hyperparameters["lr"], group.hyperparameters.get("lr_decay")
            if optimizer.algorithm is not Algorithm.ADAGRAD or not decay:
                return Rate(rate), optimizer.step
            text = f"def {name}(count):\n    return {rate!r} / (1 + count * {decay!r})\n"
            self.schedules[name] = text
            return Rate(name), optimizer.step
        schedule, ticks, told, meaning = _clocked(scheduled.schedule, optimizer)
        spelled = spell(schedule, number, name)
        self.schedules[name] = spelled.code
        if spelled.fate is Fate.DROPPED:
            self.notes[scheduled.path] = (spelled.detail, spelled.consequence)
        else:
            detail = "; ".join(filter(None, ("in the code, as a function of the count", told)))
            meaning = "; ".join(filter(None, (meaning, spelled.consequence))) or NONE
            self.notes[scheduled.path] = (detail, meaning)
        return Rate(name, self._momentum(optimizer, schedule, number, suffix)), ticks

    def _momentum(
        self, optimizer: MovedOptimizer, schedule: Schedule, number: int, suffix: str
    ) -> Name | None:
        moved = optimizer.algorithm is Algorithm.SGD and optimizer.of("momentum")
        if not moved and optimizer.algorithm not in _WITH_BETA:
            return None
        name = Name(f"momentum{suffix}")
        spelled = spell_momentum(schedule, number, name)
        if spelled is None:
            return None
        self.schedules[name] = spelled.code
        return name


def _schedule_of(run: MovedRun, index: int) -> Scheduled | None:
    """The schedule of the optimizer at `index`: the only one, or that of the same place."""
    several = len(run.optimizers) > 1
    if several and len(run.schedules) != len(run.optimizers):
        return None
    place = index if several else 0
    return run.schedules[place] if place < len(run.schedules) else None


def _clocked(schedule: Schedule, optimizer: MovedOptimizer) -> tuple[Schedule, Moved, str, str]:
    """`schedule` as a function of a count of updates, that count, and a remark with what it means.

    Where the optimizer has no count, the schedule's own is taken for it.
    """
    position, step = schedule.position, optimizer.step
    if step.fate is Fate.CREATED and position == int(position):
        told = "a tick of the schedule is taken for an update"
        return schedule, replace(step, value=int(position), assumption=told), "", ""
    clock = infer_clock(position, step.value)
    if clock is None:
        ticks = int(position) - step.value
        told = f"{position} ticks at {step.value} updates: neither divides the other"
        meaning = "from here on the schedule ticks with each update"
        return replace(schedule, clock=Clock(shift=ticks)), step, told, meaning
    if clock == schedule.clock:
        return schedule, step, "", ""
    told = f"{position} ticks at {step.value} updates: {clock.ticks} every {clock.per} updates"
    return replace(schedule, clock=clock), replace(step, assumption=told), told, ""
