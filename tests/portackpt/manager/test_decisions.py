"""When to save."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from portackpt.errors import UsageError
from portackpt.manager.decisions import (
    AtSteps,
    BeforeDeadline,
    EveryNSteps,
    EveryTMinutes,
    Moment,
    OnMetric,
    Reason,
    SaveDecision,
    YoungDaly,
    every_step,
    optimal_interval,
)
from portackpt.manager.record import Record


def at(step: int = 7, now: float = 1000.0, started: float = 0.0, **known: Any) -> Moment:
    return Moment(step=step, now=now, started=started, **known)


def saved(step: int, time: float) -> Record:
    return Record(step=step, time=time)


CASES: list[tuple[SaveDecision, Moment, str | None]] = [
    (every_step, at(), "every step"),
    (EveryNSteps(5), at(10), "every 5 steps"),
    (EveryNSteps(5), at(11), None),
    (AtSteps(3, 7), at(7), "step 7 was asked for"),
    (AtSteps(3, 7), at(8), None),
    (EveryTMinutes(10), at(now=600), "every 10 min"),
    (EveryTMinutes(10), at(now=599), None),
    (EveryTMinutes(10), at(now=1100, last=saved(1, 600)), None),
    (EveryTMinutes(10), at(now=1200, last=saved(1, 600)), "every 10 min"),
    # what an earlier process saved long ago is no reason to save at the first step of this one
    (EveryTMinutes(10), at(now=1200, started=1100, last=saved(1, 600)), None),
    (OnMetric("loss", "min"), at(metrics={"loss": 2.0}), "loss improved to 2"),
    (OnMetric("loss", "min"), at(metrics={"loss": 2.0}, extremes={"loss": (1.0, 3.0)}), None),
    (OnMetric("loss", "max"), at(metrics={"loss": 2.0}, extremes={"loss": (1.0, 1.5)}),
     "loss improved to 2"),
    (OnMetric("loss", "min", 0.5), at(metrics={"loss": 2.0}, extremes={"loss": (2.4, 3.0)}), None),
    (OnMetric("loss", "min"), at(metrics={"loss": math.nan}), None),
    (OnMetric("loss", "min"), at(), None),
    (BeforeDeadline(1060.0), at(now=999), None),
    (BeforeDeadline(1060.0), at(now=1001), "59 s before the deadline"),
    (BeforeDeadline(1060.0), at(now=1001, last=saved(3, 1000.5)), None),
    (BeforeDeadline(1060.0), at(now=991, duration=5.0), "69 s before the deadline"),
    (BeforeDeadline(datetime.fromtimestamp(1060, UTC)), at(now=1001), "59 s before the deadline"),
    (EveryNSteps(5) | EveryNSteps(2), at(4), "every 2 steps"),
    (EveryNSteps(5) & EveryNSteps(2), at(4), None),
    (EveryNSteps(5) & EveryNSteps(2), at(10), "every 5 steps and every 2 steps"),
    (EveryNSteps(5) | (lambda moment: "I say so"), at(4), "I say so"),
    (YoungDaly(), at(), "the first save, which measures what one costs"),
    (YoungDaly(20_000.0), at(now=199, cost=1.0, duration=2.0), None),
    (YoungDaly(20_000.0), at(now=201, cost=1.0, duration=2.0),
     "every 199 s: a save costs 1 s, a failure comes every 5.56 h (Young/Daly)"),
    # never more often than a save can be made durable
    (YoungDaly(20_000.0), at(now=201, cost=1.0, duration=300.0), None),
    (YoungDaly(), at(now=300, cost=0.5, duration=0.5, failures=2, trained=40_000.0),
     "every 141 s: a save costs 0.5 s, a failure comes every 5.56 h (Young/Daly)"),
]  # fmt: skip


@pytest.mark.parametrize(("decision", "moment", "expected"), CASES)
def test_it_says_why(decision: SaveDecision, moment: Moment, expected: Reason) -> None:
    assert decision(moment) == expected


def test_it_computes_the_interval_that_loses_least() -> None:
    cost, between = 3.0, 3600.0

    def lost(interval: float) -> float:
        """Daly's model: expected time, divided by the time that is useful."""
        return math.exp(0) * (math.exp((interval + cost) / between) - 1) * between / interval

    best = min((lost(n / 10), n / 10) for n in range(100, 5000))[1]
    assert optimal_interval(cost, between) == pytest.approx(best, rel=1e-3)
    assert optimal_interval(10.0, 5.0) == 5.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EveryNSteps(0), "save every n steps: n is at least 1, found 0"),
        (lambda: EveryTMinutes(0), "save every t minutes: more than 0, found 0"),
        (lambda: OnMetric("loss", "least"), "a mode is 'min' or 'max', found 'least'"),  # type: ignore[arg-type]
    ],
)
def test_it_refuses_what_makes_no_sense(make: Any, message: str) -> None:
    with pytest.raises(UsageError) as error:
        make()
    assert str(error.value) == message
