"""The classes of torch.optim, and of the libraries around it, by the options of their groups.

A state dict does not name its class. Source: torch/optim/*.py (1.0 to 2.13),
transformers/optimization.py, allennlp/training/optimizers.py; where epsilon and decay stand was
measured.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from portackpt.optimizers import Algorithm, Decay, Epsilon, Slot


@dataclass(frozen=True, slots=True)
class Kind:
    """How one class is recognized.

    `options` are keys of a group that together only this class has; `slots` maps the names in
    `state` to canonical ones, `others` are tensors in `state` that are no slots of parameters;
    `forms` are hyperparameters that the class fixes; `renamed` maps options to canonical names.
    """

    algorithm: Algorithm
    options: frozenset[str]
    slots: Mapping[str, Slot]
    forms: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    others: frozenset[str] = frozenset()


def _kind(
    algorithm: Algorithm,
    options: str,
    slots: Mapping[str, Slot],
    forms: Mapping[str, Any] | None = None,
    others: str = "",
    **renamed: str,
) -> Kind:
    own, spare = frozenset(options.split()), frozenset(others.split())
    return Kind(algorithm, own, slots, forms or {}, renamed, spare)


_MOMENTS = {"exp_avg": Slot.FIRST_MOMENT, "exp_avg_sq": Slot.SECOND_MOMENT}
_OUTSIDE = {"eps_form": Epsilon.OUTSIDE}
# in the order of recognition: the more options a class has of its own, the earlier
_KINDS: tuple[Kind, ...] = (
    _kind(Algorithm.NADAM, "betas momentum_decay",
          {**_MOMENTS, "mu_product": Slot.MOMENTUM_PRODUCT}, _OUTSIDE),
    _kind(Algorithm.ADAM, "betas amsgrad",
          {**_MOMENTS, "max_exp_avg_sq": Slot.MAX_SECOND_MOMENT}, _OUTSIDE),
    _kind(Algorithm.ADAM, "betas correct_bias", _MOMENTS,
          {**_OUTSIDE, "decay": Decay.DECOUPLED}),
    _kind(Algorithm.LAMB, "betas grad_averaging", _MOMENTS, _OUTSIDE),
    _kind(Algorithm.LAMB, "betas decay_in_ratio", _MOMENTS,
          {**_OUTSIDE, "decay": Decay.DECOUPLED}),
    _kind(Algorithm.FTRL, "lr_power l2_shrinkage",
          {"sum": Slot.SUM_OF_SQUARES, "linear": Slot.LINEAR},
          initial_accumulator_value="initial_accumulator"),
    _kind(Algorithm.RMSPROP, "alpha centered",
          {"square_avg": Slot.SECOND_MOMENT, "momentum_buffer": Slot.MOMENTUM,
           "grad_avg": Slot.MEAN_GRADIENT}, {**_OUTSIDE, "lr_in_momentum": False}, alpha="rho"),
    _kind(Algorithm.ADAGRAD, "lr_decay initial_accumulator_value", {"sum": Slot.SUM_OF_SQUARES},
          _OUTSIDE, initial_accumulator_value="initial_accumulator"),
    _kind(Algorithm.ADAGRAD, "lr_decay weight_decay", {"sum": Slot.SUM_OF_SQUARES}, _OUTSIDE),
    _kind(Algorithm.ADADELTA, "rho eps",
          {"square_avg": Slot.SECOND_MOMENT, "acc_delta": Slot.MEAN_SQUARED_UPDATE},
          {"eps_form": Epsilon.INSIDE}),
    _kind(Algorithm.ADAFACTOR, "beta2_decay d",
          {"row_var": Slot.ROW_MOMENT, "col_var": Slot.COLUMN_MOMENT,
           "variance": Slot.SECOND_MOMENT},
          {"factored_axes": "last_two", "decay": Decay.DECOUPLED, "relative_step": True,
           "eps1_form": "clamped"}, d="clip_threshold"),
    _kind(Algorithm.ADAFACTOR, "clip_threshold scale_parameter",
          {"exp_avg_sq_row": Slot.ROW_MOMENT, "exp_avg_sq_col": Slot.COLUMN_MOMENT,
           "exp_avg_sq": Slot.SECOND_MOMENT, "exp_avg": Slot.FIRST_MOMENT},
          {"factored_axes": "last_two", "decay": Decay.DECOUPLED}, decay_rate="beta2_decay"),
    _kind(Algorithm.MUON, "ns_steps momentum", {"momentum_buffer": Slot.MOMENTUM},
          {"momentum_form": "ema", "ns_dtype": "bfloat16", "decay": Decay.DECOUPLED},
          adjust_lr_fn="lr_scale"),
    _kind(Algorithm.RPROP, "etas step_sizes",
          {"prev": Slot.PREVIOUS_SIGN, "step_size": Slot.STEP_SIZE}),
    _kind(Algorithm.ASGD, "lambd alpha t0", {"ax": Slot.AVERAGE}, others="eta mu"),
    _kind(Algorithm.LBFGS, "history_size max_iter", {},
          others="d t old_dirs old_stps ro H_diag prev_flat_grad prev_loss al"),
    _kind(Algorithm.SGD, "momentum dampening nesterov", {"momentum_buffer": Slot.MOMENTUM},
          {"lr_in_momentum": False}),
)  # fmt: skip
# betas without an option of their own: told apart by what else there is
_ADAM = _kind(Algorithm.ADAM, "betas eps", _MOMENTS, _OUTSIDE)
_SPARSE_ADAM = _kind(Algorithm.ADAM, "betas eps", _MOMENTS, {"eps_form": Epsilon.HAT})
_RADAM = _kind(Algorithm.RADAM, "betas eps", _MOMENTS,
               {"eps_form": Epsilon.HAT, "threshold": 5.0})  # fmt: skip
_ADAMAX = _kind(Algorithm.ADAMAX, "betas eps",
                {"exp_avg": Slot.FIRST_MOMENT, "exp_inf": Slot.INFINITY_NORM},
                {"eps_form": Epsilon.IN_MAX})  # fmt: skip
_LION = _kind(Algorithm.LION, "betas", {"exp_avg": Slot.FIRST_MOMENT}, {"decay": Decay.DECOUPLED})
NATIVE = frozenset(
    ("foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay", "initial_lr")
)
"""Options without meaning for the algorithm, or told under another name."""
# slots with the shape of their parameter
LIKE_PARAMETER = frozenset(
    name for kind in (*_KINDS, _RADAM, _ADAMAX) for name, slot in kind.slots.items()
    if slot not in (Slot.ROW_MOMENT, Slot.COLUMN_MOMENT, Slot.MOMENTUM_PRODUCT)
)  # fmt: skip


def kinds(options: Collection[str], slots: Collection[str]) -> tuple[Kind, ...]:
    """The classes that have these options of a group and slots; none where no known one has."""
    found = next((kind for kind in _KINDS if kind.options <= set(options)), None)
    if found is not None:
        return (found,)
    if "betas" not in options:
        return ()
    if "eps" not in options:
        return (_LION,) if set(slots) <= {"exp_avg", "step"} else ()
    if "exp_inf" in slots:
        return (_ADAMAX,)
    if "decoupled_weight_decay" in options:
        return (_RADAM,)
    if "weight_decay" not in options:
        return (_SPARSE_ADAM,)
    return (_ADAM, _RADAM) if slots else (_ADAM, _ADAMAX, _RADAM)
