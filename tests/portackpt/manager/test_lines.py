"""Sealed lines: what was torn or changed is told apart."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portackpt.manager.lines import seal, unseal

PLAIN = st.dictionaries(
    st.text(max_size=5),
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    min_size=1,
)


@settings(max_examples=50, deadline=None)
@given(PLAIN.filter(lambda members: "xxh3" not in members))
def test_it_gives_back_what_was_sealed(members: dict[str, object]) -> None:
    line = seal(members)
    assert line.endswith(b'"}\n')
    assert line.count(b"\n") == 1
    assert unseal(line) == members


def test_it_spells_a_line() -> None:
    assert seal({"event": "saved"}) == b'{"event":"saved","xxh3":"d34cd5096ab1f536"}\n'


def test_it_finds_every_flipped_bit() -> None:
    line = seal({"event": "saved", "step": 10})
    for place in range(len(line) - 1):
        for bit in range(8):
            changed = bytearray(line)
            changed[place] ^= 1 << bit
            assert unseal(bytes(changed)) is None


@pytest.mark.parametrize("size", [0, 1, 10, 30, -2])
def test_it_finds_a_torn_line(size: int) -> None:
    assert unseal(seal({"event": "saved", "step": 10})[:size]) is None


def test_it_finds_zeros() -> None:
    assert unseal(bytes(4096)) is None
