"""Constants that survive float32, in which optax and Keras compute."""

from __future__ import annotations

import math

from portackpt.schedules.expression import Number


def is_steep(gamma: Number) -> bool:
    """Whether powers of `gamma` are as good in float32 as one value of float32 is.

    float32 rounds gamma by up to 3e-8, and gamma ** n is off by n times that: too much for a gamma
    near 1, whose powers matter for long; nothing where float32 holds gamma itself.
    """
    return math.frexp(gamma)[0] * 2**24 % 1 == 0 or abs(math.log(gamma)) > 0.1


def gentle(gamma: Number, steps: Number) -> tuple[Number, Number]:
    """gamma' and steps' with gamma' ** (c / steps') = gamma ** (c / steps), fit for float32."""
    if is_steep(gamma):
        return gamma, steps
    times = max(1, round(1 / abs(math.log(gamma))))
    return gamma**times, steps * times
