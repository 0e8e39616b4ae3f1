"""Names: keys of bundles, paths of trees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portackpt_tensorflow.naming import nest_names, nest_objects, object_key, object_path

V = "/.ATTRIBUTES/VARIABLE_VALUE"
KEYS = [
    (f"model/kernel{V}", ("model", "kernel")),
    (V, ("",)),
    (f"a//b/{V}", ("a", "", "b", "")),
    (f"layers..0..weight{V}", ("layers.0.weight",)),
    (f"a.Sb/..S{V}", ("a/b", ".S")),
    (f"größe/名前{V}", ("größe", "名前")),
    ("layer/.ATTRIBUTES/OBJECT_CONFIG_JSON", ("layer", ".ATTRIBUTES", "OBJECT_CONFIG_JSON")),
    ("table/.ATTRIBUTES/a.Sb", ("table", ".ATTRIBUTES", "a/b")),
    (f"m/k/.OPTIMIZER_SLOT/opt/v{V}", ("opt", ".OPTIMIZER_SLOT", "v", "m", "k")),
    (f"k/.OPTIMIZER_SLOT/a/b..c/v.S1{V}", ("a", "b.c", ".OPTIMIZER_SLOT", "v/1", "k")),
    (f"k/.OPTIMIZER_SLOT//v{V}", (".OPTIMIZER_SLOT", "v", "k")),
]


@pytest.mark.parametrize(("key", "path"), KEYS)
def test_it_finds_the_path_of_a_key_and_the_key_of_a_path(key: str, path: tuple[str, ...]) -> None:
    assert object_path(key) == path
    assert object_key(path) == key


@pytest.mark.parametrize(
    "key",
    [
        "plain/name",
        f"a.b{V}",
        f"a/.S.{V}",
        "a/.ATTRIBUTES/b/c",
        f"a/.ATTRIBUTES/b{V}",
        f"a/..ATTRIBUTES/b{V}",
        f"a/.OPTIMIZER_SLOT{V}",
        f"a/.OPTIMIZER_SLOT/b/.OPTIMIZER_SLOT/c/d{V}",
    ],
)
def test_it_leaves_other_keys_whole(key: str) -> None:
    assert object_path(key) is None
    assert nest_objects({key: 1, f"ok{V}": 2}) == ({"ok": 2, key: 1}, [key])


names = st.one_of(
    st.sampled_from([".ATTRIBUTES", "VARIABLE_VALUE", ".OPTIMIZER_SLOT", "", ".", "/", ".S", "a"]),
    st.text(max_size=3),
)
paths = st.lists(names, min_size=1, max_size=6).map(tuple)


@given(st.lists(paths, max_size=8))
def test_it_gives_back_every_key(found: list[tuple[str, ...]]) -> None:
    keys = {object_key(path): number for number, path in enumerate(found)}
    tree, whole = nest_objects(keys)
    assert _flat(tree, (), set(whole)) == keys


def _flat(node: object, path: tuple[str, ...], whole: set[str]) -> dict[str, object]:
    if not isinstance(node, dict):
        return {path[0] if len(path) == 1 and path[0] in whole else object_key(path): node}
    return {
        k: v for name, part in node.items() for k, v in _flat(part, (*path, name), whole).items()
    }


def test_it_puts_a_variable_beside_its_parts() -> None:
    leaves = {f"v{V}": 1, f"v/part{V}": 2, "v/.ATTRIBUTES/NOTE": 3, f"w/part{V}": 4, f"w{V}": 5}
    assert nest_objects(leaves) == (
        {
            "v": {".ATTRIBUTES": {"VARIABLE_VALUE": 1, "NOTE": 3}, "part": 2},
            "w": {"part": 4, ".ATTRIBUTES": {"VARIABLE_VALUE": 5}},
        },
        [],
    )


def test_it_stays_flat_where_two_keys_would_meet() -> None:
    leaves = {f"a{V}": 1, "a": 2}
    assert nest_objects(leaves) == (leaves, list(leaves))
    deep = {"a/" * 300 + V: 1}
    assert nest_objects(deep) == (deep, list(deep))


def test_it_nests_plain_names_where_none_begins_another() -> None:
    assert nest_names({"a/b": 1, "a/c": 2, "d": 3, "e/": 4}) == {
        "a": {"b": 1, "c": 2},
        "d": 3,
        "e": {"": 4},
    }
    for leaves in ({"a": 1, "a/b": 2}, {"a/b": 1, "a": 2}, {"a/" * 300: 1}):
        assert nest_names(leaves) == leaves
