"""Proposals: layers paired by kind, shape, name and order, with how sure that is."""

import json
from pathlib import Path

import pytest

from portackpt.errors import AmbiguousError
from portackpt.layouts.dialects import Dialect
from portackpt.layouts.kinds import Kind
from portackpt.matching import Mapping, Resolution, packs
from portackpt.matching.files import parse, spell
from portackpt.matching.proposal import propose
from portackpt.matching.similarity import similarity
from portackpt.matching.survey import survey

Shapes = dict[str, tuple[int, ...]]
DATA = Path(__file__).parents[1] / "data/packs"
TORCH, FLAX, KERAS = Dialect.TORCH, Dialect.FLAX, Dialect.KERAS


def linear(name: str, out: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (out, inputs), f"{name}.bias": (out,)}


def conv(name: str, out: int, inputs: int, size: int = 3) -> Shapes:
    return {f"{name}.weight": (out, inputs, size, size), f"{name}.bias": (out,)}


def batch_norm(name: str, channels: int) -> Shapes:
    leaves = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{leaf}": (channels,) for leaf in leaves}, f"{name}.num_batches_tracked": ()}


def dense(name: str, inputs: int, out: int) -> Shapes:
    return {f"{name}/bias": (out,), f"{name}/kernel": (inputs, out)}


def lines(mapping: Mapping) -> list[str]:
    """Source, target and kind of every rule."""
    return [
        f"{rule.source} = {rule.target} {rule.kind or '?'}"
        + "".join(f" {k}={list(v) if isinstance(v, tuple) else v}" for k, v in rule.options.items())
        for rule in mapping.rules
    ]


def evidence(mapping: Mapping) -> dict[str, str]:
    return {rule.source or "": rule.evidence for rule in mapping.rules}


CNN: Shapes = {
    **conv("conv1", 8, 3), **batch_norm("bn1", 8), **conv("conv2", 8, 8), **batch_norm("bn2", 8),
    "up.weight": (8, 8, 2, 2), "up.bias": (8,), **linear("fc1", 32, 128), **linear("fc2", 10, 32),
}  # fmt: skip


def linen_cnn() -> Shapes:
    found: Shapes = {}
    for name, kernel in {"Conv_0": (3, 3, 3, 8), "Conv_1": (3, 3, 8, 8),
                         "ConvTranspose_0": (2, 2, 8, 8)}.items():  # fmt: skip
        found |= {f"params/{name}/kernel": kernel, f"params/{name}/bias": (8,)}
    for n in (0, 1):
        found |= {f"params/BatchNorm_{n}/{leaf}": (8,) for leaf in ("scale", "bias")}
        found |= {f"batch_stats/BatchNorm_{n}/{leaf}": (8,) for leaf in ("mean", "var")}
    found |= {**dense("params/Dense_0", 128, 32), **dense("params/Dense_1", 32, 10)}
    return dict(sorted(found.items()))


def test_it_proposes_for_a_network_of_ones_own() -> None:
    found = propose(CNN, linen_cnn(), TORCH, FLAX)
    assert lines(found) == [
        "conv1 = params/Conv_0 conv2d",
        "bn1 = params/BatchNorm_0 batch_norm",
        "conv2 = params/Conv_1 conv2d",
        "bn2 = params/BatchNorm_1 batch_norm",
        "up = params/ConvTranspose_0 conv_transpose",
        "fc1 = params/Dense_0 flatten_linear shape=[8, 4, 4]",
        "fc2 = params/Dense_1 linear",
    ]
    assert [rule.source for rule in found.doubts] == ["fc1"]
    assert evidence(found)["fc1"].endswith("after a convolution: check the shape of its maps")
    assert not found.remarks
    resolution = found.resolve(CNN, linen_cnn())
    assert sorted(resolution.targets) == sorted(linen_cnn())


def test_it_proposes_for_a_weights_file_of_keras() -> None:
    there: Shapes = {}
    for name, kernel in {"conv2d": (3, 3, 3, 8), "conv2d_1": (3, 3, 8, 8),
                         "conv2d_transpose": (2, 2, 8, 8), "dense": (128, 32),
                         "dense_1": (32, 10)}.items():  # fmt: skip
        there |= {f"layers/{name}/vars/0": kernel, f"layers/{name}/vars/1": (kernel[-1],)}
    for name in ("batch_normalization", "batch_normalization_1"):
        there |= {f"layers/{name}/vars/{i}": (8,) for i in range(4)}
    found = propose(CNN, dict(sorted(there.items())), TORCH, Dialect.KERAS_H5)
    assert "bn2 = layers/batch_normalization_1 batch_norm" in lines(found)
    assert "up = layers/conv2d_transpose conv_transpose" in lines(found)
    assert sorted(found.resolve(CNN, there).targets) == sorted(there)


