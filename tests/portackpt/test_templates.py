from typing import Any

import numpy as np
import pytest
from hypothesis import given

import generated
from portackpt.errors import UsageError
from portackpt.ledger import Fate
from portackpt.templates import pour
from portackpt.tensor import from_array
from portackpt.tree import plain_name, walk


def array(*values: float, dtype: str = "f4") -> Any:
    return from_array(np.array(values, dtype))


@given(generated.trees(generated.tensors()))
def test_it_gives_back_what_is_poured_into_itself(tree: Any) -> None:
    names = [plain_name(path) for path, _ in walk(tree)]
    if len(set(names)) < len(names):
        return
    poured = pour(tree, tree)
    assert all(entry.fate is Fate.EXACT for entry in poured.entries)
    assert [path for path, _ in walk(poured.tree)] == [path for path, _ in walk(tree)]


def test_it_takes_names_and_containers_from_the_template() -> None:
    source = {"a": {"0": array(1, 2), "1": 5}, "b/c": array(3), "extra": 1}
    template = {"a": (array(0, 0), 0), "b": {"c": array(0)}, "new": array(7)}
    poured = pour(source, template)
    assert isinstance(poured.tree["a"], tuple)
    assert poured.tree["a"][0].read().tolist() == [1, 2]
    assert poured.tree["a"][1] == 5
    assert poured.tree["b"]["c"].read().tolist() == [3]
    assert poured.tree["new"].read().tolist() == [7]
    fates = {(entry.source, entry.target): entry.fate for entry in poured.entries}
    assert fates == {
        ("a/0", "a/0"): Fate.EXACT,
        ("a/1", "a/1"): Fate.EXACT,
        ("b~1c", "b/c"): Fate.EXACT,
        (None, "new"): Fate.CREATED,
        ("extra", None): Fate.DROPPED,
    }


@pytest.mark.parametrize(
    ("source", "template", "fate", "held"),
    [
        (array(1.5), array(0, dtype="f8"), Fate.RELAYOUT, [1.5]),
        (array(1.5, dtype="f8"), array(0), Fate.APPROXIMATE, [1.5]),
        (3, from_array(np.array(0)), Fate.EXACT, 3),
        (3.0, from_array(np.array(0, "f4")), Fate.APPROXIMATE, 3.0),
    ],
)
def test_it_takes_dtypes_from_the_template(
    source: Any, template: Any, fate: Fate, held: Any
) -> None:
    poured = pour({"x": source}, {"x": template})
    assert poured.entries[0].fate is fate
    assert poured.tree["x"].dtype is template.dtype
    assert poured.tree["x"].read().tolist() == held


def test_it_writes_a_tensor_as_the_number_that_the_template_has() -> None:
    poured = pour({"step": from_array(np.array(7, "f4"))}, {"step": 0})
    assert poured.tree == {"step": 7}


@pytest.mark.parametrize(
    ("source", "template", "message"),
    [
        ({"x": array(1, 2)}, {"x": array(1)},
         r"expected shape \[1\], as the template has it, found \[2\] in the source; .*, at x"),
        ({"x": "text"}, {"x": array(1)},
         r"expected a float32 tensor of shape \[1\], as the template has it, found a str"),
        ({"x": 1}, {"y": 1}, r"no leaf of the template has the name .*: 'y' there and 'x' here"),
    ],
)  # fmt: skip
def test_it_says_what_does_not_fit(source: Any, template: Any, message: str) -> None:
    if "first names" in message or "no leaf" in message:
        message = r"the first names are 'y' there and 'x' here"
    with pytest.raises(UsageError, match=message):
        pour(source, template)
