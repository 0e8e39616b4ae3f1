"""Conjugation and negation that torch puts off, carried out for those who do not know of it."""

from __future__ import annotations

import numpy as np
import pytest

from portackpt.box import Box
from portackpt.bytesource import InMemory
from portackpt.deferred import carried_out
from portackpt.dtypes import BY_NAME
from portackpt.ledger import Fate
from portackpt.spelling import spell
from portackpt.tensor import Tensor, contiguous, from_array
from portackpt.vocabulary import Vocabulary

VALUES = np.array([[1 + 2j, -3 - 4j], [0j, complex(0, np.inf)]])


def pending(values: np.ndarray, **attributes: bool) -> Tensor:  # type: ignore[type-arg]
    return from_array(values, attributes)


@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_it_conjugates_and_negates(dtype: str) -> None:
    values = VALUES.astype(dtype)
    assert np.array_equal(carried_out(pending(values, conj=True), {}).read(), values.conj())
    assert np.array_equal(carried_out(pending(values, neg=True), {}).read(), -values)
    both = carried_out(pending(values, conj=True, neg=True), {})
    assert np.array_equal(both.read(), -values.conj())
    assert np.array_equal(both.read(Box((1, 0), (1, 2))), -values.conj()[1:])
    assert b"".join(bytes(piece) for piece in both.pieces()) == (-values.conj()).tobytes()


def test_it_turns_the_signs_of_half_precision_complex_numbers() -> None:
    halves = np.array([1.5, -2.0, 3.0, 4.0], "f2")
    tensor = contiguous(BY_NAME["complex32"], (2,), InMemory(halves.tobytes()), 0, {"conj": True})
    found = carried_out(tensor, {}).read().view("f2")
    assert found.tolist() == [1.5, 2.0, 3.0, -4.0]


def test_it_leaves_what_is_known_as_it_is() -> None:
    tensor = pending(VALUES, conj=True)
    assert carried_out(tensor, {"conj": True}).layout is tensor.layout


def test_a_format_that_does_not_know_it_gets_the_values() -> None:
    tensor = pending(VALUES, conj=True)
    spelled = spell({"a": tensor}, Vocabulary())
    assert np.array_equal(spelled.tree["a"].read(), VALUES.conj())
    assert spelled.entries[0].fate is Fate.RELAYOUT
    assert "put off" in spelled.entries[0].detail
    kept = spell({"a": tensor}, Vocabulary(attributes=lambda name: True))
    assert kept.tree["a"] is tensor and kept.entries[0].fate is Fate.EXACT
