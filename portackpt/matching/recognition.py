"""Recognition: whose names these are."""

from __future__ import annotations

import re
from collections.abc import Iterable

from portackpt.layouts.dialects import Dialect
from portackpt.matching.survey import SUFFIXES

_NNX = re.compile(r"(^|/)(if_|dense_[ih])/kernel(/|$)|/(raw_)?value$")
_FRAMEWORKS = {
    "pytorch": (Dialect.TORCH,),
    "jax": (Dialect.FLAX, Dialect.NNX),
    "tensorflow": (Dialect.KERAS, Dialect.KERAS_H5, Dialect.KERAS_OBJECTS),
}
_LEAVES = {
    Dialect.TORCH: re.compile(r"\.(weight|bias|running_mean|in_proj_weight|weight_ih_l0)$"),
    Dialect.FLAX: re.compile(r"(^|/)(kernel|embedding|scale)$"),
    Dialect.KERAS: re.compile(r"(^|/)(gamma|beta|embeddings|moving_mean|recurrent_kernel)(:0)?$"),
    Dialect.KERAS_H5: re.compile(r"(^|/)vars/\d+$"),
    Dialect.KERAS_OBJECTS: re.compile(r"(^|/)_(kernel|embeddings)(/\.ATTRIBUTES/|$)|\.ATTRIBUTES/"),
}
"""Names that only one dialect gives its leaves."""


def recognize(framework: str | None, names: Iterable[str]) -> Dialect | None:
    """The dialect of `names`, written by `framework` (None: unknown); None where none is clear."""
    found = list(names)
    possible = _FRAMEWORKS.get(framework or "", tuple(_LEAVES))
    if Dialect.FLAX in possible and _is_nnx(found):
        return Dialect.NNX
    votes = {
        dialect: sum(pattern.search(name) is not None for name in found)
        for dialect, pattern in _LEAVES.items()
        if dialect in possible
    }
    if framework == "tensorflow":
        # what a file or an object graph adds to the names of variables tells all
        votes |= {d: 2 * len(found) for d in (Dialect.KERAS_H5, Dialect.KERAS_OBJECTS) if votes[d]}
    best = max(votes, key=votes.__getitem__)
    if votes[best]:
        return best
    return possible[0] if framework in _FRAMEWORKS else None


def _is_nnx(names: list[str]) -> bool:
    """nnx keeps a batch norm's statistics beside its scale, where linen has a collection."""
    known = {
        name.removesuffix(next((s for s in SUFFIXES if name.endswith(s)), "")) for name in names
    }
    return any(_NNX.search(name) for name in names) or any(
        name.endswith("/scale") and f"{name.removesuffix('scale')}mean" in known for name in known
    )