def test_it_sees_attention_recurrence_ties_and_leaves_of_their_own() -> None:
    source: Shapes = {"emb.weight": (100, 16), "pos": (1, 32, 16)}
    there: Shapes = {"params/Embed_0/embedding": (100, 16), "params/pos_embedding": (1, 32, 16)}
    for i in range(12):
        block = f"params/Block_{i}"
        attention = f"{block}/MultiHeadDotProductAttention_0"
        torch = f"blocks.{i}"
        source |= {f"{torch}.attn.in_proj_weight": (48, 16), f"{torch}.attn.in_proj_bias": (48,),
                   f"{torch}.attn.out_proj.weight": (16, 16), f"{torch}.attn.out_proj.bias": (16,),
                   f"{torch}.ln1.weight": (16,), f"{torch}.ln1.bias": (16,),
                   f"{torch}.ln2.weight": (16,), f"{torch}.ln2.bias": (16,),
                   **linear(f"{torch}.fc1", 64, 16), **linear(f"{torch}.fc2", 16, 64)}  # fmt: skip
        for name in ("query", "key", "value"):
            there |= {f"{attention}/{name}/kernel": (16, 4, 4), f"{attention}/{name}/bias": (4, 4)}
        there |= {f"{attention}/out/kernel": (4, 4, 16), f"{attention}/out/bias": (16,)}
        for n in (0, 1):
            there |= {f"{block}/LayerNorm_{n}/{leaf}": (16,) for leaf in ("scale", "bias")}
        there |= {**dense(f"{block}/Dense_0", 16, 64), **dense(f"{block}/Dense_1", 64, 16)}
    source["head.weight"] = (100, 16)
    found = propose(source, dict(sorted(there.items())), TORCH, FLAX, {"head.weight": "emb.weight"})
    assert (
        lines(found)
        == [
            "emb = params/Embed_0 embedding",
            "blocks.{i}.attn = params/Block_{i}/MultiHeadDotProductAttention_0 multihead_attention",
            "blocks.{i}.ln1 = params/Block_{i}/LayerNorm_0 layer_norm",
            "blocks.{i}.ln2 = params/Block_{i}/LayerNorm_1 layer_norm",
            "blocks.{i}.fc1 = params/Block_{i}/Dense_0 linear",
            "blocks.{i}.fc2 = params/Block_{i}/Dense_1 linear",
            "pos = params/pos_embedding plain",
            "head.weight = None ?",
        ]
        or lines(found)[1] == "pos = params/pos_embedding plain"
    )
    resolution = found.resolve(source, there)
    assert sorted(resolution.targets) == sorted(there)
    assert resolution.tied_sources == (("head.weight", "emb.weight"),)


def test_it_sees_the_layers_of_a_recurrent_network() -> None:
    source: Shapes = {"embed.weight": (50, 8)}
    there: Shapes = {"model/_operations/1/_embeddings/.ATTRIBUTES/VARIABLE_VALUE": (50, 8)}
    for n in (0, 1):
        source |= {f"rnn.weight_ih_l{n}": (32, 8), f"rnn.weight_hh_l{n}": (32, 8),
                   f"rnn.bias_ih_l{n}": (32,), f"rnn.bias_hh_l{n}": (32,)}  # fmt: skip
        there |= {
            f"model/_operations/{n + 2}/cell/{leaf}/.ATTRIBUTES/VARIABLE_VALUE": shape
            for leaf, shape in (("kernel", (8, 32)), ("recurrent_kernel", (8, 32)), ("bias", (32,)))
        }
    found = propose(source, there, TORCH, Dialect.KERAS_OBJECTS)
    assert lines(found)[1] == (
        "rnn.*_l0 = model/_operations/2/cell/*/.ATTRIBUTES/VARIABLE_VALUE lstm"
    )
    assert sorted(found.resolve(source, there).targets) == sorted(there)


def test_it_sees_square_matrices_as_their_siblings() -> None:
    source = {"a.weight": (4, 12), "a.bias": (12,), "b.weight": (4, 4), "b.bias": (4,)}
    there = {**dense("params/a", 4, 12), **dense("params/b", 4, 4)}
    found = propose(source, there, TORCH, FLAX)
    assert {rule.kind for rule in found.rules} == {Kind.LINEAR_IN_OUT}
    assert "linear_in_out like the others" in evidence(found)["b"]


def test_it_does_not_know_the_layout_of_an_unknown_square() -> None:
    source, there = {"a.w": (4, 4), "b.w": (3, 5)}, {"x/w": (4, 4), "y/w": (5, 3)}
    found = propose(source, there, TORCH, FLAX)
    assert evidence(found) == {
        "a.w": "unknown layout: add its kind or axes",
        "b.w": "turned: nothing else has its shape",
    }
    assert len(found.doubts) == 2
    with pytest.raises(AmbiguousError, match="a square matrix may be"):
        found.resolve(source, there)


