"""Names of leaves as their dialect writes them, with Flax's collections folded into the leaf.

    params/block/BatchNorm_0/scale          params/block/BatchNorm_0/scale
    batch_stats/block/BatchNorm_0/mean      params/block/BatchNorm_0/batch_stats:mean

So all leaves of one layer stand together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from portackpt.layouts.dialects import Dialect

_COLLECTIONS = ("batch_stats",)
_PARAMETERS = "params"


@dataclass(frozen=True, slots=True)
class Folding:
    """How names of one checkpoint are folded and unfolded.

    `parameters` says whether its parameters stand under `params`, beside the other collections, or
    at the top.
    """

    dialect: Dialect
    parameters: bool

    def fold(self, name: str) -> str:
        if self.dialect is not Dialect.FLAX:
            return name
        parts = name.split("/")
        for collection in _COLLECTIONS:
            if collection in parts[:-1]:
                index = parts.index(collection)
                parts[index : index + 1] = [_PARAMETERS] if self.parameters else []
                parts[-1] = f"{collection}:{parts[-1]}"
        return "/".join(parts)

    def unfold(self, name: str) -> str:
        if self.dialect is not Dialect.FLAX or ":" not in name:
            return name
        parts = name.split("/")
        for collection in _COLLECTIONS:
            if parts[-1].startswith(f"{collection}:"):
                parts[-1] = parts[-1].removeprefix(f"{collection}:")
                if _PARAMETERS in parts:
                    parts[parts.index(_PARAMETERS)] = collection
                else:
                    parts.insert(0, collection)
        return "/".join(parts)


def folding(dialect: Dialect, names: Iterable[str]) -> Folding:
    """The folding that fits `names`."""
    under = any(_PARAMETERS in name.split("/") for name in names)
    return Folding(dialect, under)
