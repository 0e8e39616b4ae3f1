"""Notes: what changes for a run when a layer moves, beyond the bytes that are turned.

Each was measured against the frameworks. A note on a `part` is about the leaf that holds it; a note
without one is about how the target builds the layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from portackpt.layouts.dialects import Dialect
from portackpt.layouts.kinds import Kind
from portackpt.layouts.packing import Regroup


@dataclass(frozen=True, slots=True)
class Note:
    """One sentence for the ledger.

    `consequence` says what it means for the run, `part` which canonical part it is about (None: the
    whole layer). `approximate` parts do not go on exactly; `tolerance` is how far results differ.
    `learning_rate` and `weight_decay` are what an optimizer has to multiply its own by, for the
    tensor that holds the part.
    """

    text: str
    consequence: str = ""
    part: str | None = None
    approximate: bool = False
    tolerance: float | None = None
    learning_rate: float = 1.0
    weight_decay: float = 1.0


_EPSILON = {
    Kind.LAYER_NORM: {"torch": 1e-5, "flax": 1e-6, "keras": 1e-3},
    Kind.GROUP_NORM: {"torch": 1e-5, "flax": 1e-6, "keras": 1e-3},
    Kind.BATCH_NORM: {"torch": 1e-5, "flax": 1e-5, "keras": 1e-3},
    Kind.RMS_NORM: {"flax": 1e-6, "keras": 1e-6},
}
_EPSILON_WORD = {"torch": "eps", "flax": "epsilon", "keras": "epsilon"}
_NAMES = {"torch": "PyTorch", "flax": "Flax", "keras": "Keras"}
_CONVOLUTIONS = (Kind.CONV1D, Kind.CONV2D, Kind.CONV3D, Kind.DEPTHWISE)
_TRANSPOSED = (Kind.CONV_TRANSPOSE, Kind.CONV_TRANSPOSE_KERNEL)


@lru_cache(maxsize=1 << 10)
def notes(kind: Kind, source: Dialect, target: Dialect) -> tuple[Note, ...]:
    """What the ledger has to say of a layer of `kind` that moves; nothing within one family."""
    here, there = source.family, target.family
    if here == there:
        return ()
    found = _epsilon(kind, here, there)
    if kind is Kind.BATCH_NORM and "torch" in (here, there):
        found += _BATCH_NORM
    if kind in _CONVOLUTIONS:
        found += (_PADDING,)
    if kind in _TRANSPOSED:
        found += _transposed(kind, here, there)
    if kind is Kind.FLATTEN_LINEAR and "torch" in (here, there):
        order = "last" if here == "torch" else "first"
        found += (Note(f"the inputs are permuted: feature maps flatten channels-{order} there"),)
    if kind is Kind.EMBEDDING and here == "torch":
        found += (_LOOKUP,)
    if kind is Kind.MULTIHEAD_ATTENTION and target is Dialect.NNX:
        found += (Note("nnx computes attention logits in float32", tolerance=1e-7),)
    if kind in (Kind.LSTM, Kind.GRU):
        found += _recurrent(kind, here, there)
    if kind is Kind.WEIGHT_NORM:
        found += (Note("Flax adds 1e-12 to the norm that it divides by", tolerance=1e-12),)
    if kind is Kind.PRELU and there == "keras":
        found += (Note("after a convolution, build PReLU(shared_axes=[1, 2])"),)
    return found


def _epsilon(kind: Kind, here: str, there: str) -> tuple[Note, ...]:
    known = _EPSILON.get(kind)
    if known is None:
        return ()
    if kind is Kind.RMS_NORM and here == "torch":
        text = (
            "build it with the epsilon of the source: PyTorch's default is that of the dtype "
            f"(1.2e-7 for float32), {_NAMES[there]}'s {known[there]:g}"
        )
        return (Note(text),)
    if here not in known or there not in known or known[here] == known[there]:
        return ()
    text = (
        f"build it with {_EPSILON_WORD[there]}={known[here]:g}, or what the source was given: "
        f"{_NAMES[here]}'s default is {known[here]:g}, {_NAMES[there]}'s {known[there]:g}"
    )
    return (Note(text),)


_LOOKUP = Note(
    "padding_idx, max_norm and scale_grad_by_freq have no counterpart",
    "none, unless the layer was made with one of them",
)
_BATCH_NORM = (
    Note(
        "the running variance is unbiased in PyTorch, biased in Flax and Keras",
        "evaluation goes on exactly; every later update of the running variance differs by the "
        "factor n/(n - 1), for n values a channel in a batch",
        part="variance",
        approximate=True,
    ),
    Note(
        "momentum = 1 - momentum: PyTorch's is the weight of the new batch, that of Flax and "
        "Keras the weight of the old average (defaults 0.1, 0.99, 0.99)"
    ),
)
_PADDING = Note(
    "build it with the padding of the source spelled out: with a stride over 1, SAME pads "
    "elsewhere than PyTorch's padding=p"
)


def _transposed(kind: Kind, here: str, there: str) -> tuple[Note, ...]:
    found = (Note("transposed convolutions of several groups exist in PyTorch only"),)
    if "flax" not in (here, there):
        return found
    if kind is Kind.CONV_TRANSPOSE_KERNEL:
        return (*found, Note("Flax's layer has transpose_kernel=True"))
    return (*found, Note("the spatial axes are reversed: Flax's layer does not turn its kernel"))


def _recurrent(kind: Kind, here: str, there: str) -> tuple[Note, ...]:
    found: list[Note] = []
    gates = "" if kind is Kind.LSTM else " of the reset and update gates"
    summed = kind is Kind.LSTM or "flax" in (here, there)
    parts = [f"input.bias.{gate}" for gate in ("ifgo" if kind is Kind.LSTM else "rz")]
    keeps_both = ("torch",) if kind is Kind.LSTM else ("torch", "keras")
    if summed and here in keeps_both and there not in keeps_both:
        found += [
            Note(
                f"two biases{gates} become one, their sum; it has the gradient of each",
                "trains as before with twice the learning rate and half the weight decay for this "
                "tensor; with the optimizer's own it moves half as fast",
                part=part,
                learning_rate=2.0,
                weight_decay=0.5,
            )
            for part in parts
        ]
    if summed and here not in keeps_both and there in keeps_both:
        found += [
            Note(
                f"one bias{gates} becomes the input's; the recurrent one is zero",
                "trains as before while the recurrent bias is frozen; trained, too, the two move "
                "twice as fast as the one did",
                part=part,
            )
            for part in parts
        ]
    if kind is Kind.GRU and there == "keras":
        found.append(Note("build GRU(reset_after=True): the other form is another equation"))
    if kind is Kind.LSTM and there == "flax":
        found.append(Note("the carry is (c, h), PyTorch's (h, c)"))
    return tuple(found)


NOT_ELEMENTWISE = {
    "lamb": "its trust ratio is taken over a whole tensor",
    "lars": "its trust ratio is taken over a whole tensor",
    "novograd": "its second moment is that of a whole tensor",
    "adafactor": "its second moment is factored by the rows and columns of a tensor",
    "muon": "its update is orthogonalized as one matrix",
    "per-tensor clipping": "the norm is taken over a whole tensor",
}
"""What treats the elements of one tensor together, and why that feels a cut; all else here, global
norms included, updates element by element and does not. Measured for a packed projection that is
split: LAMB 7e-2, Adafactor 0.4, Muon 0.9, per-tensor clipping 4e-2, NovoGrad 0.8; Adam, Lion,
RMSprop and global clipping 0."""


def objection(algorithm: str, regroup: Regroup) -> Note | None:
    """Why `algorithm` does not go on exactly through `regroup`; None where it does.

    Turning axes is free for all but Muon in optax, which scales by rows and columns, and Adafactor,
    whose row and column moments change places with the axes.
    """
    reason = NOT_ELEMENTWISE.get(algorithm)
    if reason is None:
        return None
    if regroup.regroups:
        return Note(
            f"{algorithm} does not commute with splitting or joining tensors: {reason}",
            "the next updates of these tensors differ from those of the run that stayed",
            approximate=True,
        )
    if algorithm in ("adafactor", "muon") and regroup.moves:
        return Note(
            f"{algorithm} tells rows from columns, and they change places here",
            "exact only where its state and options change places, too",
            approximate=algorithm == "muon",
        )
    return None