def test_it_is_unsure_of_what_only_order_tells() -> None:
    source = {**linear("red", 4, 4), **linear("blue", 4, 4)}
    there = {**dense("params/left", 4, 4), **dense("params/right", 4, 4)}
    found = propose(source, there, TORCH, FLAX)
    assert [rule.confidence for rule in found.rules] == [0.3, 0.3]
    assert set(evidence(found).values()) == {"others fit as well: by order"}


def test_it_names_what_it_found_nothing_for() -> None:
    source = {**linear("fc", 3, 4), "odd": (7, 2)}
    there = {**dense("params/fc", 4, 3), "params/new": (5,)}
    found = propose(source, there, TORCH, FLAX)
    assert found.remarks == (
        "nothing found for the source's odd (7×2)",
        "nothing found for the target's params/new (5)",
    )
    assert "# nothing found for the source's odd (7×2)\n" in spell(found)


def test_it_proposes_a_pack_where_one_fits() -> None:
    document = json.loads((DATA / "gpt2.json").read_text())
    source = {name: tuple(shape) for name, shape in document["torch"].items()}
    there = {name: tuple(leaf["shape"]) for name, leaf in document["flax"].items()}
    found = propose(source, there, TORCH, FLAX)
    assert {(rule.confidence, rule.evidence) for rule in found.rules} == {(1.0, "pack gpt2-flax")}


def rules_of(resolution: Resolution) -> dict[tuple[str, ...], tuple[tuple[str, ...], str]]:
    return {
        a.targets: (a.sources, a.detail.replace("1 out", "out")) for a in resolution.assignments
    }


FAMILIES = [
    (model, kind)
    for model in ("gpt2", "bert", "bert-classifier", "llama", "t5", "t5-gated", "vit", "resnet")
    for kind in ("flax", "tf")
    if (model, kind) != ("llama", "tf")
]


@pytest.mark.parametrize(("model", "kind"), FAMILIES)
def test_it_proposes_what_the_pack_says_without_knowing_the_pack(
    model: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.loads((DATA / f"{model}.json").read_text())
    source = {name: tuple(shape) for name, shape in document["torch"].items()}
    there = {name: tuple(leaf["shape"]) for name, leaf in document[kind].items()}
    dialect = FLAX if kind == "flax" else KERAS
    pack = packs.find(source, there, TORCH, dialect)
    assert pack is not None
    known = rules_of(pack[1].resolve(source, there, document["ties"]))
    monkeypatch.setattr(packs, "find", lambda *given: None)
    found = propose(source, there, TORCH, dialect, document["ties"])
    assert rules_of(found.resolve(source, there, document["ties"])) == known
    assert not found.remarks
    assert parse(spell(found)).resolve(source, there, document["ties"])
    back = propose(there, source, dialect, TORCH)
    assert back.resolve(there, {n: s for n, s in source.items() if n not in document["ties"]})


@pytest.mark.parametrize(
    ("leaves", "kind"),
    [
        ({"w.weight": (12, 3), "w.bias": (12,)}, Kind.LINEAR),
        ({"e.weight": (12, 3)}, Kind.LINEAR),
        ({"n.weight": (3,), "n.bias": (3,)}, Kind.LAYER_NORM),
        ({"n.weight": (3,)}, Kind.RMS_NORM),
        (batch_norm("n", 3), Kind.BATCH_NORM),
        ({"r.weight_ih": (12, 2), "r.weight_hh": (12, 3)}, Kind.LSTM),
        ({"r.weight_ih": (12, 2), "r.weight_hh": (12, 4)}, Kind.GRU),
        ({"a.in_proj_weight": (12, 4), "a.out_proj.weight": (4, 4)}, Kind.MULTIHEAD_ATTENTION),
        ({"c.weight_g": (4, 1), "c.weight_v": (4, 3)}, Kind.WEIGHT_NORM),
        ({"c.weight": (4, 2, 3)}, Kind.CONV1D),
        ({"x.odd": (2, 3)}, Kind.PLAIN),
    ],
)
def test_it_sees_a_layer_by_its_leaves(leaves: Shapes, kind: Kind) -> None:
    (found,) = survey(TORCH, leaves)
    assert found.kinds[0] is kind
    assert sorted(found.names) == sorted(leaves)


def test_it_knows_how_layers_are_called() -> None:
    assert similarity("h.0.attn.c_attn", "layers_0/self_attention/c_attn") > 0.8
    assert similarity("h.0.ln_1", "layers_0/LayerNorm_0") > 0.8
    assert similarity("fc", "conv") == 0.0
