from typing import Any

import layers
import numpy as np
import pytest

from portackpt.layouts.dialects import Dialect
from portackpt.layouts.kinds import Kind
from portackpt.layouts.notes import Note, notes, objection
from portackpt.layouts.translation import translate

TORCH, FLAX, NNX, KERAS = Dialect.TORCH, Dialect.FLAX, Dialect.NNX, Dialect.KERAS


def texts(kind: Kind, source: Dialect, target: Dialect) -> list[str]:
    return [note.text for note in notes(kind, source, target)]


@pytest.mark.parametrize("kind", Kind)
def test_it_has_nothing_to_say_within_one_framework(kind: Kind) -> None:
    assert notes(kind, FLAX, NNX) == ()
    assert notes(kind, KERAS, Dialect.KERAS_H5) == ()


@pytest.mark.parametrize(
    ("kind", "source", "target", "text"),
    [
        (Kind.LAYER_NORM, TORCH, FLAX, "build it with epsilon=1e-05, or what the source was given: "
         "PyTorch's default is 1e-05, Flax's 1e-06"),
        (Kind.LAYER_NORM, KERAS, TORCH, "build it with eps=0.001, or what the source was given: "
         "Keras's default is 0.001, PyTorch's 1e-05"),
        (Kind.RMS_NORM, TORCH, KERAS, "build it with the epsilon of the source: PyTorch's default "
         "is that of the dtype (1.2e-7 for float32), Keras's 1e-06"),
        (Kind.BATCH_NORM, TORCH, KERAS, "the running variance is unbiased in PyTorch, biased in "
         "Flax and Keras"),
        (Kind.BATCH_NORM, FLAX, TORCH, "momentum = 1 - momentum: PyTorch's is the weight of the "
         "new batch, that of Flax and Keras the weight of the old average (defaults 0.1, 0.99, "
         "0.99)"),
        (Kind.CONV2D, TORCH, FLAX, "build it with the padding of the source spelled out: with a "
         "stride over 1, SAME pads elsewhere than PyTorch's padding=p"),
        (Kind.CONV_TRANSPOSE, TORCH, FLAX, "the spatial axes are reversed: Flax's layer does not "
         "turn its kernel"),
        (Kind.CONV_TRANSPOSE, TORCH, KERAS, "transposed convolutions of several groups exist in "
         "PyTorch only"),
        (Kind.FLATTEN_LINEAR, TORCH, KERAS, "the inputs are permuted: feature maps flatten "
         "channels-last there"),
        (Kind.EMBEDDING, TORCH, FLAX, "padding_idx, max_norm and scale_grad_by_freq have no "
         "counterpart"),
        (Kind.MULTIHEAD_ATTENTION, TORCH, NNX, "nnx computes attention logits in float32"),
        (Kind.LSTM, TORCH, KERAS, "two biases become one, their sum; it has the gradient of each"),
        (Kind.LSTM, KERAS, TORCH, "one bias becomes the input's; the recurrent one is zero"),
        (Kind.GRU, TORCH, FLAX, "two biases of the reset and update gates become one, their sum; "
         "it has the gradient of each"),
        (Kind.GRU, TORCH, KERAS, "build GRU(reset_after=True): the other form is another "
         "equation"),
        (Kind.WEIGHT_NORM, TORCH, FLAX, "Flax adds 1e-12 to the norm that it divides by"),
        (Kind.PRELU, TORCH, KERAS, "after a convolution, build PReLU(shared_axes=[1, 2])"),
    ],
)  # fmt: skip
def test_it_says(kind: Kind, source: Dialect, target: Dialect, text: str) -> None:
    assert text in texts(kind, source, target)


def test_it_does_not_warn_of_what_is_kept() -> None:
    assert not any("become one" in text for text in texts(Kind.GRU, TORCH, KERAS))
    assert texts(Kind.LINEAR, TORCH, FLAX) == []


def test_it_marks_the_variance_as_approximate() -> None:
    marked = [note for note in notes(Kind.BATCH_NORM, TORCH, FLAX) if note.approximate]
    assert [note.part for note in marked] == ["variance"]
    assert "evaluation goes on exactly" in marked[0].consequence


