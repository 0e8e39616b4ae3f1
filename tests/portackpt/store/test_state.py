"""State files: what a tree looks like as MessagePack, and what is refused."""

from __future__ import annotations

import math
import struct
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings

from generated import scalars, trees
from portackpt.bytesource import InMemory
from portackpt.dtypes import BY_NAME
from portackpt.errors import DamagedError, InputError, RefusedError, WriteError
from portackpt.store.index import index, named_tensors
from portackpt.store.state import pack, unpack
from portackpt.tensor import Tensor, contiguous
from portackpt.tree import MAX_DEPTH, Object

TENSOR = contiguous(BY_NAME["uint8"], (2,), InMemory(b"ab"), attributes={"requires_grad": True})


def same(a: Any, b: Any) -> bool:
    """Equal with types, order, identity of tensors and the bits of floats."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a is b
    if isinstance(a, Object):
        return (
            a.type == b.type
            and same(a.args, b.args)
            and same(a.items, b.items)
            and same(a.entries, b.entries)
            and same(a.state, b.state)
        )
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    return bool(a == b)


def round_trip(tree: Any) -> Any:
    found = index(named_tensors(("", tree)))
    by_number = {number: tensor for number, (_, tensor) in enumerate(named_tensors(("", tree)))}
    return unpack(pack(tree, found.numbers), lambda number, attributes: by_number[number])


@pytest.mark.parametrize(
    ("node", "plain"),
    [
        (None, None),
        (True, True),
        (-(1 << 63), -(1 << 63)),
        ((1 << 64) - 1, (1 << 64) - 1),
        (1 << 64, ["int", "18446744073709551616"]),
        (2.5, 2.5),
        (1 + 2j, ["complex", 1.0, 2.0]),
        ("größe", "größe"),
        ("\ud800a", ["str", b"\xed\xa0\x80a"]),
        (b"\x00", b"\x00"),
        ([1], ["list", 1]),
        ((), ["tuple"]),
        ({"a": 1, 2: None}, ["dict", "a", 1, 2, None]),
        (TENSOR, ["tensor", 0, "requires_grad", True]),
        ([TENSOR, TENSOR], ["list", ["tensor", 0, "requires_grad", True], ["tensor", 0]]),
        (Object("torch.float32"), ["object", "torch.float32", ["tuple"], None, None, None]),
        (
            Object("a.B", (1,), [2], {"k": 3}, {"s": 4}),
            ["object", "a.B", ["tuple", 1], ["list", 2], ["dict", "k", 3], ["dict", "s", 4]],
        ),
    ],
)
def test_it_spells_every_kind_of_node_for_any_reader(node: Any, plain: Any) -> None:
    numbers = {id(TENSOR): 0}
    assert msgpack.unpackb(pack(node, numbers), strict_map_key=False) == plain
    assert same(unpack(pack(node, numbers), lambda number, attributes: TENSOR), node)


@settings(max_examples=100, deadline=None)
@given(trees())
def test_it_gives_back_every_tree(tree: Any) -> None:
    assert same(round_trip(tree), tree)


@settings(max_examples=100, deadline=None)
@given(scalars)
def test_it_gives_back_every_scalar_as_a_key(key: Any) -> None:
    assert same(round_trip({(key, 1): {key: key}}), {(key, 1): {key: key}})


def test_it_keeps_the_bits_of_a_nan() -> None:
    nan = struct.unpack("<d", struct.pack("<Q", 0x7FF4_0000_DEAD_BEEF))[0]
    assert math.isnan(nan)
    assert same(round_trip([nan]), [nan])


def test_it_reads_what_another_writer_spells_wider() -> None:
    data = b"\xdd\x00\x00\x00\x03\xa4list\xd3\x00\x00\x00\x00\x00\x00\x00\x05\xdb\x00\x00\x00\x01x"
    assert unpack(data, lambda number, attributes: TENSOR) == [5, "x"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "ends early, at offset 0"),
        (b"\x92\xa4list", "ends early, at offset 6"),
        (b"\x91\xa4list\x00", "expected nothing after the tree, found 1 bytes, at offset 6"),
        (b"\xdd\xff\xff\xff\xff", "found 4294967295, at offset 0"),
        (b"\xc6\xff\xff\xff\xff", "found 4294967295, at offset 0"),
        (b"\x90", "expected the tag of an array, found the end"),
        (b"\x91\x01", "expected the tag of an array, found byte 0x01"),
        (b"\x91\xa3set", "expected the tag of an array"),
        (b"\xca\x00\x00\x00\x00", "found a 32-bit float, at offset 0"),
        (b"\x80", "found a map, at offset 0"),
        (b"\xd4\x01\x00", "found an extension type, at offset 0"),
        (b"\xc1", "found an unused code, at offset 0"),
        (b"\xa1\xff", "expected UTF-8 text, found byte 0xff, at offset 1"),
        (b"\x92\xa4dict\x01", "a key without a value"),
        (msgpack.packb(["dict", 1, 2, 1.0, 3]), "a key stands twice"),
        (msgpack.packb(["dict", ["list"], 2]), "a key that is no plain value"),
        (msgpack.packb(["dict", ["tensor", 0], 2]), "a key that is no plain value"),
        (msgpack.packb(["int", "5"]), "it fits into 64 bits"),
        (msgpack.packb(["int", "0" * 30 + "5"]), "not in decimal digits"),
        (msgpack.packb(["int", "9" * 5000]), "too many digits"),
        (msgpack.packb(["int", "x"]), "not a valid 'int' array"),
        (msgpack.packb(["complex", 1, 2]), "its parts are no floats"),
        (msgpack.packb(["str", b"abc"]), "it holds no lone surrogate"),
        (msgpack.packb(["str", b"\xff"]), "not a valid 'str' array"),
        (msgpack.packb(["tensor"]), "its number is missing"),
        (b"\x92\xa6tensor\x92\xa4list\x01", "an array"),
        (msgpack.packb(["tensor", 0, 1, 2]), "an attribute's name is no text"),
        (msgpack.packb(["list", ["tensor", 0], ["tensor", 0, "a", 1]]), "with attributes"),
        (msgpack.packb(["object", "x"]), "not a valid 'object' array"),
        (msgpack.packb(["object", 1, ["tuple"], None, None, None]), "its type is no text"),
        (msgpack.packb(["object", "x", ["list"], None, None, None]), "arguments are no tuple"),
        (msgpack.packb(["object", "x", ["tuple"], 1, None, None]), "its items are no list"),
        (msgpack.packb(["object", "x", ["tuple"], None, 1, None]), "its entries are no dict"),
    ],
)
def test_it_refuses_what_is_no_tree(data: bytes, told: str) -> None:
    with pytest.raises(DamagedError, match="(?s).*" + told.replace("(", "\\(")):
        unpack(data, lambda number, attributes: TENSOR)


def test_it_refuses_trees_deeper_than_the_limit() -> None:
    deep: Any = 0
    for _ in range(MAX_DEPTH):
        deep = Object("x", items=[deep])
    data = pack(deep, {})
    unpack(data, lambda number, attributes: TENSOR)
    with pytest.raises(WriteError, match="nested deeper than 256"):
        pack([deep], {})
    with pytest.raises(RefusedError, match="nested deeper than 256 levels, at offset"):
        unpack(b"\x92\xa4list" + data, lambda number, attributes: TENSOR)


def test_it_refuses_a_million_open_arrays() -> None:
    with pytest.raises(RefusedError):
        unpack(b"\x92\xa4list" * 1_000_000, lambda number, attributes: TENSOR)


def test_it_refuses_keys_that_were_chosen_to_collide() -> None:
    keys = [((1 << 61) - 1) * (n + 9) for n in range(100_000)]
    data = msgpack.packb(["dict", *(p for key in keys for p in (["int", str(key)], 0))])
    with pytest.raises(DamagedError, match="keys that were chosen to collide"):
        unpack(data, lambda number, attributes: TENSOR)


def test_it_refuses_what_is_no_part_of_a_tree() -> None:
    with pytest.raises(WriteError, match="a set is no part of a tree"):
        pack({"a": {1}}, {})
    with pytest.raises(WriteError, match="more than 4300 digits"):
        pack(1 << 20_000, {})


def test_it_ends_in_data_or_an_error_for_every_cut_and_flip() -> None:
    data = pack({"a": [1, (2.5, "x", b"y"), {3: None}], "b": Object("q", state={"s": 1j})}, {})
    for at in range(len(data)):
        with pytest.raises(InputError):
            unpack(data[:at], lambda number, attributes: TENSOR)
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            with suppress(InputError):
                unpack(bytes(flipped), lambda number, attributes: TENSOR)
