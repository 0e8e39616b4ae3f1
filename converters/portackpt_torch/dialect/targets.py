"""Which class of torch goes on as an optimizer did."""

from __future__ import annotations

from portackpt.errors import UsageError
from portackpt.moved import MovedOptimizer
from portackpt.optimizers import Decay
from portackpt_torch.dialect import moment_targets, square_targets, step_targets
from portackpt_torch.dialect.drafts import Target

_BUILDERS = {**moment_targets.BUILDERS, **square_targets.BUILDERS, **step_targets.BUILDERS}


def target(optimizer: MovedOptimizer, scheduled: bool) -> Target:
    """torch's class for `optimizer`, whose learning rate changes where it is `scheduled`.

    Raises `AmbiguousError` where it does not say what torch has to know, `UsageError` where torch
    has nothing of the kind.
    """
    build = _BUILDERS.get(optimizer.algorithm)
    if build is None:
        raise UsageError(
            f"there is no way to run {optimizer.algorithm} in torch; carry its state as it stands "
            "with --set optimizer=native"
        )
    for group in optimizer.groups:
        rate, kind = (group.hyperparameters.get(n) for n in ("weight_decay", "decay"))
        if rate and kind is None:
            optimizer.need("decay")
        if rate is None and kind in (Decay.L2, Decay.DECOUPLED):
            optimizer.need("weight_decay")
    return build(optimizer, scheduled)