def test_it_names_parts_that_leaves_hold() -> None:
    for kind, shapes, options in layers.TORCH:
        for target in (FLAX, NNX, KERAS):
            about = {note.part for note in notes(kind, TORCH, target)} - {None}
            if about:
                found = translate(kind, TORCH, target, shapes, None, options)
                held = {p for m in found.moves for leaf in m.regroup.sources for p in leaf.holds}
                assert about <= held


def regroup(kind: Kind, shapes: layers.Shapes, **options: Any) -> Any:
    return translate(kind, TORCH, FLAX, shapes, None, options).moves[0].regroup


@pytest.mark.parametrize("algorithm", ["lamb", "adafactor", "muon", "novograd"])
def test_it_objects_to_splitting_what_is_updated_as_a_whole(algorithm: str) -> None:
    split = regroup(Kind.MULTIHEAD_ATTENTION, {"in_proj_weight": (36, 12)}, head=3)
    found = objection(algorithm, split)
    assert found is not None
    assert found.text.startswith(f"{algorithm} does not commute with splitting or joining tensors")
    assert found.approximate


def test_it_objects_to_turning_only_where_rows_differ_from_columns() -> None:
    turned = regroup(Kind.LINEAR, {"weight": (3, 4)})
    assert objection("lamb", turned) is None
    assert objection("muon", turned) == Note(
        "muon tells rows from columns, and they change places here",
        "exact only where its state and options change places, too",
        approximate=True,
    )
    factored = objection("adafactor", turned)
    assert factored is not None
    assert not factored.approximate
    assert objection("muon", regroup(Kind.LAYER_NORM, {"weight": (3,)})) is None


@pytest.mark.parametrize("algorithm", ["adam", "sgd", "lion", "rmsprop"])
def test_it_does_not_object_to_elementwise_updates(algorithm: str) -> None:
    assert objection(algorithm, regroup(Kind.LSTM, {"weight_ih": (20, 3)})) is None


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("SGD", {"momentum": 0.9, "weight_decay": 0.25}),
        ("Adam", {}),
        ("AdamW", {"weight_decay": 0.25}),
    ],
)
def test_it_trains_one_bias_like_the_two_it_sums(optimizer: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(6, 4, generator=generator, dtype=torch.float64)

    def step(chosen: Any, biases: list[Any]) -> None:
        chosen.zero_grad()
        (inputs + sum(biases)).tanh().square().sum().backward()
        chosen.step()

    def start(biases: list[Any], lr: float, **given: Any) -> Any:
        return getattr(torch.optim, optimizer)(biases, lr=lr, **given)

    two = [torch.randn(4, generator=generator, dtype=torch.float64).requires_grad_() for _ in "ab"]
    before = start(two, 0.0625, **options)
    for _ in range(5):
        step(before, two)

    summed = next(note for note in notes(Kind.LSTM, TORCH, KERAS) if note.part == "input.bias.i")
    names = ("bias_ih", "bias_hh")
    shapes = dict.fromkeys(names, (4,))
    found = translate(Kind.LSTM, TORCH, KERAS, shapes)

    def joined(arrays: list[Any], slots: bool) -> Any:
        leaves = {n: a.detach().numpy().copy() for n, a in zip(names, arrays, strict=True)}
        return torch.from_numpy(layers.carried(found, leaves, slots=slots)["bias"])

    one = joined(two, False).requires_grad_()
    decay = options.get("weight_decay", 0.0) * summed.weight_decay
    after = start([one], 0.0625 * summed.learning_rate, **{**options, "weight_decay": decay})
    state = [before.state[bias] for bias in two]
    after.state[one] = {
        name: joined([s[name] for s in state], True) if value.ndim else value.clone()
        for name, value in state[0].items()
    }
    for _ in range(7):
        step(before, two)
        step(after, [one])
    assert np.abs((two[0] + two[1] - one).detach().numpy()).max() < 1e-12
