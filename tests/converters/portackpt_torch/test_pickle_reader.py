"""Pickles as data: everything Python's own pickle writes, nothing that it would run."""

from __future__ import annotations

import pickle
import struct
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portackpt.errors import DamagedError, InputError, RefusedError
from portackpt_torch import opcodes
from portackpt_torch.pickle_reader import read_pickle
from portackpt_torch.pickled import Call, Global, Persistent

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 200), 1 << 200)
    | st.floats(allow_nan=False)
    | st.text(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers() | st.tuples(st.integers()), inner,
                          max_size=4)
    ),
    max_leaves=20,
)  # fmt: skip


@given(plain, st.integers(0, 5))
@settings(max_examples=200)
def test_it_reads_plain_data_of_every_protocol(value: Any, protocol: int) -> None:
    assert read_pickle(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("size", [0, 1, 255, 256, 70_000])
def test_it_reads_bytes(size: int, protocol: int) -> None:
    assert read_pickle(pickle.dumps(b"\xfe" * size, protocol)) == b"\xfe" * size


def test_it_keeps_shared_parts_shared() -> None:
    part = [1]
    read = read_pickle(pickle.dumps([part, part, {"a": part}]))
    assert read[0] is read[1] is read[2]["a"]


def test_it_describes_calls_instead_of_making_them() -> None:
    value = OrderedDict([("a", 1)])
    value.extra = "x"  # type: ignore[attr-defined]
    call = read_pickle(pickle.dumps(value, 2))
    assert (call.function, call.args) == (Global("collections", "OrderedDict"), ())
    assert (call.entries, call.state) == ({"a": 1}, {"extra": "x"})


def test_it_never_imports_or_calls_what_a_pickle_names() -> None:
    read = read_pickle(b"\x80\x02cthis_module_is_not_there\nrun\nX\x01\x00\x00\x00a\x85R.")
    assert read.function.dotted == "this_module_is_not_there.run"
    assert "this_module_is_not_there" not in sys.modules


@pytest.mark.parametrize("protocol", [2, 4])
def test_it_describes_sets_and_byte_arrays(protocol: int) -> None:
    made, frozen, array = read_pickle(
        pickle.dumps([{1}, frozenset([2]), bytearray(b"3")], protocol)
    )
    assert made.function == Global("builtins", "set") and (made.items or made.args[0]) == [1]
    assert frozen.function == Global("builtins", "frozenset") and list(frozen.args[0]) == [2]
    assert array.function == Global("builtins", "bytearray")


def test_it_translates_names_of_python_2() -> None:
    assert read_pickle(b"c__builtin__\nxrange\n.") == Global("builtins", "range")
    assert read_pickle(b"ccopy_reg\n_reconstructor\n.") == Global("copyreg", "_reconstructor")


def test_it_takes_text_of_python_2_for_text_or_bytes() -> None:
    assert read_pickle(b"U\x02ab.") == "ab"
    assert read_pickle(b"U\x02\xff\xfe.") == b"\xff\xfe"
    assert read_pickle(b"S'a\\n\\x41'\n.") == "a\nA"


def test_it_takes_operands_of_names_from_the_stack() -> None:
    data = b"\x80\x04\x8c\x06systemq\x00\x8c\x02osq\x01h\x01h\x00\x93."
    with pytest.raises(DamagedError, match="one value"):
        read_pickle(data)
    assert read_pickle(b"\x80\x04S'os'\n\x8c\x06system\x93.") == Global("os", "system")


def test_it_asks_what_stands_for_a_persistent_id() -> None:
    data = b"\x80\x02X\x01\x00\x00\x00aQ."
    assert isinstance(read_pickle(data), Persistent)
    assert read_pickle(data, lambda pid: [pid]) == ["a"]


def test_it_keeps_keywords_of_newobj_ex() -> None:
    call = read_pickle(b"\x80\x04ca\nB\n)}X\x01\x00\x00\x00kK\x01s\x92.")
    assert isinstance(call, Call) and call.new and call.keywords == {"k": 1}


U4 = struct.Struct("<I").pack
DAMAGED = {
    "empty": b"",
    "only a protocol": b"\x80\x02",
    "no stop": b"\x80\x02K\x01",
    "text longer than the pickle": b"X" + U4(1 << 31) + b"abc",
    "bytes longer than the pickle": b"\x8e" + struct.pack("<Q", 1 << 60) + b"abc",
    "negative length": b"\x8b" + struct.pack("<i", -5) + b"abc.",
    "frame longer than the pickle": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",
    "memo entry that is not there": b"j" + U4(0xFFFFFFFF) + b".",
    "tuple without a mark": b"K\x01t.",
    "items without a mark": b"]e.",
    "pop of nothing": b"0.",
    "append to nothing": b"K\x01a.",
    "append to a tuple": b")K\x01a.",
    "append to text": b"X\x01\x00\x00\x00aK\x01a.",
    "entry in a list": b"]K\x01K\x02s.",
    "key without a value": b"}(K\x01u.",
    "key that is a list": b"}]K\x01s.",
    "key that holds a list": b"}]\x85K\x01s.",
    "call of a number": b"K\x01)R.",
    "call with a list": b"ca\nb\n]R.",
    "call of what a persistent id names": b"K\x01Q)R.",
    "state for a list": b"]K\x01b.",
    "state twice": b"ca\nb\n)RK\x01bK\x02b.",
    "two values": b"K\x01K\x02.",
    "an open mark": b"(K\x01.",
    "something behind it": b"K\x01.K\x02.",
    "unknown opcode": b"\xff.",
    "name without its line": b"cos",
    "bad number": b"Iabc\n.",
    "bad text": b"Sabc\n.",
    "text that is no UTF-8": b"X\x01\x00\x00\x00\xff.",
    "name that is a number": b"\x80\x04K\x01K\x02\x93.",
    "keywords that are no dict": b"ca\nb\n)]\x92.",
}
REFUSED = {
    "duplicate": b"K\x012\x86.",
    "inst": b"(ios\nsystem\n.",
    "obj": b"(cos\nsystem\no.",
    "textual persistent id": b"Pabc\n.",
    "extension": b"\x82\x01.",
    "buffer out of band": b"\x80\x05\x97.",
    "protocol": b"\x80\x06N.",
    "integer of 256 bytes": b"\x8b" + struct.pack("<i", 256) + b"\1" * 256 + b".",
    "a key of many parts": b"}(" + b"N" * 1001 + b"tNs.",
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_it_says_where_a_pickle_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedError, match="pickle"):
        read_pickle(data)


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_it_refuses_what_no_checkpoint_needs(data: bytes) -> None:
    with pytest.raises(RefusedError, match="pickle byte"):
        read_pickle(data)


def test_helpful_errors() -> None:
    with pytest.raises(InputError) as told:
        read_pickle(b"\x80\x02K\x01K\x02e.")
    assert str(told.value) == (
        "malformed pickle: an operand or a mark is missing on the stack, at pickle byte 7"
    )


def test_it_is_not_slowed_by_keys_that_collide() -> None:
    modulus = (1 << 61) - 1
    keys = {modulus * n: None for n in range(1, 2000)}
    assert len(read_pickle(pickle.dumps(keys))) == 1999
    many = b"}(" + b"".join(
        b"\x8a\x0a" + (modulus * n).to_bytes(10, "little") + b"N" for n in range(1, 20_000)
    ) + b"u."  # fmt: skip
    with pytest.raises(RefusedError, match="unusual dictionary keys"):
        read_pickle(many)


def test_it_does_not_hash_a_tuple_of_tuples_far_down() -> None:
    bomb = b"}N" + b"".join(b"q%c0h%ch%c\x86" % (n, n, n) for n in range(1, 60)) + b"Ns."
    with pytest.raises(RefusedError, match="key of more than"):
        read_pickle(bomb)


def test_it_reads_very_deep_pickles_without_recursion() -> None:
    read_pickle(b"N" + b"\x85" * 1_000_000 + b".")
    read_pickle(b"]" * 500_000 + b"a" * 499_999 + b".")


def test_it_stops_at_a_number_of_opcodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portackpt_torch.pickle_reader.MAX_OPERATIONS", 100)
    with pytest.raises(RefusedError, match="more than 100 opcodes"):
        read_pickle(b"N0" * 100 + b"N.")


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_it_ends_in_data_or_in_an_error_of_ours(data: bytes) -> None:
    start = time.perf_counter()
    with suppress(InputError):
        read_pickle(b"\x80\x04" + data)
    assert time.perf_counter() - start < 5


@given(st.data())
@settings(max_examples=150)
def test_it_survives_changed_bytes(data: st.DataObject) -> None:
    good = bytearray(pickle.dumps({"a": [1, (2.5, "x")], "b": OrderedDict(c={1, 2})}, 4))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with suppress(InputError):
        read_pickle(bytes(good))


def test_every_opcode_of_python_is_known_or_refused_by_name() -> None:
    import pickletools

    from portackpt_torch import pickle_reader

    loop = {value for name, value in vars(pickle_reader).items() if name.isupper()
            and isinstance(value, int) and value < 256}  # fmt: skip
    known = loop | opcodes.AFTER_MARK.keys() | opcodes.OTHERS.keys() | opcodes.REFUSED.keys()
    assert {ord(op.code) for op in pickletools.opcodes} - known - {ord("P")} == set()
