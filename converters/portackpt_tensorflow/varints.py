"""Many varints at once, with numpy."""

from __future__ import annotations

from typing import Any


def decode(window: Any, limit: int) -> tuple[Any, int]:
    """The complete varints at the start of `window` (uint8; at most `limit`), and their bytes.

    None are found where one takes more than ten bytes.
    """
    import numpy as np

    stops = np.flatnonzero(window < 0x80)[:limit]
    if not len(stops):
        return stops.astype("<u8"), 0
    starts = np.concatenate(([0], stops[:-1] + 1))
    widths = stops - starts + 1
    widest = int(widths.max())
    if widest > 10:
        return stops[:0].astype("<u8"), 0
    values = np.zeros(len(stops), "<u8")
    for place in range(widest):
        part = np.flatnonzero(widths > place)
        digits = (window[starts[part] + place] & 0x7F).astype("<u8")
        values[part] |= digits << np.uint64(7 * place)
    return values, int(stops[-1]) + 1


def encode(values: Any) -> bytes:
    """Unsigned 64-bit `values`, each as a varint."""
    import numpy as np

    widths = np.ones(len(values), "i8")
    for place in range(1, 10):
        widths += values >> np.uint64(7 * place) != 0
    starts = np.cumsum(widths) - widths
    out = np.zeros(int(widths.sum()), "u1")
    for place in range(int(widths.max(initial=0))):
        part = np.flatnonzero(widths > place)
        digits = (values[part] >> np.uint64(7 * place) & np.uint64(0x7F)).astype("u1")
        more = np.where(widths[part] > place + 1, 0x80, 0).astype("u1")
        out[starts[part] + place] = digits | more
    return out.tobytes()
