"""What a tensor is for, as far as its name and its neighbours say.

These are evidences from the names that the frameworks themselves write; a name that says nothing
makes a floating-point tensor a parameter, and anything else `other`.
"""

from __future__ import annotations

import re
from enum import StrEnum

from portackpt.tensor import Tensor
from portackpt.tree import plain_name


class Role(StrEnum):
    PARAMETER = "parameter"
    BUFFER = "buffer"
    SLOT = "slot"
    RANDOMNESS = "randomness"
    OTHER = "other"


_RULES: tuple[tuple[Role, re.Pattern[str]], ...] = (
    (Role.OTHER, re.compile(r"(^|/)@\w+$")),  # an attribute of HDF5
    (
        Role.RANDOMNESS,
        re.compile(r"(?i)(^|[/._])(rngs?|rng_states?|rng_key|prng|seed_generator\w*|random_states?)([/._\d]|$)"),
    ),
    (
        Role.SLOT,
        re.compile(
            r"(?i)(^|/)(optimizers?|optimizer_states?|opt_state|optim|optimizer_variables)([/._\d]|$)"
            r"|\.OPTIMIZER_SLOT"
            r"|(^|/)(exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer|square_avg|mu|nu)(/|$)"
            r"|/(Adam|Adam_1|Adagrad|Momentum|RMSProp|RMSProp_1|Ftrl|Ftrl_1|ExponentialMovingAverage"
            r"|adam_m|adam_v)$"
        ),
    ),
    (
        Role.BUFFER,
        re.compile(
            r"(^|[/._])(running_mean|running_var|num_batches_tracked|moving_mean|moving_variance"
            r"|batch_stats|position_ids|inv_freq)([:/._]|$)"
        ),
    ),
)  # fmt: skip


def role(path: str, tensor: Tensor) -> Role:
    """The role of the tensor at `path`."""
    name = plain_name(path)
    for kind, pattern in _RULES:
        if pattern.search(name):
            return kind
    floating = tensor.dtype.name.startswith(("float", "bfloat", "complex"))
    trained = tensor.attributes.get("requires_grad") or "torch.class" in tensor.attributes
    return Role.PARAMETER if floating or trained else Role.OTHER
