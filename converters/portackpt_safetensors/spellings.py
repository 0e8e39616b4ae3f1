"""How safetensors spells dtypes, and which names its indexes have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from portackpt.dtypes import BY_NAME, BY_SAFETENSORS, DType

DTYPES: dict[str, DType] = {
    **BY_SAFETENSORS,
    # of the reference since 0.6 (FNUZ) and 0.7 (F4: two elements a byte, shapes count elements)
    "F8_E4M3FNUZ": BY_NAME["float8_e4m3fnuz"],
    "F8_E5M2FNUZ": BY_NAME["float8_e5m2fnuz"],
    "F4": BY_NAME["float4_e2m1fn_x2"],
}
SPELLINGS = {dtype.name: spelling for spelling, dtype in DTYPES.items()}
INDEX = re.compile(r".+\.safetensors\.index(\.[\w-]+)?\.json")


def index_names(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if INDEX.fullmatch(name))


def means_directory(path: Path, sharded: bool) -> bool:
    """True where a target is a directory of shards: its name has no suffix, or the source was."""
    if path.suffix == ".safetensors":
        return False
    return sharded or path.is_dir() or not re.fullmatch(r"\.[A-Za-z_]\w*", path.suffix)
