from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import generated
from portackpt.dtypes import BY_NAME
from portackpt.ledger import Fate, Ledger, Side
from portackpt.spelling import spell
from portackpt.tensor import Tensor, from_array
from portackpt.tree import Object, children, walk
from portackpt.vocabulary import EVERY_DTYPE, Vocabulary

POOR = Vocabulary(
    dtypes=frozenset(
        ("float32", "int64", "float64", "bool", "uint8", "uint16", "uint32", "uint64")
    ),
    scalars=frozenset(),
    containers=frozenset((dict,)),
    empty=False,
    any_root=False,
)
RICH = Vocabulary(
    keys=frozenset((str, int, tuple, type(None), bool)),
    objects=lambda _: True,
    attributes=lambda _: True,
    shared=True,
)
MIDDLE = Vocabulary(containers=frozenset((dict, list)), large_integers=False)
vocabularies = st.sampled_from([POOR, RICH, MIDDLE])


def fits(tree: Any, words: Vocabulary) -> bool:
    if isinstance(tree, Tensor):
        return tree.dtype.name in words.dtypes
    if isinstance(tree, Object):
        return words.objects(tree) and all(fits(part, words) for _, part in children(tree))
    if isinstance(tree, (dict, list, tuple)):
        keys = all(type(key) in words.keys for key in tree) if isinstance(tree, dict) else True
        return (
            type(tree) in words.containers
            and keys
            and all(fits(part, words) for _, part in children(tree))
        )
    small = type(tree) is not int or words.large_integers or -(1 << 63) <= tree < 1 << 63
    return type(tree) in words.scalars and small


@given(generated.trees(), vocabularies)
def test_it_fits_and_accounts_for_every_leaf_once(tree: Any, words: Vocabulary) -> None:
    spelling = spell(tree, words)
    assert fits(spelling.tree, words)
    entries = Counter(entry.source for entry in spelling.entries)
    for path, _ in walk(tree):
        if path:  # the root and a root's key "" have the same path
            assert entries[path] == 1, path
    targets = {entry.target for entry in spelling.entries}
    for path, leaf in walk(spelling.tree):
        assert path in targets or leaf == {}


@given(generated.trees())
def test_it_changes_nothing_where_all_fits(tree: Any) -> None:
    spelling = spell(tree, RICH)
    assert [path for path, _ in walk(spelling.tree)] == [path for path, _ in walk(tree)]
    assert all(entry.fate is Fate.EXACT for entry in spelling.entries)


@given(generated.tensors())
def test_it_keeps_the_bits_of_a_dtype_that_the_target_lacks(tensor: Tensor) -> None:
    spelled = spell({"w": tensor}, POOR).tree["w"]
    assert b"".join(map(bytes, spelled.pieces())) == b"".join(map(bytes, tensor.pieces()))
    assert spelled.read().tobytes() == b"".join(map(bytes, tensor.pieces()))


@given(generated.tied())
def test_it_says_what_was_tied(tensors: list[Tensor]) -> None:
    apart = spell(dict(enumerate(tensors)), Vocabulary(keys=frozenset((int,)))).entries
    assert apart[0].fate is Fate.EXACT
    for entry, tensor in zip(apart[1:], tensors[1:], strict=True):
        if tensor is tensors[0]:
            assert entry.fate is Fate.RELAYOUT
            assert "shares storage with 0" in entry.detail
    together = Vocabulary(keys=frozenset((int,)), shared=True)
    assert all(e.fate is Fate.EXACT for e in spell(dict(enumerate(tensors)), together).entries)


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [(True, "bool", ()), (3, "int64", ()), (0.5, "float64", ()), ("hé", "uint8", (3,)),
     (b"x", "uint8", (1,)),
     (1 << 70, "uint8", (22,))],
)  # fmt: skip
def test_it_writes_plain_values_as_tensors(value: Any, dtype: str, shape: tuple[int, ...]) -> None:
    spelling = spell({"v": value}, POOR)
    assert (spelling.tree["v"].dtype.name, spelling.tree["v"].shape) == (dtype, shape)
    assert spelling.entries[0].fate is Fate.RELAYOUT


