"""Mappings applied: what every leaf becomes, and what is said where one has no place."""

import numpy as np
import pytest

from portackpt.errors import AmbiguousError, UsageError
from portackpt.layouts.kinds import Kind
from portackpt.matching import Mapping, Resolution
from portackpt.matching.files import parse
from portackpt.tensor import from_array

Shapes = dict[str, tuple[int, ...]]


def mapping(lines: str, source: str = "torch", target: str = "flax") -> Mapping:
    return parse(f'source = "{source}"\ntarget = "{target}"\n{lines}')


def told(resolution: Resolution) -> dict[str, str]:
    """What is done to the bytes, by source and target leaves."""
    return {f"{', '.join(a.sources)} -> {', '.join(a.targets)}": a.detail
            for a in resolution.assignments}  # fmt: skip


def linear(name: str, out: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (out, inputs), f"{name}.bias": (out,)}


def test_it_maps_layers_by_their_kind() -> None:
    rules = mapping('[layers]\n"h.{i}.fc" = { to = "params/h_{i}/fc", kind = "linear" }')
    found = rules.resolve({**linear("h.0.fc", 3, 4), **linear("h.1.fc", 5, 4)})
    assert told(found) == {
        "h.0.fc.weight -> params/h_0/fc/kernel": "out in -> in out",
        "h.0.fc.bias -> params/h_0/fc/bias": "",
        "h.1.fc.weight -> params/h_1/fc/kernel": "out in -> in out",
        "h.1.fc.bias -> params/h_1/fc/bias": "",
    }


def test_it_puts_statistics_into_their_collection() -> None:
    rules = mapping('[layers]\nbn = { to = "params/BatchNorm_0", kind = "batch_norm" }')
    shapes = {f"bn.{name}": (3,) for name in ("weight", "bias", "running_mean", "running_var")}
    found = rules.resolve({**shapes, "bn.num_batches_tracked": ()})
    assert found.targets == (
        "params/BatchNorm_0/scale", "params/BatchNorm_0/bias", "batch_stats/BatchNorm_0/mean",
        "batch_stats/BatchNorm_0/var",
    )  # fmt: skip
    assert [name for name, _ in found.dropped] == ["bn.num_batches_tracked"]
    variance = found.assignments[-1]
    assert [note.approximate for note in variance.notes] == [True]
    assert [kind for kind, _ in found.layers] == [Kind.BATCH_NORM]
    back = rules.inverse().resolve(dict.fromkeys(found.targets, (3,)))
    assert back.targets == (*shapes, "bn.num_batches_tracked")
    assert back.zeros == ("bn.num_batches_tracked",)


def test_it_maps_leaves_by_kind_axes_or_as_they_are() -> None:
    rules = mapping(
        '[leaves]\n"qkv.weight" = { to = "qkv", kind = "linear" }\n'
        '"w" = { to = "v", axes = "(a b) c -> c a b", a = 2 }\n'
        '"cls" = { to = "cls", kind = "plain" }\n'
        '"gain" = "scale"'
    )
    shapes = {"qkv.weight": (6, 2), "w": (6, 4), "cls": (1, 1, 8), "gain": (8,)}
    found = rules.resolve(shapes)
    assert told(found) == {
        "qkv.weight -> qkv": "out in -> in out",
        "w -> v": "(a b) c -> c a b",
        "cls -> cls": "",
        "gain -> scale": "",
    }
    array = np.arange(24.0).reshape(6, 4)
    (moved,) = found.assignments[1].apply([from_array(array)])
    assert np.array_equal(moved.read(), array.reshape(2, 3, 4).transpose(2, 0, 1))


def test_it_regroups_the_leaves_of_an_lstm() -> None:
    rules = mapping(
        '[layers]\n"rnn.*_l{i}" = { to = "lstm_{i}/cell", kind = "lstm" }', target="keras"
    )
    shapes = {
        f"rnn.{name}_l0": shape
        for name, shape in {"weight_ih": (20, 3), "weight_hh": (20, 5), "bias_ih": (20,),
                            "bias_hh": (20,)}.items()
    }  # fmt: skip
    found = rules.resolve(shapes)
    assert [a.sources for a in found.assignments][-1] == ("rnn.bias_ih_l0", "rnn.bias_hh_l0")
    assert {n.learning_rate for n in found.assignments[-1].notes} == {2.0}
    assert found.targets == (
        "lstm_0/cell/kernel", "lstm_0/cell/recurrent_kernel", "lstm_0/cell/bias",
    )  # fmt: skip


def test_it_finds_what_is_before_a_name_in_the_template() -> None:
    rules = mapping('[layers]\n"**.h.{i}" = { to = "**/h/{i}", kind = "layer_norm" }')
    source = {"transformer.h.0.weight": (3,)}
    assert rules.resolve(source).targets == ("transformer/h/0/scale",)
    found = rules.resolve(source, {"model/net/h/0/scale": (3,)})
    assert found.targets == ("model/net/h/0/scale",)


