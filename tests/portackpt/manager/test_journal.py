"""The journal survives torn writes, and tells the history of a run."""

from pathlib import Path

import pytest

from portackpt.manager.journal import Event, Journal, history


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path, lambda: 5.0)


def test_it_keeps_events_in_order(journal: Journal) -> None:
    journal.append("created", run="gpt")
    journal.append("saved", step=3, metrics={"loss": 0.5}, tags=None)
    assert list(journal.events()) == [
        Event("created", 5.0, {"run": "gpt"}),
        Event("saved", 5.0, {"step": 3, "metrics": {"loss": 0.5}}),
    ]


def test_it_is_empty_where_there_is_no_file(journal: Journal) -> None:
    assert list(journal.events()) == []


def test_it_ends_a_torn_line_at_any_byte(journal: Journal) -> None:
    journal.append("first")
    journal.append("second")
    whole = journal.path.read_bytes()
    start = whole.index(b"\n") + 1
    for size in range(start, len(whole)):
        journal.path.write_bytes(whole[:size])
        survived = ["first"] + (["second"] if size == len(whole) - 1 else [])
        assert [event.event for event in journal.events()] == survived
        journal.append("third")
        assert [event.event for event in journal.events()] == [*survived, "third"]


@pytest.mark.parametrize("junk", [b"\n", b"\0" * 500 + b"\n", b'{"event":"x"}\n', b"\xff\xfe\n"])
def test_it_passes_over_lines_that_are_none(journal: Journal, junk: bytes) -> None:
    journal.append("first")
    with journal.path.open("ab") as file:
        file.write(junk)
    journal.append("second")
    assert [event.event for event in journal.events()] == ["first", "second"]


def test_it_tells_the_history() -> None:
    events = [
        Event("created", 0.0, {"run": "gpt"}),
        Event("started", 0.0, {}),
        Event("saved", 50.0, {"step": 1, "metrics": {"loss": 2.0, "bad": "nan"}}),
        Event("saved", 100.0, {"step": 2, "metrics": {"loss": 3.0}}),
        Event("started", 500.0, {}),  # the first one was killed after 100 s
        Event("interrupted", 530.0, {}),
        Event("started", 600.0, {}),
        Event("finished", 610.0, {}),
        Event("started", 700.0, {}),
        Event("saved", 760.0, {"step": 9}),
    ]
    found = history(events)
    assert found.run == "gpt"
    assert found.saved == {1, 2, 9}
    assert found.extremes == {"loss": (2.0, 3.0)}
    assert found.failures == 2
    assert found.trained == 100 + 30 + 10 + 60
