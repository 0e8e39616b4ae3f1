"""Trees from what pickles describe: known shapes, opaque objects, bounds."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import functools
import pathlib
import pickle
import time
from typing import Any

import numpy as np
import pytest

from portackpt.errors import DamagedError, RefusedError
from portackpt.tensor import Tensor
from portackpt.tree import MAX_DEPTH, Object, walk
from portackpt_torch.legacy import LegacyStorages
from portackpt_torch.pickle_reader import read_pickle
from portackpt_torch.reading import KNOWN
from portackpt_torch.storages import persistent
from portackpt_torch.values import CYCLE, Builder


def tree(data: bytes) -> Any:
    builder = Builder(KNOWN, LegacyStorages({}), len(data))
    return builder.tree(read_pickle(data, persistent))


def round_trip(value: Any, protocol: int = 2) -> Any:
    return tree(pickle.dumps(value, protocol))


def parts(node: Object) -> tuple[Any, ...]:
    return node.type, node.args, node.items, node.entries, node.state


class Colour(enum.Enum):
    RED = "r"


class Plain:
    def __init__(self) -> None:
        self.a = 1


class Mapping(dict[str, int]):
    pass


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_it_knows_pythons_own_types(protocol: int) -> None:
    value = [{1}, frozenset(), bytearray(b"x"), b"\xff", b"", 1 + 2j, float("inf"), range(3)]
    if protocol < 2:
        value[7] = None
    made, frozen, array, *rest = round_trip(value, protocol)
    assert parts(made) == ("builtins.set", (), [1], None, None)
    assert parts(frozen) == ("builtins.frozenset", (), [], None, None)
    assert parts(array) == ("builtins.bytearray", (b"x",), None, None, None)
    assert rest[:4] == [b"\xff", b"", 1 + 2j, float("inf")]
    if protocol >= 2:
        assert parts(rest[4]) == ("builtins.range", (0, 3, 1), None, None, None)


def test_it_knows_the_dictionaries_of_collections() -> None:
    ordered = collections.OrderedDict([("a", 1), (2, "b")])
    ordered.note = "x"  # type: ignore[attr-defined]
    node = round_trip(ordered)
    assert parts(node) == ("collections.OrderedDict", (), None, {"a": 1, 2: "b"}, {"note": "x"})
    node = round_trip(collections.Counter("aab"))
    assert parts(node) == ("collections.Counter", (), None, {"a": 2, "b": 1}, None)
    node = round_trip(collections.defaultdict(list, {"a": [1]}))
    assert parts(node)[0] == "collections.defaultdict" and node.entries == {"a": [1]}
    assert parts(node.args[0]) == ("builtins.list", (), None, None, None)
    node = round_trip(collections.deque([1, 2], maxlen=3))
    assert (node.type, node.args, node.items) == ("collections.deque", ((), 3), [1, 2])


def test_it_spells_an_ordered_dict_of_python_2_the_same() -> None:
    data = b"ccollections\nOrderedDict\n((lp0\n(lp1\nS'a'\naI1\naatR."
    assert tree(data).entries == {"a": 1}


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_it_carries_the_plain_data_of_unknown_objects(protocol: int) -> None:
    name = f"{__name__}.Plain"
    assert parts(round_trip(Plain(), protocol)) == (name, (), None, None, {"a": 1})
    node = round_trip(Mapping(a=1), protocol)
    assert node.type == f"{__name__}.Mapping"


def test_it_carries_well_known_objects_of_the_standard_library() -> None:
    node = round_trip(argparse.Namespace(lr=0.1, betas=(0.9, 0.99)))
    assert parts(node) == ("argparse.Namespace", (), None, None, {"lr": 0.1, "betas": (0.9, 0.99)})
    assert round_trip(pathlib.PurePosixPath("/a/b")).args == ("/", "a", "b")
    assert round_trip(datetime.datetime(2024, 1, 2)).type == "datetime.datetime"
    node = round_trip(functools.partial(print, 1, end=""))
    assert node.type == "functools.partial"


def test_it_names_a_member_of_an_enum() -> None:
    assert round_trip(Colour.RED).args == ("r",)
    data = b"\x80\x02c__builtin__\ngetattr\ncmy.place\nKind\nX\x03\x00\x00\x00ONE\x86R."
    assert parts(tree(data)) == ("my.place.Kind.ONE", (), None, None, None)


def test_it_keeps_what_is_called_without_a_name() -> None:
    data = b"\x80\x02ca\nb\n)RK\x01\x85R."
    node = tree(data)
    assert node.type == "portackpt.call" and node.args[0].type == "a.b" and node.args[1] == 1


def test_exploits_are_data() -> None:
    data = b"\x80\x02cposix\nsystem\nX\x07\x00\x00\x00echo hi\x85R."
    assert parts(tree(data)) == ("posix.system", ("echo hi",), None, None, None)


@pytest.mark.parametrize("name", ["zip", "utf-8", "hex"])
def test_it_refuses_other_codecs(name: str) -> None:
    data = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX" + bytes([len(name)]) + b"\0\0\0"
    with pytest.raises(RefusedError, match="latin1"):
        tree(data + name.encode() + b"\x86R.")


def test_it_reads_arrays_of_numbers() -> None:
    values = {
        "c": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype="i2").reshape(2, 3)),
        "big": np.arange(3, dtype=">c8"),
        "empty": np.zeros((0, 2), "u8"),
        "flag": np.array(True),
    }
    for protocol in (2, 4, 5):
        for name, node in round_trip(values, protocol).items():
            assert isinstance(node, Tensor) and node.attributes["numpy.class"] == "numpy.ndarray"
            assert np.array_equal(node.read(), values[name]) and node.shape == values[name].shape
    scalar = round_trip(np.float32(1.5))
    assert scalar.attributes["numpy.class"] == "numpy.scalar" and scalar.read()[()] == 1.5


@pytest.mark.parametrize(
    "value",
    [
        np.array([{}, "a"], dtype=object),
        np.array(["abc"]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.zeros(2, [("a", "f4")]),
        np.str_("abc"),
    ],
    ids=["objects", "text", "dates", "records", "scalar text"],
)
def test_it_keeps_other_arrays_as_their_plain_data(value: Any) -> None:
    node = round_trip(value)
    assert isinstance(node, Object) and node.type.startswith("numpy.")


def test_it_refuses_an_array_whose_bytes_do_not_fit() -> None:
    data = pickle.dumps(np.arange(3, dtype="i4"), 2).replace(b"K\x03\x85", b"K\x04\x85")
    with pytest.raises(DamagedError, match="needs 16 bytes, found 12"):
        tree(data)


def test_it_cuts_cycles() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    node = round_trip(loop)
    assert node[0] == 1 and node[1].type == CYCLE
    thing = Plain()
    thing.a = thing  # type: ignore[assignment]
    assert round_trip(thing).state["a"].type == CYCLE


def test_it_keeps_shared_parts_as_one() -> None:
    array = np.arange(3)
    first, second = round_trip([array, array])
    assert first is second


def test_it_refuses_laughs_at_once() -> None:
    start = time.perf_counter()
    tripled = b"N" + b"".join(b"q%c0h%ch%ch%c\x87" % (n, n, n, n) for n in range(1, 100)) + b"."
    with pytest.raises(RefusedError, match="leaves"):
        tree(tripled)
    text = b"X" + (1000).to_bytes(4, "little") + b"a" * 1000 + b"q\x01"
    with pytest.raises(RefusedError, match="leaves"):
        tree(text + b"0](" + b"h\x01" * 300_000 + b"e.")
    assert time.perf_counter() - start < 5


def test_it_refuses_what_is_too_deep() -> None:
    fits = b"]" * (MAX_DEPTH - 1) + b"a" * (MAX_DEPTH - 2) + b"."
    assert len(list(walk(tree(fits)))) == 1
    with pytest.raises(RefusedError, match="deep"):
        tree(b"]" * 5000 + b"a" * 4999 + b".")
    with pytest.raises(RefusedError, match="deep"):
        tree(b"N" + b"\x85" * 1_000_000 + b".")


def test_it_takes_two_keys_that_become_equal_for_damage() -> None:
    key = b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00latin1\x86R"
    with pytest.raises(DamagedError, match="equal"):
        tree(b"\x80\x02}(" + key + b"N" + key + b"Nu.")