def test_it_drops_none_without_consequence() -> None:
    spelling = spell({"a": None, "b": {}, "c": 1.0}, POOR)
    assert list(spelling.tree) == ["c"]
    sides = (Side("a", "x", None), Side("b", "y", None))
    assert Ledger(*sides, spelling.entries).verdict is Fate.RELAYOUT
    assert [entry.fate for entry in spelling.entries[:2]] == [Fate.DROPPED, Fate.DROPPED]


def test_it_writes_an_unknown_object_as_its_plain_data() -> None:
    node = Object("my.Config", (), None, None, {"lr": 0.1, "name": "x"})
    spelling = spell({"config": node}, MIDDLE)
    assert spelling.tree == {"config": {"lr": 0.1, "name": "x"}}
    told = spelling.entries[0]
    assert (told.source, told.fate) == ("config", Fate.DROPPED)
    assert told.detail == "type my.Config written as the plain data it is made of"
    assert told.consequence == "a program that needs a Config must build it from that"
    assert [(e.source, e.target) for e in spelling.entries[1:]] == [
        ("config/~.lr", "config/lr"),
        ("config/~.name", "config/name"),
    ]


def test_it_keeps_the_kinds_of_parts_apart() -> None:
    node = Object("my.Table", (3,), [1], {"k": 2}, 5)
    assert spell(node, MIDDLE).tree == {
        "args": [3],
        "items": [1],
        "entries": {"k": 2},
        "state": [5],
    }


def test_it_keeps_the_contents_of_a_container_of_a_special_type() -> None:
    weight = from_array(np.zeros(2))
    modules = Object("collections.OrderedDict", entries={"": {"version": 1}})
    tree = {
        "model": Object(
            "collections.OrderedDict", entries={"w": weight}, state={"_metadata": modules}
        ),
        "counts": Object("collections.defaultdict", (Object("builtins.int"),), entries={"a": 1}),
        "empty": Object("collections.OrderedDict", entries={}, state={"_metadata": {}}),
    }
    spelling = spell(tree, Vocabulary(containers=frozenset((dict, list))))
    assert spelling.tree == {"model": {"w": weight}, "counts": {"a": 1}, "empty": {}}
    dropped = [entry.source for entry in spelling.entries if entry.fate is Fate.DROPPED]
    assert dropped == ["model/~._metadata//version", "counts/~(0)", "empty/~._metadata"]
    assert {entry.weight for entry in spelling.entries} == {Fate.EXACT, Fate.RELAYOUT}


def test_it_strips_attributes_and_says_what_they_meant() -> None:
    tensor = from_array(np.zeros(2, "f4"), {"requires_grad": True, "device": "cuda:0"})
    spelling = spell({"w": tensor}, MIDDLE)
    assert spelling.tree["w"].attributes == {}
    assert spelling.entries[0].consequence == "the target program says which parameters are trained"


def test_it_spells_the_same_tensor_once() -> None:
    tensor = from_array(np.zeros(2, "f4"), {"device": "cuda:0"})
    spelled = spell([tensor, tensor], Vocabulary(shared=True)).tree
    assert spelled[0] is spelled[1]


def test_it_spells_each_part_of_the_root_in_its_own_vocabulary() -> None:
    whole = Vocabulary(
        containers=frozenset((dict,)),
        parts=lambda key, part: {"poor": POOR, "rich": RICH}.get(key),
    )
    spelling = spell({"poor": {"a": (1,)}, "rich": {"a": (1,)}, "other": {"a": (1,)}}, whole)
    assert spelling.tree["rich"] == {"a": (1,)}
    assert spelling.tree["other"] == {"a": {"0": 1}}
    assert isinstance(spelling.tree["poor"]["a"]["0"], Tensor)


def test_it_knows_every_dtype() -> None:
    assert frozenset(BY_NAME) == EVERY_DTYPE
