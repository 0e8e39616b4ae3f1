"""What to keep: policies as small functions that combine with `|`.

A policy looks at the records of all checkpoints, oldest first, and answers the steps that it keeps.
What no policy keeps is deleted once a newer checkpoint is committed; the newest always stays. Any
function will do:

    lambda records: {record.step for record in records if "release" in record.tags}

The names are near Orbax's preservation policies.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from portackpt.errors import UsageError
from portackpt.manager.record import Record

Preservation: TypeAlias = Callable[[Sequence[Record]], Collection[int]]

_BEST = re.compile(r"(.+):(min|max)(?::(\d{1,9}))?")


class _Combinable:
    """A policy that combines with any other by `|`: what one of them keeps is kept."""

    __slots__ = ()

    def __call__(self, records: Sequence[Record]) -> Collection[int]:
        raise NotImplementedError

    def __or__(self, other: Preservation) -> AnyOf:
        return AnyOf((self, other))


@dataclass(frozen=True, slots=True)
class AnyOf(_Combinable):
    """Keep what one of `policies` keeps."""

    policies: tuple[Preservation, ...]

    def __call__(self, records: Sequence[Record]) -> frozenset[int]:
        return frozenset(step for policy in self.policies for step in policy(records))


@dataclass(frozen=True, slots=True)
class LatestN(_Combinable):
    """Keep the newest `n`."""

    n: int

    def __post_init__(self) -> None:
        _check(self.n >= 1, f"keep the latest n: n is at least 1, found {self.n}")

    def __call__(self, records: Sequence[Record]) -> frozenset[int]:
        return frozenset(record.step for record in records[-self.n :])


@dataclass(frozen=True, slots=True)
class BestK(_Combinable):
    """Keep the `k` with the best value of a metric, the newer of equals; NaN is never best."""

    metric: str
    mode: Literal["min", "max"]
    k: int = 1

    def __post_init__(self) -> None:
        _check(self.mode in ("min", "max"), f"a mode is 'min' or 'max', found {self.mode!r}")
        _check(self.k >= 1, f"keep the best k: k is at least 1, found {self.k}")

    def __call__(self, records: Sequence[Record]) -> frozenset[int]:
        sign = 1 if self.mode == "min" else -1
        found = [
            (sign * value, -record.step)
            for record in records
            if not math.isnan(value := record.metrics.get(self.metric, math.nan))
        ]
        return frozenset(-step for _, step in sorted(found)[: self.k])


@dataclass(frozen=True, slots=True)
class EveryNSteps(_Combinable):
    """Keep steps that are multiples of `n`."""

    n: int

    def __post_init__(self) -> None:
        _check(self.n >= 1, f"keep every n steps: n is at least 1, found {self.n}")

    def __call__(self, records: Sequence[Record]) -> frozenset[int]:
        return frozenset(record.step for record in records if record.step % self.n == 0)


@dataclass(frozen=True, slots=True)
class Since(_Combinable):
    """Keep what was saved at `time` or later: a time with its zone, or seconds since 1970."""

    time: datetime | float

    def __call__(self, records: Sequence[Record]) -> frozenset[int]:
        at = self.time
        first = at.timestamp() if isinstance(at, datetime) else float(at)
        return frozenset(record.step for record in records if record.time >= first)


@dataclass(frozen=True, slots=True)
class Pinned(_Combinable):
    """Keep the given steps, and what was saved with the tag `tag`."""

    steps: Collection[int] = ()
    tag: str = "pinned"

    def __call__(self, records: Sequence[Record]) -> frozenset[int]:
        tagged = frozenset(record.step for record in records if self.tag in record.tags)
        return tagged | frozenset(self.steps)


def everything(records: Sequence[Record]) -> frozenset[int]:
    """Keep all."""
    return frozenset(record.step for record in records)


def doomed(records: Sequence[Record], policy: Preservation) -> tuple[int, ...]:
    """The steps that `policy` gives up, oldest first; never the newest."""
    if not records:
        return ()
    kept = {*policy(records), records[-1].step}
    return tuple(record.step for record in records if record.step not in kept)


def parse(text: str) -> Preservation:
    """The policy that a text spells: `latest:3`, `best:loss:min:2`, `every:1000`,
    `since:2026-05-01`, `pinned`, `pinned:TAG`, `step:700`, `all`."""
    name, *words = text.split(":", 1)
    rest = words[0] if words else ""
    try:
        match name:
            case "latest":
                return LatestN(int(rest))
            case "best":
                return _parse_best(rest)
            case "every":
                return EveryNSteps(int(rest))
            case "since":
                time = datetime.fromisoformat(rest)
                return Since(time if time.tzinfo else time.replace(tzinfo=UTC))
            case "pinned":
                return Pinned(tag=rest) if rest else Pinned()
            case "step":
                return Pinned((int(rest),), tag="")
            case "all" if not rest:
                return everything
    except ValueError:
        pass
    raise UsageError(
        f"{text!r} is no policy; known are latest:N, best:METRIC:min|max[:K], every:N, "
        "since:TIME, pinned[:TAG], step:N and all"
    )


def _parse_best(text: str) -> BestK:
    found = _BEST.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return BestK(found[1], "min" if found[2] == "min" else "max", int(found[3] or 1))


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise UsageError(message)
