"""The entries of a tree whose leaves know where they came from."""

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from portackpt.accounting import account, merged, rest
from portackpt.ledger import NONE, Fate
from portackpt.moved import Moved, created
from portackpt.tree import walk

KEYS = st.text("abc/~.", min_size=1, max_size=3)
TREES = st.recursive(
    st.integers() | st.none(), lambda below: st.dictionaries(KEYS, below, max_size=4), max_leaves=12
).filter(lambda tree: isinstance(tree, dict))


@given(TREES, st.randoms())
def test_it_accounts_for_every_leaf_once(tree: dict[str, Any], random: Random) -> None:
    paths = [path for path, _ in walk(tree)]
    claimed = [path for path in paths if path and random.random() < 0.5]
    leaves = dict(walk(tree))
    lowered = {f"new{i}": Moved(leaves[path], (path,)) for i, path in enumerate(claimed)}
    whole = merged(lowered, rest(tree, claimed))
    spelling = account(tree, whole, {})
    sources = [entry.source for entry in spelling.entries if entry.source is not None]
    assert sorted(sources) == sorted(paths)
    held = {path for path, _ in walk(spelling.tree) if path}
    assert held <= {entry.target for entry in spelling.entries}


def test_it_names_a_source_once_and_what_else_became_of_it() -> None:
    lowered = {"a": Moved(3, ("step",)), "b": Moved(3, ("step",)), "c": created(0, "made")}
    first, second, third, fourth = account({"step": 3, "lr": 0.1}, lowered, {}).entries
    assert (first.source, first.target, first.fate) == ("step", "a", Fate.EXACT)
    assert (second.source, second.target, second.detail) == (None, "b", "from step")
    assert (third.target, third.fate, third.consequence) == ("c", Fate.CREATED, NONE)
    assert (fourth.source, fourth.target, fourth.fate) == ("lr", None, Fate.DROPPED)


def test_it_merges_one_number_and_keeps_two_apart() -> None:
    tree = merged(
        {"step": Moved(3, ("opt/step",)), "epoch": Moved(1, ("a",))},
        {"step": Moved(3, ("step",)), "epoch": Moved(2, ("epoch",)), "more": Moved(0, ("more",))},
    )
    assert tree["step"].sources == ("opt/step", "step")
    assert tree["source"]["epoch"].value == 2
    assert tree["more"].value == 0
