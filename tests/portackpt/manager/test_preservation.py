"""What to keep."""

from datetime import UTC, datetime

import pytest

from portackpt.errors import UsageError
from portackpt.manager.preservation import (
    AnyOf,
    BestK,
    EveryNSteps,
    LatestN,
    Pinned,
    Preservation,
    Since,
    doomed,
    everything,
    parse,
)
from portackpt.manager.record import Record

LOSSES = [5.0, 4.0, 4.0, float("nan"), 4.5, 6.0]
RECORDS = [
    Record(step=10 * n, time=100.0 * n, metrics={"loss": loss} if n != 4 else {},
           tags=("pinned",) if n == 0 else ("paper",) if n == 1 else ())
    for n, loss in enumerate(LOSSES)
]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (everything, {0, 10, 20, 30, 40, 50}),
        (LatestN(2), {40, 50}),
        (LatestN(9), {0, 10, 20, 30, 40, 50}),
        (BestK("loss", "min"), {20}),
        (BestK("loss", "min", 2), {10, 20}),
        (BestK("loss", "max"), {50}),
        (BestK("loss", "max", 9), {0, 10, 20, 50}),
        (BestK("accuracy", "max"), set()),
        (EveryNSteps(20), {0, 20, 40}),
        (Since(250.0), {30, 40, 50}),
        (Since(datetime.fromtimestamp(400, UTC)), {40, 50}),
        (Pinned(), {0}),
        (Pinned((30, 70)), {0, 30, 70}),
        (Pinned(tag="paper"), {10}),
        (LatestN(1) | BestK("loss", "min") | Pinned(), {0, 20, 50}),
        (LatestN(1) | (lambda records: {10}), {10, 50}),
    ],
)
def test_it_keeps(policy: Preservation, kept: set[int]) -> None:
    assert set(policy(RECORDS)) == kept


def test_it_never_gives_up_the_newest() -> None:
    assert doomed(RECORDS, lambda records: ()) == (0, 10, 20, 30, 40)
    assert doomed(RECORDS, LatestN(1) | EveryNSteps(20)) == (10, 30)
    assert doomed([], LatestN(1)) == ()


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("latest:3", LatestN(3)),
        ("best:loss:min", BestK("loss", "min")),
        ("best:eval:loss:max:2", BestK("eval:loss", "max", 2)),
        ("every:1000", EveryNSteps(1000)),
        ("since:2026-05-01", Since(datetime(2026, 5, 1, tzinfo=UTC))),
        ("since:2026-05-01T10:00:00+02:00", Since(datetime(2026, 5, 1, 8, tzinfo=UTC))),
        ("pinned", Pinned()),
        ("pinned:paper", Pinned(tag="paper")),
        ("step:700", Pinned((700,), tag="")),
        ("all", everything),
    ],
)
def test_it_reads_a_policy(text: str, policy: Preservation) -> None:
    assert parse(text) == policy


@pytest.mark.parametrize("text", ["", "latest", "latest:x", "latest:0", "best:loss", "newest:3"])
def test_it_says_which_policies_there_are(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert "latest" in str(error.value)


def test_it_combines() -> None:
    assert LatestN(1) | LatestN(2) == AnyOf((LatestN(1), LatestN(2)))
