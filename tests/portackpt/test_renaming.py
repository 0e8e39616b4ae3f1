from typing import Any

import pytest

from portackpt.errors import UsageError
from portackpt.ledger import Entry, Fate
from portackpt.renaming import Renames, rename
from portackpt.tree import walk


def no_dots(tree: Any) -> Renames:
    """Names with dots get underscores."""
    paths = {path.rpartition("/")[0] for path, _ in walk(tree)} | {path for path, _ in walk(tree)}
    return {
        path: (path.rpartition("/")[2].replace(".", "_"), "dots are not kept")
        for path in paths
        if "." in path.rpartition("/")[2]
    }


def test_it_renames_keys_and_moves_the_entries_below_them() -> None:
    tree = {"a.b": {"c.d": 1, "e": [2, ()]}, "f": {}}
    entries = [Entry(path, path, Fate.EXACT) for path, _ in walk(tree)]
    renamed, moved = rename(tree, entries, no_dots)
    assert renamed == {"a_b": {"c_d": 1, "e": [2, ()]}, "f": {}}
    assert [(entry.source, entry.target) for entry in moved] == [
        ("a.b/c.d", "a_b/c_d"), ("a.b/e/0", "a_b/e/0"), ("a.b/e/1", "a_b/e/1"), ("f", "f"),
    ]  # fmt: skip
    assert moved[1].detail == "renamed: dots are not kept"
    assert moved[3].detail == ""
    assert {path for path, _ in walk(renamed)} == {entry.target for entry in moved}


def test_it_leaves_alone_what_is_dropped_and_what_needs_no_name() -> None:
    entries = [Entry("a", None, Fate.DROPPED), Entry("b", "b", Fate.EXACT)]
    assert rename({"b": 1}, entries, no_dots) == ({"b": 1}, tuple(entries))


def test_it_gives_up_on_a_format_that_never_has_enough() -> None:
    with pytest.raises(UsageError, match="apart"):
        rename({"a": 1}, [], lambda tree: {next(iter(tree)): ("b", "never content")})
