"""Every vector of the spec, read by the library and judged by its expectation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from conformance.vectors import (
    SPEC,
    Vector,
    facts,
    numbers_in,
    read_everything,
    share,
    spelled,
    vectors,
)

from portackpt.errors import InputError, PortackptError
from portackpt.plugins import Probe
from portackpt.store import manifest as m
from portackpt.store.format import FORMAT
from portackpt.tensor import Tensor
from portackpt.validation import validate

VALID = vectors("valid")
INVALID = vectors("invalid")
SCHEMA = jsonschema.Draft202012Validator(json.loads((SPEC / "manifest.schema.json").read_text()))


def named(found: list[Vector]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", found, ids=[vector.name for vector in found])


@named(VALID)
def test_it_reads_what_a_valid_vector_holds(vector: Vector) -> None:
    expected = vector.expected
    opened = FORMAT.open(vector.path, step=expected.get("ask"))
    tensors: dict[int, Tensor] = {}
    assert spelled(opened.tree, tensors, numbers_in(expected["tree"])) == expected["tree"]
    for number, tensor in tensors.items():
        assert facts(tensor) == expected["tensors"][number]
    for first, *others in expected["shared"]:
        assert all(share(tensors[first], tensors[other]) for other in others)
    assert opened.step == expected.get("step")
    assert opened.framework == expected.get("framework")
    assert opened.framework_version == expected.get("framework_version")
    if "notes" in expected:
        assert list(opened.notes) == expected["notes"]
    own = opened.details["portackpt"]
    assert own["members"] == expected.get("kept", own["members"])
    if "details" in expected:
        details = {key: value for key, value in opened.details.items() if key != "portackpt"}
        assert spelled(details, {}, []) == expected["details"]


@named([vector for vector in VALID if not vector.name.startswith("a-newer-step")])
def test_it_finds_no_fault_in_a_valid_vector(vector: Vector) -> None:
    assert validate(vector.path) == ()
    assert FORMAT.recognize(Probe(vector.path))


@named(INVALID)
def test_it_says_what_is_wrong_with_an_invalid_vector(vector: Vector) -> None:
    expected = vector.expected
    found, ask = expected["found"], expected.get("ask")
    if found == "open":
        with pytest.raises(PortackptError) as raised:
            FORMAT.open(vector.path, step=ask)
    elif found == "read":
        opened = FORMAT.open(vector.path, step=ask)
        with pytest.raises(InputError) as raised:
            read_everything(opened.tree)
    else:
        read_everything(FORMAT.open(vector.path).tree)
        return
    assert expected["message"] in str(raised.value)


@named(INVALID)
def test_it_finds_all_faults_of_an_invalid_vector(vector: Vector) -> None:
    assert [fault.code for fault in validate(vector.path)] == vector.expected["faults"]


def manifests(found: list[Vector]) -> list[Path]:
    return [path for vector in found for path in vector.path.rglob("manifest.json")]


def test_the_schema_holds_for_every_valid_vector() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA.schema)
    for path in manifests([v for v in VALID if "newer" not in v.name and "roots" not in v.name]):
        if path.stat().st_size:
            SCHEMA.validate(json.loads(path.read_bytes()))


# to JSON Schema, 5.0 is an integer
@named([v for v in INVALID if v.expected["faults"] == ["M-8"] and v.name[-5:] != "float"])
def test_the_schema_refuses_what_breaks_the_table_of_members(vector: Vector) -> None:
    document = json.loads((vector.path / m.NAME).read_bytes())
    assert not SCHEMA.is_valid(document)


def test_the_vectors_are_what_their_script_makes() -> None:
    command = [sys.executable, str(SPEC / "make_vectors.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0
