"""Makes tests/data/safetensors: files that safetensors.torch wrote, one tensor a dtype.

python tests/data/make_safetensors.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent / "safetensors"
DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16",
    "bfloat16", "float32", "float64", "complex64", "float8_e4m3fn", "float8_e4m3fnuz",
    "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2",
)  # fmt: skip


def tensors() -> dict[str, torch.Tensor]:
    """Tensors of shape (2, 3) whose bytes are 1, 2, 3, … (of bool: 1, 0, 1, 0, …)."""
    made = {}
    for name in DTYPES:
        dtype = getattr(torch, name)
        count = 6 * dtype.itemsize
        raw = torch.arange(1, count + 1) % 2 if name == "bool" else torch.arange(1, count + 1)
        made[name] = raw.to(torch.uint8).view(dtype).view(2, 3)
    return {**made, "scalar": torch.tensor(7.0), "nothing": torch.zeros(0, 3)}


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    save_file(tensors(), HERE / "torch.safetensors", {"format": "pt", "by": "us"})
