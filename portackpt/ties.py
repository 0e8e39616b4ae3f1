"""Which tensors share bytes with one another."""

from __future__ import annotations

from bisect import bisect_right

from portackpt.tensor import Strided, Tensor


class Ties:
    """The storages that were met so far, and by which names."""

    __slots__ = ("_storages",)

    def __init__(self) -> None:
        self._storages: dict[int, _Spans] = {}

    def meet(self, tensor: Tensor, name: str) -> str | None:
        """The name of an earlier tensor whose bytes this one shares; None for the first."""
        layout = tensor.layout
        if not isinstance(layout, Strided) or not tensor.nbytes:
            return None
        stop = layout.offset + tensor.nbytes
        if layout.strides is not None:
            reach = zip(tensor.shape, layout.strides, strict=True)
            stop = layout.offset + sum((n - 1) * step for n, step in reach) + tensor.dtype.itemsize
        spans = self._storages.setdefault(id(layout.source), _Spans())
        return spans.add(layout.offset, stop, name)


class _Spans:
    """Byte spans of one storage that were met so far, merged where they overlap."""

    __slots__ = ("_names", "_starts", "_stops")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._names: list[str] = []

    def add(self, start: int, stop: int, name: str) -> str | None:
        """The name of an earlier span that overlaps, or None; the span is met from now on."""
        left = bisect_right(self._starts, start)
        if left and self._stops[left - 1] > start:
            left -= 1
        right = left
        while right < len(self._starts) and self._starts[right] < stop:
            right += 1
        owner = self._names[left] if right > left else None
        if right > left:
            start = min(start, self._starts[left])
            stop = max(stop, self._stops[right - 1])
        self._starts[left:right] = [start]
        self._stops[left:right] = [stop]
        self._names[left:right] = [owner or name]
        return owner
