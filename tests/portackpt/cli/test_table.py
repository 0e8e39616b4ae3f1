"""Tables of text."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from portackpt.cli.table import table


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((columns, 24)))


def test_it_aligns_numbers_to_the_right() -> None:
    assert table(("name", "bytes#"), [("a", "1"), ("longer", "1,000")]).splitlines() == [
        "",
        "name     bytes",
        "──────   ─────",
        "a            1",
        "longer   1,000",
    ]


def test_it_cuts_nothing_where_there_is_no_terminal() -> None:
    assert "x" * 5000 in table(("name",), [("x" * 5000,)])


def test_it_folds_the_widest_column_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch, 30)
    shown = table(("name", "told"), [("a/b", "a sentence that is too long for it")])
    assert shown.splitlines()[3:] == [
        "a/b    a sentence that is too",
        "       long for it",
    ]


@pytest.mark.parametrize("columns", [1, 20, 33, 200])
def test_it_loses_no_character(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    on_a_terminal(monkeypatch, columns)
    cells = ("model/layers/10/weight", "float32", "[4096, 1024]")
    shown = table(("name", "dtype", "shape"), [cells]).splitlines()
    text = "".join(shown)
    assert sorted(text.replace(" ", "").replace("─", "")) == sorted(
        "namedtypeshape" + "".join(cells).replace(" ", "")
    )
    assert max(map(len, shown)) <= max(columns, 3 * 8 + 6)


def test_it_shows_headings_without_rows() -> None:
    assert table(("name", "count#"), []).split() == ["name", "count", "────", "─────"]
