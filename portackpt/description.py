"""Optimizers, schedules and streams as JSON can hold them, for `inspect`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from portackpt.optimizers import Optimizer
from portackpt.run import Stream
from portackpt.tensor import Tensor
from portackpt.tree import Object

if TYPE_CHECKING:
    from portackpt.schedules import Schedule


def describe_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """`hyperparameters` for each group; `ambiguity` and `assumptions` only where there are any."""
    slots: dict[str, None] = {}
    for own in optimizer.slots.values():
        slots.update(dict.fromkeys([str(name) for name in own]))
    found: dict[str, Any] = {
        "name": optimizer.name,
        "algorithm": optimizer.title,
        "hyperparameters": [
            {
                name: plain
                for name, value in {**group.native, **group.hyperparameters}.items()
                if (plain := _plain(value)) is not _NOTHING
            }
            for group in optimizer.groups
        ],
        "slots": list(slots),
        "step": optimizer.step,
        "parameters": sum([len(group.parameters) for group in optimizer.groups]),
    }
    if optimizer.ambiguity:
        found["ambiguity"] = optimizer.ambiguity
    if optimizer.assumptions:
        found["assumptions"] = list(optimizer.assumptions)
    return found


def describe_schedule(path: str, schedule: Schedule) -> dict[str, Any]:
    """The form's name and numbers, where it stands, the rates it gave last."""
    from portackpt.schedules import unknown

    found: dict[str, Any] = {
        "name": path,
        "kind": _kind(schedule.form),
        "parameters": _parameters(schedule.form),
        "position": schedule.position,
        "base_lrs": list(schedule.base_lrs),
        "lrs": None if schedule.current is None else list(schedule.current),
    }
    reason = unknown(schedule)
    if reason:
        found["unknown"] = reason
    return found


def describe_stream(stream: Stream) -> dict[str, Any]:
    return {
        "name": stream.path,
        "engine": str(stream.stream.engine),
        "library": str(stream.stream.library),
    }


_NOTHING = object()


def _kind(form: object) -> str:
    """`multi_step` for a `MultiStep`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(form).__name__).lower()


def _parameters(form: Any) -> dict[str, Any]:
    """The numbers of a form; of a schedule inside, its form's."""
    if hasattr(form, "form"):
        return {"kind": _kind(form.form), "parameters": _parameters(form.form)}
    return {
        field.name: plain
        for field in fields(form)
        if (plain := _plain(getattr(form, field.name))) is not _NOTHING
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return _NOTHING if _NOTHING in items else items
    if isinstance(value, Mapping):
        return {str(key): plain for key, item in value.items()
                if (plain := _plain(item)) is not _NOTHING}  # fmt: skip
    if is_dataclass(value) and not isinstance(value, Tensor | Object):
        return _parameters(value)
    return _NOTHING
