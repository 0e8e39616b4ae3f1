"""Every numbered requirement of the spec has a vector, or a test that is named here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conformance.vectors import SPEC, vectors

from portackpt.dtypes import STRING, TABLE
from portackpt.store.shard import spelled

TEXT = (SPEC / "format.md").read_text()
REQUIREMENTS = re.findall(r"^\*\*([A-Z]-\d+)\*\*", TEXT, re.MULTILINE)
TESTS = Path(__file__).parents[1]
STORE = "portackpt/store/"

# what no vector can show
ELSEWHERE = {
    "D-5": STORE + "test_reference.py::test_it_opens_regular_files_only",
    "C-1": STORE + "test_commit.py::test_it_writes_the_manifest_last",
    "C-2": STORE + "test_commit.py::test_it_syncs_everything_before_it_reports_success",
    "C-3": STORE + "test_commit.py::test_it_replaces_a_checkpoint_in_one_step",
    "C-4": STORE + "test_commit.py::test_it_leaves_nothing_behind_when_it_fails",
    "C-5": STORE + "test_store.py::test_it_writes_the_same_bytes_for_the_same_input",
    "L-1": STORE + "test_limits.py::test_it_refuses_a_manifest_beyond_the_limit",
    "L-6": STORE + "test_limits.py::test_it_refuses_a_state_file_beyond_the_limit",
    "X-1": "conformance/test_trust.py::test_it_executes_nothing_and_opens_nothing_else",
    "X-2": "conformance/test_trust.py::test_it_takes_no_memory_for_claimed_lengths",
}
# rules for writers to object stores, of which there is none here yet
NO_WRITER = {"O-1", "O-2", "O-3"}


def test_the_requirements_are_numbered_once() -> None:
    assert len(REQUIREMENTS) == len(set(REQUIREMENTS)) > 60


def test_every_requirement_has_a_vector_or_a_test() -> None:
    shown = {code for vector in vectors("valid") for code in vector.expected["requirements"]}
    shown |= {code for vector in vectors("invalid") for code in vector.expected["faults"]}
    assert shown <= set(REQUIREMENTS)
    assert set(REQUIREMENTS) - shown - NO_WRITER <= set(ELSEWHERE)


@pytest.mark.parametrize("place", ELSEWHERE.values())
def test_the_named_tests_exist(place: str) -> None:
    file, _, name = place.partition("::")
    assert f"def {name}(" in (TESTS / file).read_text()


def test_the_corpus_is_rich() -> None:
    assert len(vectors("valid")) >= 100
    assert len(vectors("invalid")) >= 190


def test_the_table_of_dtypes_is_that_of_the_library() -> None:
    text = (SPEC / "registries.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| `(\w+)`", text, re.MULTILINE)
    assert rows == [
        (dtype.name, str(dtype.itemsize), "U8" if dtype is STRING else spelled(dtype, (1,), 0)[0])
        for dtype in TABLE
    ]
