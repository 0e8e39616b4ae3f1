from typing import Any

import layers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portackpt.errors import AmbiguousError, UsageError
from portackpt.layouts.dialects import Dialect, spellings
from portackpt.layouts.kinds import CANONICAL, Kind
from portackpt.layouts.translation import leaf_names, translate
from portackpt.tensor import from_array

PAIRS = [(a, b) for a in Dialect for b in Dialect]
CASES = [pytest.param(*case, id=f"{case[0]}-{len(next(iter(case[1].values())))}d")
         for case in layers.TORCH]  # fmt: skip


def shapes_in(
    dialect: Dialect, kind: Kind, shapes: layers.Shapes, options: dict[str, Any]
) -> layers.Shapes:
    """The leaves of a layer as `dialect` writes it."""
    found = translate(kind, Dialect.TORCH, dialect, shapes, None, options)
    return {
        name: shape
        for move in found.moves
        for name, shape in zip(move.targets, move.regroup.shapes(), strict=True)
    }


@pytest.mark.parametrize(("source", "target"), PAIRS)
@settings(max_examples=30)
@given(case=st.sampled_from(layers.TORCH), seed=st.integers(0, 99))
def test_it_comes_back_bit_for_bit(
    source: Dialect,
    target: Dialect,
    case: tuple[Kind, layers.Shapes, dict[str, Any]],
    seed: int,
) -> None:
    kind, torch_shapes, options = case
    if not spellings(source, kind) or not spellings(target, kind):
        return
    shapes = shapes_in(source, kind, torch_shapes, options)
    random = np.random.default_rng(seed)
    leaves = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    for move in translate(kind, source, target, shapes, None, options).moves:
        tensors = [from_array(leaves[name]) for name in move.sources]
        there = move.regroup.apply(tensors)
        back = move.regroup.inverse().apply(there)
        if move.regroup.lossy:  # what is lost on the way there is not lost again
            there_again = move.regroup.apply(back)
            for once, again in zip(there, there_again, strict=True):
                assert once.read().tobytes() == again.read().tobytes()
            continue
        for name, tensor in zip(move.sources, back, strict=True):
            assert tensor.shape == shapes[name]
            assert tensor.read().tobytes() == leaves[name].tobytes()
        slots = move.regroup.inverse().apply(move.regroup.apply(tensors, slots=True), slots=True)
        assert [s.read().tobytes() for s in slots] == [leaves[n].tobytes() for n in move.sources]


@pytest.mark.parametrize(("kind", "shapes", "options"), CASES)
def test_it_places_every_leaf(kind: Kind, shapes: layers.Shapes, options: dict[str, Any]) -> None:
    for dialect in Dialect:
        if not spellings(dialect, kind):
            continue
        found = translate(kind, Dialect.TORCH, dialect, shapes, None, options)
        placed = [name for move in found.moves for name in move.sources]
        placed += [name for name, _ in found.dropped]
        assert sorted(placed) == sorted(shapes)
        assert not found.unplaced


@pytest.mark.parametrize("dialect", Dialect)
def test_it_declares_every_leaf_with_the_axes_of_its_parts(dialect: Dialect) -> None:
    for kind, parts in CANONICAL.items():
        for spelling in spellings(dialect, kind):
            held = set()
            for leaf in spelling.leaves:
                words = leaf.of.replace(" + ", "+").split("+")
                for axis, names in spelling.parts.items():
                    words = [w.replace(f"{{{axis}}}", n) for w in words for n in names]
                held.update(words)
            assert held - set(spelling.absent) <= set(parts), (kind, held)
            assert set(parts) <= held | set(spelling.absent), kind


def random(shapes: layers.Shapes) -> layers.Arrays:
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal(shape) for name, shape in shapes.items()}


def test_it_transposes_a_linear_layer() -> None:
    leaves = random({"weight": (3, 4), "bias": (3,)})
    for dialect in (Dialect.FLAX, Dialect.NNX, Dialect.KERAS):
        found = layers.moved(Kind.LINEAR, leaves, dialect)
        assert np.array_equal(found["kernel"], leaves["weight"].T)
        assert np.array_equal(found["bias"], leaves["bias"])


def test_it_permutes_a_linear_layer_after_flatten() -> None:
    leaves = random({"weight": (5, 24)})
    found = layers.moved(Kind.FLATTEN_LINEAR, leaves, Dialect.FLAX, shape=[2, 3, 4])
    expected = leaves["weight"].reshape(5, 2, 3, 4).transpose(2, 3, 1, 0).reshape(24, 5)
    assert np.array_equal(found["kernel"], expected)


