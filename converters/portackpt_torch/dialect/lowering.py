"""A run as a PyTorch program keeps it.

    {"model": {FQN: tensor, …},
     "optimizer": {"state": {0: {…}, …}, "param_groups": [{…, "params": […], "param_names": […]}]},
     "lr_scheduler": {…}}

Several optimizers are a list under `optimizers`, their schedulers one under `lr_schedulers`. With a
template, values go to the places where its own state dicts have the same parameter and slot. The
code constructs each scheduler before it loads the optimizer: its constructor changes the rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from portackpt.dtypes import BY_NAME
from portackpt.ledger import NONE, Fate
from portackpt.moved import Lowered, Moved, MovedOptimizer, MovedRun, Template, created
from portackpt.run import Scheduled
from portackpt.schedules import Plateau
from portackpt.schedules.regrouping import regrouped
from portackpt.tensor import Tensor
from portackpt.tree import Node, rebuild
from portackpt_torch.dialect import optimizer_lowering, schedule_lowering
from portackpt_torch.dialect.optimizer_lowering import LoweredOptimizer, number


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """One optimizer with its schedule, lowered."""

    optimizer: LoweredOptimizer
    schedule: schedule_lowering.Lowered | None
    notes: Mapping[str, tuple[str, str]]

    @property
    def scheduler(self) -> dict[Node, Node] | None:
        """The scheduler's state dict with its leaves accounted for; None where there is none."""
        if self.schedule is None or not self.schedule.state:
            return None
        spelled = self.schedule.spelled
        told = "; ".join(filter(None, (f"of torch's {self.schedule.kind}", spelled.detail)))
        value = created(None, told)
        if spelled.tolerance:
            value = replace(value, tolerance=spelled.tolerance)
        state: dict[Node, Node] = rebuild(
            self.schedule.state, lambda path, leaf: replace(value, value=leaf)
        )
        return state


def lower(run: MovedRun, like: Template | None) -> Lowered:
    """`run` in the places of a template, or in the default layout."""
    if like is not None:
        from portackpt_torch.dialect.pouring import poured, regroup

        run, wanted = regroup(run, like)
        return poured(run, wanted, train(run), like)
    trained = train(run)
    tree: dict[Node, Node] = {"model": model(run)}
    if len(trained) == 1:
        tree["optimizer"] = trained[0].optimizer.node
        places = [Places('state["optimizer"]', 'state["lr_scheduler"]')]
    else:
        places = [
            Places(f'state["optimizers"][{i}]', f'state["lr_schedulers"][{i}]')
            for i in range(len(trained))
        ]
        if trained:
            tree["optimizers"] = [one.optimizer.node for one in trained]
    schedulers = [one.scheduler for one in trained]
    if any(schedulers):
        one = len(trained) == 1
        tree["lr_scheduler" if one else "lr_schedulers"] = schedulers[0] if one else schedulers
    return Lowered(tree, code('state["model"]', trained, places), notes(trained))


def train(run: MovedRun) -> list[Trained]:
    """The optimizers of `run`, each with its schedule."""
    pairs = zip(run.optimizers, _schedules(run), strict=True)
    return [_trained(run, optimizer, scheduled) for optimizer, scheduled in pairs]


def model(run: MovedRun) -> dict[Node, Node]:
    """The state dict of the module; tied names stand beside their owners."""
    state: dict[Node, Node] = {
        **run.parameters,
        **{name: _whole(value) for name, value in run.buffers.items()},
    }
    for name, owner in run.ties.items():
        if owner in state:
            state[name] = state[owner]
    return state


def _whole(moved: Moved) -> Moved:
    """A buffer that is a plain number, as a tensor: a count of batches is an int64."""
    value = moved.value
    if isinstance(value, Tensor):
        return moved
    whole = isinstance(value, int)
    return replace(moved, value=integer(value) if whole else number(value, BY_NAME["float32"]))


def integer(value: int) -> Tensor:
    """An int64 tensor of no dimension."""
    from portackpt.bytesource import InMemory
    from portackpt.tensor import contiguous

    return contiguous(BY_NAME["int64"], (), InMemory(value.to_bytes(8, "little", signed=True)))


def _schedules(run: MovedRun) -> list[Scheduled | None]:
    """The schedule of each optimizer: its own, or the one that there is."""
    known = sorted(run.schedules, key=lambda one: not _is_known(one))
    if len(run.optimizers) == len(run.schedules):
        return list(run.schedules)
    return [known[0] if known else None] * len(run.optimizers)


def _is_known(scheduled: Scheduled) -> bool:
    return bool(scheduled.schedule.base_lrs) or isinstance(scheduled.schedule.form, Plateau)


def _trained(run: MovedRun, optimizer: MovedOptimizer, scheduled: Scheduled | None) -> Trained:
    schedule = None
    notes: dict[str, tuple[str, str]] = {}
    if scheduled is not None:
        count = len(optimizer.groups)
        found = scheduled.schedule
        if found.groups == 1 != count:
            found = regrouped(found, [(0, 1.0)] * count) or found
        schedule = schedule_lowering.lower(found)
        spelled = schedule.spelled
        if spelled.fate is Fate.DROPPED:
            notes[scheduled.path] = (spelled.detail, spelled.consequence)
        else:
            notes[scheduled.path] = (f"in the code: {spelled.detail or schedule.kind}", NONE)
    rates = schedule.groups if schedule is not None and schedule.groups else None
    lowered = optimizer_lowering.lower(
        optimizer, run.parameters, rates, scheduled=scheduled is not None
    )
    return Trained(lowered, schedule, {**notes, **lowered.notes})


def notes(trained: Sequence[Trained]) -> dict[str, tuple[str, str]]:
    """What became no leaf of torch's state dicts."""
    return {path: told for one in trained for path, told in one.notes.items()}


@dataclass(frozen=True, slots=True)
class Places:
    """Where the code finds the state dicts of one optimizer and its scheduler, as expressions.

    `names` are the parameters of each group where the file does not tell them.
    """

    optimizer: str
    scheduler: str
    names: tuple[tuple[str, ...], ...] | None = None


def code(weights: str, trained: Sequence[Trained], places: Sequence[Places]) -> str:
    """Code for the target's program, which has built `model`."""
    several = len(trained) > 1
    parts = [f"model.load_state_dict({weights})"]
    if trained:
        parts.append("by_name = dict(model.named_parameters())")
    if several:
        parts[-1] += "\noptimizers = []"
    for one, place in zip(trained, places, strict=True):
        *rules, building = optimizer_lowering.code(one.optimizer, "optimizer", "groups")
        parts += [*rules, f"{_groups(place)}\n{building}"]
        if one.schedule is not None:
            parts.append(one.schedule.spelled.code.strip("\n"))
        ending = []
        if one.scheduler is not None:
            ending.append(f"scheduler.load_state_dict({place.scheduler})")
        ending.append(f"optimizer.load_state_dict({place.optimizer})")
        if several:
            ending.append("optimizers.append(optimizer)")
        parts.append("\n".join(ending))
    return "\n\n".join(dict.fromkeys(parts)) + "\n"


def _groups(place: Places) -> str:
    """Statements that define `groups`, the parameters of each."""
    if place.names is None:
        return (
            "groups = [\n"
            '    {"params": [by_name[name] for name in group["param_names"]]}\n'
            f'    for group in {place.optimizer}["param_groups"]\n'
            "]"
        )
    listed = [
        f'    {{"params": [by_name[name] for name in {list(names)!r}]}},\n' for names in place.names
    ]
    return f"groups = [\n{''.join(listed)}]"
