from typing import Any

import pytest
from hypothesis import given

import generated
from portackpt.tree import Object, assemble, children, escape, plain_name, rebuild, unescape, walk


@given(generated.trees())
def test_it_gives_every_leaf_its_own_path(tree: Any) -> None:
    paths = [path for path, _ in walk(tree)]
    assert len(set(paths)) == len(paths)


@given(generated.trees())
def test_it_rebuilds_what_it_walks(tree: Any) -> None:
    leaves = list(walk(tree))
    met = []
    rebuilt = rebuild(tree, lambda path, leaf: met.append((path, leaf)) or leaf)
    assert [(path, id(leaf)) for path, leaf in met] == [(path, id(leaf)) for path, leaf in leaves]
    again = list(walk(rebuilt))
    assert [path for path, _ in again] == [path for path, _ in leaves]


@given(generated.names)
def test_it_escapes_and_back(name: str) -> None:
    assert unescape(escape(name)) == name
    assert "/" not in escape(name)


@pytest.mark.parametrize(
    ("tree", "paths"),
    [
        (1, [""]),
        ({"a": {"b": 1}, "c": [2, (3,)]}, ["a/b", "c/0", "c/1/0"]),
        ({"a/b": 1, "~": 2, "": 3}, ["a~1b", "~0", ""]),
        ({0: 1, "0": 2}, ["0", "0~str"]),
        ({"a": {}, "b": None}, ["a", "b"]),
        (Object("T", (1,), [2], {"k": 3}, {"s": 4}), ["~(0)", "0", "k", "~.s"]),
        ({"x": Object("T")}, ["x"]),
        ({Object("T", ("a",)): 1, Object("T", (Object("U"), 2)): 2}, ["T('a')", "T(U, 2)"]),
        ({Object("T"): 1, Object("T"): 2, Object("T"): 3}, ["T", "T~Object", "T~Object~2"]),
    ],
)
def test_it_spells_paths(tree: Any, paths: list[str]) -> None:
    assert [path for path, _ in walk(tree)] == paths


def test_it_unescapes_names_for_people() -> None:
    assert plain_name("model/a~1b/~0") == "model/a/b/~"


def test_it_walks_deep_trees_without_the_stack() -> None:
    tree: Any = 1
    for _ in range(5000):
        tree = [tree]
    assert len(next(walk(tree))[0]) == 2 * 5000 - 1


def test_it_assembles_a_like_container() -> None:
    node = Object("T", (1,), [2], {"k": 3}, 4)
    again = assemble(node, iter([part for _, part in children(node)]))
    assert (again.args, again.items, again.entries, again.state) == ((1,), [2], {"k": 3}, 4)