def test_it_flips_a_transposed_convolution_for_flax_only() -> None:
    leaves = random({"weight": (2, 4, 3, 5)})
    flax = layers.moved(Kind.CONV_TRANSPOSE, leaves, Dialect.FLAX)["kernel"]
    assert np.array_equal(flax, leaves["weight"].transpose(2, 3, 0, 1)[::-1, ::-1])
    keras = layers.moved(Kind.CONV_TRANSPOSE, leaves, Dialect.KERAS)["kernel"]
    assert np.array_equal(keras, leaves["weight"].transpose(2, 3, 1, 0))


def test_it_swaps_the_gates_of_a_gru_for_keras() -> None:
    leaves = random({"weight_ih": (15, 3), "bias_ih": (15,), "bias_hh": (15,)})
    found = layers.moved(Kind.GRU, leaves, Dialect.KERAS)
    r, z, n = np.split(leaves["weight_ih"], 3)
    assert np.array_equal(found["kernel"], np.concatenate([z, r, n]).T)
    order = np.r_[5:10, 0:5, 10:15]
    assert np.array_equal(
        found["bias"], np.stack([leaves["bias_ih"][order], leaves["bias_hh"][order]])
    )


def test_it_adds_biases_but_not_their_slots() -> None:
    leaves = random({"bias_ih": (20,), "bias_hh": (20,)})
    found = layers.moved(Kind.LSTM, leaves, Dialect.KERAS)
    assert np.array_equal(found["bias"], leaves["bias_ih"] + leaves["bias_hh"])
    same = dict.fromkeys(leaves, leaves["bias_ih"])
    slots = layers.moved(Kind.LSTM, same, Dialect.KERAS, slots=True)
    assert slots["bias"].tobytes() == leaves["bias_ih"].tobytes()


def test_it_gives_a_single_bias_to_the_input() -> None:
    leaves = random({"bias": (20,)})
    found = layers.moved(Kind.LSTM, leaves, Dialect.TORCH, source=Dialect.KERAS)
    assert np.array_equal(found["bias_ih"], leaves["bias"])
    assert not found["bias_hh"].any()


def test_it_takes_sizes_from_the_template() -> None:
    leaves = random({"in_proj_weight": (36, 12)})
    template = {f"{name}/kernel": (12, 3, 4) for name in ("query", "key", "value")}
    found = layers.moved(Kind.MULTIHEAD_ATTENTION, leaves, Dialect.FLAX, template)
    expected = leaves["in_proj_weight"][12:24].T.reshape(12, 3, 4)
    assert np.array_equal(found["key/kernel"], expected)


def test_it_takes_the_spelling_from_the_template() -> None:
    leaves = random({"weight_ih": (20, 3)})
    template = {f"{gate}/kernel": (3, 5) for gate in ("ii", "if_", "ig", "io")}
    found = layers.moved(Kind.LSTM, leaves, Dialect.NNX, template)
    assert np.array_equal(found["if_/kernel"], leaves["weight_ih"][5:10].T)
    prelu = layers.moved(Kind.PRELU, random({"weight": (4,)}), Dialect.KERAS, {"alpha": (1, 1, 4)})
    assert prelu["alpha"].shape == (1, 1, 4)


def test_it_does_not_need_sizes_that_no_leaf_takes_apart() -> None:
    found = layers.moved(Kind.DEPTHWISE, random({"weight": (6, 1, 3, 3)}), Dialect.FLAX)
    assert found["kernel"].shape == (3, 3, 1, 6)


def test_it_drops_and_makes_the_count_of_batches() -> None:
    shapes = {"running_mean": (3,), "num_batches_tracked": ()}
    there = translate(Kind.BATCH_NORM, Dialect.TORCH, Dialect.FLAX, shapes)
    assert there.dropped == (
        (
            "num_batches_tracked",
            "the number of batches seen; it counts only with momentum=None, which averages all",
        ),
    )
    back = translate(Kind.BATCH_NORM, Dialect.FLAX, Dialect.TORCH, {"batch_stats:mean": (3,)})
    assert back.zeros == ("num_batches_tracked",)


