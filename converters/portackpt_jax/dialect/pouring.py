"""Values poured into a template: by the names, slots and counts that it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from portackpt.elementwise import cast
from portackpt.errors import UsageError
from portackpt.ledger import Fate
from portackpt.moved import Moved, MovedRun, Template
from portackpt.optimizers import Optimizer
from portackpt.tensor import Tensor
from portackpt.tree import walk
from portackpt_jax.dialect.program import Label
from portackpt_jax.dialect.states import count, settled


def poured(run: MovedRun, like: Template, labels: Sequence[Label]) -> Iterator[tuple[str, Moved]]:
    """Values by the template's paths: parameters, buffers, slots and counts.

    Raises `UsageError` where the template's optimizer is another one.
    """
    there = {**like.run.parameters, **like.run.buffers}
    for name, value in {**run.parameters, **run.buffers}.items():
        if name in there:
            yield there[name].path, _like(value, there[name].value)
    if not run.optimizers:
        return
    by_name = {name: label for label in labels for name in label.names}
    for optimizer in like.run.optimizers:
        _compare(run, optimizer)
        yield from _slots(optimizer, by_name)
    yield from _counts(like, labels)


def _compare(run: MovedRun, there: Optimizer) -> None:
    mine = {optimizer.algorithm for optimizer in run.optimizers}
    if there.algorithms and mine.isdisjoint(there.algorithms):
        raise UsageError(
            f"the template's optimizer is {there.title}, the source's "
            f"{', '.join(sorted(mine))}: their slots do not fit; make the template with the "
            "optimizer of the source, or convert without one and use the code in the ledger",
            there.name,
        )


def _slots(there: Optimizer, by_name: Mapping[str, Label]) -> Iterator[tuple[str, Moved]]:
    for name, own in there.slots.items():
        label = by_name.get(name)
        if label is None or label.chain is None:
            continue
        remarks = {
            slot: label.chain.remark
            for link in label.chain.links
            if link.is_bridge and link.state is not None
            for slot in link.state.values()
        }
        for slot, origin in own.items():
            if slot in label.share.optimizer.slots.get(name, {}):
                value = settled(label.share, name, slot, remarks.get(slot, ""))
                yield origin.path, _like(value, origin.value)


def _counts(like: Template, labels: Sequence[Label]) -> Iterator[tuple[str, Moved]]:
    """Counts of updates, of schedules, and the program's own step."""
    share = labels[0].share
    scheduled = {one.path for one in like.run.schedules}
    for optimizer in like.run.optimizers:
        for path in [origin.path for origin in optimizer.counts.values()]:
            yield path, count(share.ticks if path in scheduled else share.step)
    step = like.run.progress.get("step")
    if step is not None:
        is_tensor = isinstance(dict(walk(like.tree)).get(step.path), Tensor)
        yield step.path, count(share.step) if is_tensor else share.step


def _like(value: Moved, wanted: Any) -> Moved:
    """`value` in the dtype that the template has at its place."""
    if not isinstance(value.value, Tensor) or not isinstance(wanted, Tensor):
        return value
    if value.value.dtype is wanted.dtype:
        return value
    widened = np.can_cast(value.value.dtype.to_numpy(), wanted.dtype.to_numpy(), "safe")
    fate = Fate.RELAYOUT if widened else Fate.APPROXIMATE
    told = f"{value.value.dtype} {'widened' if widened else 'rounded'} to {wanted.dtype}"
    return value.then(cast(value.value, wanted.dtype), fate, told)
