"""Constants that survive float32, in which optax and Keras compute."""

from __future__ import annotations

import math

from portackpt.schedules.expression import Number


def gentle(gamma: Number, steps: Number) -> tuple[Number, Number]:
    """gamma' and steps' with gamma' ** (c / steps') = gamma ** (c / steps), fit for float32.

    float32 rounds gamma by up to 3e-8, and gamma ** n is off by n times that: too much for a gamma
    near 1, whose powers matter for long. A larger step has a smaller gamma.
    """
    held = math.frexp(gamma)[0] * 2**24 % 1 == 0  # float32 holds gamma itself
    if held or abs(math.log(gamma)) > 0.1:
        return gamma, steps
    times = max(1, round(1 / abs(math.log(gamma))))
    return gamma**times, steps * times
