"""Comparing two checkpoints of any two formats, by name and value."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from portackpt.box import bands
from portackpt.conversion import open_checkpoint
from portackpt.dtypes import STRING
from portackpt.tensor import PIECE, Tensor, from_array, from_strings
from portackpt.tree import Node, is_leaf, plain_name, walk


@dataclass(frozen=True, slots=True)
class Difference:
    """One name that differs.

    `kind` is `only in A`, `only in B`, `type`, `dtype`, `shape` or `value`. For values of tensors
    `count` of `size` elements differ, by at most `max_abs` and, relative to A, `max_rel`.
    """

    name: str
    kind: str
    detail: str
    count: int | None = None
    size: int | None = None
    max_abs: float | None = None
    max_rel: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`compared` names stand in both; `equal` says that nothing differs."""

    compared: int
    nbytes: int
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        return {
            "equal": self.equal,
            "compared": self.compared,
            "nbytes": self.nbytes,
            "differences": [asdict(difference) for difference in self.differences],
        }


def diff(
    a: str | os.PathLike[str], b: str | os.PathLike[str], *, rtol: float = 0.0, atol: float = 0.0
) -> Comparison:
    """Compare two checkpoints leaf by leaf.

    Names are compared without escapes, so that `a/b` nested in one format is `a/b` flat in another;
    a plain number equals a 0-d tensor of its value; what holds nothing (None, an empty container)
    equals an absent name. Elements differ when |a - b| > atol + rtol * |a|; NaN equals NaN.
    """
    left, right = (_leaves(open_checkpoint(path).tree) for path in (a, b))
    found: list[Difference] = []
    nbytes = 0
    for name, leaf in left.items():
        if name in right:
            found.extend(_compare(name, leaf, right[name], rtol, atol))
            nbytes += leaf.nbytes if isinstance(leaf, Tensor) else 0
        elif not _holds_nothing(leaf):
            found.append(Difference(name, "only in A", _describe(leaf)))
    for name, leaf in right.items():
        if name not in left and not _holds_nothing(leaf):
            found.append(Difference(name, "only in B", _describe(leaf)))
    return Comparison(len(left.keys() & right.keys()), nbytes, tuple(found))


def _leaves(tree: Node) -> dict[str, Node]:
    if is_leaf(tree) and not _holds_nothing(tree):
        return {"value": tree}  # the name that a leaf alone gets in formats of named leaves
    return {plain_name(path): leaf for path, leaf in walk(tree)}


def _holds_nothing(leaf: Node) -> bool:
    return leaf is None or (isinstance(leaf, (dict, list, tuple)) and not leaf)


def _compare(name: str, a: Node, b: Node, rtol: float, atol: float) -> list[Difference]:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        left, right = _as_tensor(a), _as_tensor(b)
        if left is None or right is None:
            return [Difference(name, "type", f"{_describe(a)}, {_describe(b)}")]
        return _compare_tensors(name, left, right, rtol, atol)
    if _holds_nothing(a) and _holds_nothing(b):
        return []
    if _same_value(a, b):
        return []
    if isinstance(a, (int, float, complex)) and isinstance(b, (int, float, complex)):
        if abs(a - b) <= atol + rtol * abs(a):
            return []
        return [Difference(name, "value", f"{a!r}, {b!r}", 1, 1, abs(a - b))]
    return [Difference(name, "value", f"{_describe(a)}, {_describe(b)}")]


def _same_value(a: Node, b: Node) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (a != a and b != b)
    texts = (a.encode() if isinstance(a, str) else a, b.encode() if isinstance(b, str) else b)
    if all(isinstance(text, bytes) for text in texts):
        return texts[0] == texts[1]
    kind = getattr(a, "type", a)
    return bool(kind == getattr(b, "type", b))


def _as_tensor(leaf: Node) -> Tensor | None:
    if isinstance(leaf, Tensor):
        return leaf
    if isinstance(leaf, (str, bytes)):
        return from_strings([leaf.encode() if isinstance(leaf, str) else leaf], ())
    if isinstance(leaf, bool):
        return from_array(np.array(leaf))
    if isinstance(leaf, int):
        small = -(1 << 63) <= leaf < 1 << 63
        return from_array(np.array(leaf, np.int64)) if small else (
            from_strings([str(leaf).encode()], ()))  # fmt: skip
    if isinstance(leaf, (float, complex)):
        return from_array(np.array(leaf))
    return None


def _compare_tensors(name: str, a: Tensor, b: Tensor, rtol: float, atol: float) -> list[Difference]:
    if a.shape != b.shape:
        return [Difference(name, "shape", f"{_describe(a)}, {_describe(b)}")]
    found = []
    if a.dtype is not b.dtype:
        found.append(Difference(name, "dtype", f"{a.dtype}, {b.dtype}"))
        if STRING in (a.dtype, b.dtype):
            return found
    elif _same_bytes(a, b):
        return found
    far = _distance(a, b, rtol, atol)
    if far.count:
        detail = f"{far.count:,} of {a.size:,} elements differ"
        found.append(Difference(name, "value", detail, far.count, a.size, far.max_abs, far.max_rel))
    return found


def _same_bytes(a: Tensor, b: Tensor) -> bool:
    if a.nbytes != b.nbytes:
        return False
    return all(left == right for left, right in zip(a.pieces(), b.pieces(), strict=True))


@dataclass(slots=True)
class _Distance:
    count: int = 0
    max_abs: float | None = None
    max_rel: float | None = None


def _distance(a: Tensor, b: Tensor, rtol: float, atol: float) -> _Distance:
    far = _Distance()
    if a.dtype is STRING:
        far.count = int(np.count_nonzero(a.read() != b.read()))
        return far
    for box in bands(a.shape, PIECE // 16):
        left, right = _numbers(a.read(box)), _numbers(b.read(box))
        with np.errstate(all="ignore"):
            gap = np.abs(left - right)
            limit = atol + rtol * np.abs(left)
            same = (left == right) | (np.isnan(left) & np.isnan(right)) | (gap <= limit)
            if same.all():
                continue
            far.count += int(np.count_nonzero(~same))
            relative = gap[~same] / np.abs(left[~same])
            far.max_abs = max(far.max_abs or 0.0, float(np.max(gap[~same])))
            far.max_rel = max(far.max_rel or 0.0, float(np.max(relative)))
    return far


def _numbers(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if values.dtype.kind == "c":
        return values.astype(np.complex128)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        return values.astype(np.longdouble)
    return values.astype(np.float64)


def _describe(leaf: Node) -> str:
    if isinstance(leaf, Tensor):
        return f"{leaf.dtype} {list(leaf.shape)}"
    kind = getattr(leaf, "type", None)
    text = kind if isinstance(kind, str) else repr(leaf)
    return text if len(text) <= 60 else text[:57] + "..."