def test_it_names_the_parts_that_have_no_place() -> None:
    shapes = {"bias_ih": (15,), "bias_hh": (15,)}
    found = translate(Kind.GRU, Dialect.TORCH, Dialect.NNX, shapes)
    assert found.moves[0].lost == (
        (
            "recurrent.bias.n",
            "nnx.GRUCell has no bias inside of the reset gate; the move is exact where that bias "
            "is zero, and it is not trained any more",
        ),
    )
    assert found.moves[0].regroup.lossy


def test_it_says_which_leaves_have_no_place_in_the_template() -> None:
    shapes = {"weight": (3, 4), "bias": (3,)}
    found = translate(Kind.LINEAR, Dialect.TORCH, Dialect.FLAX, shapes, {"kernel": (4, 3)})
    assert found.unplaced == ("bias",)


@pytest.mark.parametrize(
    ("kind", "shapes", "template", "error", "message"),
    [
        (
            Kind.MULTIHEAD_ATTENTION, {"in_proj_weight": (36, 12)}, None, AmbiguousError,
            "multihead_attention: in_proj_weight does not show the size of head, dim; add "
            "head = N, dim = N to its line in the mapping file and pass that with --map",
        ),
        (
            Kind.FLATTEN_LINEAR, {"weight": (5, 24)}, None, AmbiguousError,
            "a linear layer after flattened feature maps needs their shape: channels-first and "
            "channels-last maps flatten in different orders; add shape = [channels, height, width] "
            "to its line in the mapping file and pass that with --map",
        ),
        (
            Kind.LINEAR, {"weight": (3, 4)}, {"kernel": (3, 4)}, UsageError,
            "kernel: 3×4 does not fit the axes 'in out': 3 is not in = 4",
        ),
        (
            Kind.LINEAR, {"weight": (3, 4), "gain": (1,)}, None, UsageError,
            "linear in torch has no leaf gain; it has weight, bias",
        ),
        (
            Kind.CONV2D, {"weight": (3, 4, 5)}, None, UsageError,
            "weight of 3 dimensions is no conv2d: expected axes 'out in ...'",
        ),
        (
            Kind.WEIGHT_NORM, {"weight_g": (3, 1)}, {"kernel": (4, 3)}, UsageError,
            "weight_norm in flax has no leaf kernel; it has layer_instance/kernel, "
            "layer_instance/kernel/scale, layer_instance/bias",
        ),
    ],
)  # fmt: skip
def test_it_says_what_does_not_fit(
    kind: Kind,
    shapes: layers.Shapes,
    template: layers.Shapes | None,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error) as caught:
        translate(kind, Dialect.TORCH, Dialect.FLAX, shapes, template)
    assert str(caught.value) == message


def test_it_refuses_a_layer_that_a_dialect_does_not_have() -> None:
    with pytest.raises(UsageError, match="keras has no layer weight_norm"):
        translate(Kind.WEIGHT_NORM, Dialect.TORCH, Dialect.KERAS, {"weight_g": (3, 1)})


def test_it_knows_the_names_of_leaves() -> None:
    assert leaf_names(Kind.BATCH_NORM, Dialect.KERAS) == (
        "gamma", "beta", "moving_mean", "moving_variance",
    )  # fmt: skip
    assert leaf_names(Kind.MULTIHEAD_ATTENTION, Dialect.KERAS_H5)[:2] == (
        "query_dense/vars/0", "key_dense/vars/0",
    )  # fmt: skip
    assert "if_/kernel" in leaf_names(Kind.LSTM, Dialect.NNX)


def test_it_tells_what_it_does() -> None:
    lstm = {"weight_ih": (20, 3), "bias_ih": (20,), "bias_hh": (20,)}
    keras = translate(Kind.LSTM, Dialect.TORCH, Dialect.KERAS, lstm)
    assert [str(move.regroup) for move in keras.moves] == [
        "(gate hidden) in -> in (gate hidden)",
        "bias_ih: (gate hidden) of i f g o + bias_hh: (gate hidden) of i f g o -> "
        "bias: (gate hidden) of i f g o",
    ]
    flax = translate(Kind.LSTM, Dialect.TORCH, Dialect.FLAX, {"weight_ih": (20, 3)})
    assert str(flax.moves[0].regroup) == (
        "weight_ih: (gate hidden) in of i f g o -> ii/kernel: in hidden, if/kernel: in hidden, "
        "ig/kernel: in hidden, io/kernel: in hidden"
    )
