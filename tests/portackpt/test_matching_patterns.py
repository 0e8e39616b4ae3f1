import pytest

from portackpt.errors import UsageError
from portackpt.layouts.dialects import Dialect
from portackpt.matching.names import folding
from portackpt.matching.patterns import Pattern, skeleton
from portackpt.matching.recognition import recognize


@pytest.mark.parametrize(
    ("pattern", "name", "captured"),
    [
        ("h.{i}.attn", "h.12.attn", {"i": "12"}),
        ("h.{i}.attn", "h.x.attn", None),
        ("h.{i}.attn", "hx12.attn", None),
        ("{block*}.w", "enc.w", {"block": "enc"}),
        ("{block*}.w", "enc.0.w", None),
        ("{path**}.w", "enc.0.w", {"path": "enc.0"}),
        ("a{i}b{j}", "a1b2", {"i": "1", "j": "2"}),
        ("**.h.{i}", "h.3", {"prefix": "", "i": "3"}),
        ("**.h.{i}", "model.x.h.3", {"prefix": "model.x.", "i": "3"}),
        ("**.h.{i}", "modelh.3", None),
        ("a+b(c)", "a+b(c)", {}),
    ],
)
def test_it_matches(pattern: str, name: str, captured: dict[str, str] | None) -> None:
    found = Pattern(pattern, ".").regex().fullmatch(name)
    assert (None if found is None else found.groupdict()) == captured


@pytest.mark.parametrize(
    ("pattern", "name", "stem"),
    [
        ("fc", "fc.weight", "weight"),
        ("rnn.*_l{i}", "rnn.weight_ih_l1", "weight_ih"),
        ("x/*/value", "x/query/kernel/value", "query/kernel"),
        ("", "weight", "weight"),
    ],
)
def test_it_finds_the_leaf_of_a_layer(pattern: str, name: str, stem: str) -> None:
    layer = Pattern(pattern, "/" if "/" in pattern else ".").layer()
    found = layer.regex(["weight", "weight_ih", "kernel", "query/kernel"]).fullmatch(name)
    assert found is not None
    assert found["stem"] == stem
    captured = {k: v for k, v in found.groupdict().items() if k != "stem"}
    assert layer.fill(captured, stem) == name


def test_it_fills_what_it_captured() -> None:
    assert Pattern("**/h_{i}/{name*}", "/").fill({"i": "3", "name": "attn"}) == "h_3/attn"


def test_it_refuses_a_capture_that_comes_twice() -> None:
    with pytest.raises(UsageError, match=r"a capture comes twice in '\{i\}.\{i\}'"):
        _ = Pattern("{i}.{i}", ".").captures


def test_it_refuses_braces_that_capture_nothing() -> None:
    with pytest.raises(UsageError, match=r"cannot read the pattern 'a.\{1\}'"):
        _ = Pattern("a.{1}", ".").captures


def test_it_sees_names_that_count_alike() -> None:
    assert skeleton("h.12.fc1") == skeleton("h.0.fc2") == "h.0.fc0"


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        (
            ["params/a/scale", "batch_stats/a/mean"],
            ["params/a/scale", "params/a/batch_stats:mean"],
        ),
        (["a/scale", "batch_stats/a/mean"], ["a/scale", "a/batch_stats:mean"]),
        (
            ["model/params/a/scale", "model/batch_stats/a/mean"],
            ["model/params/a/scale", "model/params/a/batch_stats:mean"],
        ),
    ],
)
def test_it_folds_collections_and_unfolds_them(names: list[str], folded: list[str]) -> None:
    found = folding(Dialect.FLAX, names)
    assert [found.fold(name) for name in names] == folded
    assert [found.unfold(name) for name in folded] == names


def test_it_folds_in_linen_only() -> None:
    assert folding(Dialect.NNX, []).fold("batch_stats/mean") == "batch_stats/mean"


@pytest.mark.parametrize(
    ("framework", "names", "dialect"),
    [
        ("pytorch", ["odd"], Dialect.TORCH),
        ("jax", ["params/Dense_0/kernel"], Dialect.FLAX),
        ("jax", ["bn/scale", "bn/mean"], Dialect.NNX),
        ("jax", ["layers/0/kernel/value"], Dialect.NNX),
        ("jax", ["cell/dense_i/kernel"], Dialect.NNX),
        ("tensorflow", ["layers/dense/vars/0"], Dialect.KERAS_H5),
        ("tensorflow", ["model/_operations/1/_kernel"], Dialect.KERAS_OBJECTS),
        ("tensorflow", ["x/1/_kernel", "x/2/gamma", "x/2/beta"], Dialect.KERAS_OBJECTS),
        ("tensorflow", ["dense/kernel", "norm/gamma"], Dialect.KERAS),
        ("tensorflow", ["odd"], Dialect.KERAS),
        (None, ["a.weight", "a.bias"], Dialect.TORCH),
        (None, ["params/a/kernel"], Dialect.FLAX),
        (None, ["odd"], None),
    ],
)
def test_it_recognizes_whose_names_these_are(
    framework: str | None, names: list[str], dialect: Dialect | None
) -> None:
    assert recognize(framework, names) is dialect