def test_it_asks_where_several_places_end_alike() -> None:
    rules = mapping('[layers]\n"**.h.{i}" = { to = "**/h/{i}", kind = "layer_norm" }')
    template = {"a/h/0/scale": (3,), "b/h/0/scale": (3,)}
    with pytest.raises(AmbiguousError) as caught:
        rules.resolve({"h.0.weight": (3,)}, template)
    assert str(caught.value) == (
        "'**/h/{i}/*' fits a/h/0/scale, b/h/0/scale; write the beginning of the name in the "
        "mapping file and pass that with --map, at the rule '**.h.{i}' = '**/h/{i}'"
    )


TIED = (
    '[layers]\nwte = { to = "wte", kind = "embedding" }\n'
    'lm_head = { to = "lm_head", kind = "linear", tied = "wte.weight" }'
)
TIES: Shapes = {"wte.weight": (7, 3), "lm_head.weight": (7, 3)}


def test_it_ties_a_head_that_the_template_does_not_have() -> None:
    found = mapping(TIED).resolve(TIES, {"wte/embedding": (7, 3)})
    assert found.tied_sources == (("lm_head.weight", "wte.weight"),)
    assert found.targets == ("wte/embedding",)


def test_it_copies_a_tied_head_where_the_template_has_both() -> None:
    found = mapping(TIED).resolve(TIES, {"wte/embedding": (7, 3), "lm_head/kernel": (3, 7)})
    assert not found.tied_sources
    assert found.targets == ("wte/embedding", "lm_head/kernel")


def test_it_ties_without_a_template_what_is_one_tensor() -> None:
    found = mapping(TIED).resolve(TIES, None, {"lm_head.weight": "wte.weight"})
    assert found.tied_sources == (("lm_head.weight", "wte.weight"),)


def test_it_ties_on_the_way_back() -> None:
    found = mapping(TIED).inverse().resolve({"wte/embedding": (7, 3)}, TIES)
    assert found.tied_targets == (("lm_head.weight", "wte.weight"),)
    assert sorted(found.targets) == sorted(TIES)


def test_it_ties_what_no_rule_maps_but_is_another_names_tensor() -> None:
    rules = mapping('[layers]\nwte = { to = "wte", kind = "embedding" }')
    found = rules.resolve(TIES, None, {"lm_head.weight": "wte.weight"})
    assert found.tied_sources == (("lm_head.weight", "wte.weight"),)


def test_it_keeps_what_only_the_template_has() -> None:
    rules = mapping('[only_source]\nold = "gone"\n[only_target]\n"new/{i}" = "fresh"')
    found = rules.resolve({"old": (2,)}, {"new/0": (3,)})
    assert found.dropped == (("old", "gone"),)
    assert found.kept == (("new/0", "fresh"),)


def test_it_renames_within_a_framework_without_turning() -> None:
    rules = mapping('[leaves]\n"a.{x**}" = "b.{x**}"', target="torch")
    found = rules.resolve({"a.0.weight": (4, 4)}, {"b.0.weight": (4, 4)})
    assert told(found) == {"a.0.weight -> b.0.weight": ""}


def test_it_lists_every_leaf_that_is_not_mapped_or_filled() -> None:
    rules = mapping('[layers]\nfc = { to = "fc", kind = "linear" }')
    source = {**linear("fc", 2, 3), "x": (1,), "y": (1,)}
    template = {"fc/kernel": (3, 2), "fc/bias": (2,), "z": (1,)}
    with pytest.raises(UsageError) as caught:
        rules.resolve(source, template)
    assert str(caught.value) == (
        "no rule maps the source's leaves x, y; no rule fills the target's leaf z"
    )


def test_it_lists_every_leaf_that_is_mapped_twice() -> None:
    rules = mapping('[leaves]\n"{a*}" = "{a*}"\n"x" = "y"')
    with pytest.raises(UsageError) as caught:
        rules.resolve({"x": (1,), "y": (1,)})
    assert "x is mapped twice: by '{a*}' and 'x'" in str(caught.value)


def test_it_lists_every_leaf_that_is_filled_twice() -> None:
    rules = mapping('[leaves]\n"x" = "z"\n"y" = "z"')
    with pytest.raises(UsageError) as caught:
        rules.resolve({"x": (1,), "y": (1,)})
    assert str(caught.value) == "z is filled twice: by 'x' = 'z' and 'y' = 'z'"


@pytest.mark.parametrize(
    ("lines", "source", "template", "message"),
    [
        (
            '[layers]\nfc = { to = "fc", kind = "linear" }', linear("fc", 2, 3),
            {"fc/kernel": (2, 3), "fc/bias": (2,)},
            "fc.weight, fc.bias: kernel: 2×3 does not fit the axes 'in out': 2 is not in = 3",
        ),
        (
            '[layers]\nfc = { to = "fc", kind = "linear" }', linear("fc", 2, 3),
            {"fc/kernel": (3, 2)},
            "fc.bias: the target's linear has no place for it",
        ),
        (
            '[layers]\nfc = { to = "dense", kind = "linear" }', linear("fc", 2, 3), {},
            "fc.weight: the target has no 'dense'; fc.bias: the target has no 'dense'",
        ),
        (
            '[leaves]\n"w" = { to = "w", kind = "plain" }', {"w": (2, 3)}, {"w": (3, 2)},
            "w: is 2×3, and the template has 3×2",
        ),
        (
            '[leaves]\n"q.weight" = { to = "w", kind = "linear" }', {"q.weight": (2, 3)},
            {"w": (2, 3)},
            "q.weight: becomes 3×2, and the template has 2×3",
        ),
        (
            '[leaves]\n"q.w" = { to = "w", kind = "linear" }', {"q.w": (2, 3)}, {"w": (3, 2)},
            "q.w: q.w is no leaf of linear in torch: those are weight, bias; "
            "give its line axes instead",
        ),
        (
            '[leaves]\n"a.in_proj_weight" = { to = "w", kind = "multihead_attention", head = 1 }',
            {"a.in_proj_weight": (6, 2)}, {"w": (3, 2)},
            "a.in_proj_weight: in_proj_weight of multihead_attention is not one leaf in flax: "
            "map the layer instead",
        ),
        (
            '[only_source]\n"x" = { tied = "y" }', {"x": (2,)}, {},
            "it is tied to 'y', which is not there, at the rule 'x'",
        ),
    ],
)  # fmt: skip
def test_it_says_what_does_not_fit(
    lines: str, source: Shapes, template: Shapes, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        mapping(lines).resolve(source, template)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "template", "message"),
    [
        (
            (4, 4), (4, 4),
            "w of 4×4 has an unknown layer kind: a square matrix may be (out, in) in one framework "
            "and (in, out) in the other; give its line a kind or axes in the mapping file and pass "
            "that with --map, at the rule 'w' = 'v'",
        ),
        (
            (3, 3, 2, 5), (3, 3, 2, 5),
            "w of 3×3×2×5 has an unknown layer kind: several orders of its axes have this shape; "
            "give its line a kind or axes in the mapping file and pass that with --map, "
            "at the rule 'w' = 'v'",
        ),
        (
            (2, 3, 5), (5, 3, 2),
            "w of 2×3×5 has an unknown layer kind, and the template has 5×3×2; give its line a "
            "kind or axes in the mapping file and pass that with --map, at the rule 'w' = 'v'",
        ),
        (
            (2, 3), None,
            "w of 2×3 has an unknown layer kind, and frameworks lay kinds out differently; give "
            "its line a kind or axes in the mapping file and pass that with --map, "
            "at the rule 'w' = 'v'",
        ),
    ],
)  # fmt: skip
def test_it_does_not_toss_a_coin(
    shape: tuple[int, ...], template: tuple[int, ...] | None, message: str
) -> None:
    rules = mapping('[leaves]\n"w" = "v"')
    with pytest.raises(AmbiguousError) as caught:
        rules.resolve({"w": shape}, None if template is None else {"v": template})
    assert str(caught.value) == message


def test_it_assumes_only_what_the_shape_leaves() -> None:
    rules = mapping('[leaves]\n"{x*}" = "{x*}"')
    source = {"a": (2, 3), "b": (2, 3), "c": (1, 5, 8)}
    found = rules.resolve(source, {"a": (3, 2), "b": (2, 3), "c": (1, 5, 8)})
    assert found.assumptions == (
        ("a", "transposed: the template's shape admits nothing else"),
        ("b", "not turned: the template's shape admits nothing else"),
        ("c", "not turned: the template's shape admits nothing else"),
    )
    assert told(found)["a -> a"] == "rows columns -> columns rows"


def test_it_says_which_rule_needs_a_size() -> None:
    rules = mapping('[layers]\nattn = { to = "attn", kind = "multihead_attention" }')
    with pytest.raises(
        AmbiguousError, match=r"add head = N, dim = N .*, at the rule 'attn' = 'attn'"
    ):
        rules.resolve({"attn.in_proj_weight": (6, 2)})


def test_it_stays_linear_in_the_number_of_leaves() -> None:
    rules = mapping('[layers]\n"**.h.{i}.fc{j}" = { to = "**/h/{i}/fc{j}", kind = "linear" }')
    source = {
        k: v for i in range(5000) for j in (0, 1) for k, v in linear(f"h.{i}.fc{j}", 2, 3).items()
    }
    template = {f"net/h/{i}/fc{j}/{leaf}": shape for i in range(5000) for j in (0, 1)
                for leaf, shape in (("kernel", (3, 2)), ("bias", (2,)))}  # fmt: skip
    assert len(rules.resolve(source, template).assignments) == 20_000
