"""Makes the files of tests/data/pytorch with torch itself: `python tests/data/make_pytorch.py`."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parent / "pytorch"


def run() -> dict[str, Any]:
    """A training run of two steps: model, optimizer, scheduler, progress."""
    torch.manual_seed(7)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(4, 2) * torch.arange(4.0)[:, None]).square().sum().backward()
        optimizer.step()
        scheduler.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "epoch": 2,
    }


def odd() -> dict[str, Any]:
    """One of each kind of value."""
    base = torch.arange(6.0)
    parameter = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    parameter.note = "x"
    return {
        "views": [base.view(2, 3).t(), base[4:], base],
        "parameter": parameter,
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "uint16": torch.tensor([1, 65535], dtype=torch.uint16),
        "bfloat16": torch.tensor([1.5], dtype=torch.bfloat16),
        "sparse": torch.eye(2).to_sparse(),
        "quantized": torch.quantize_per_tensor(torch.ones(2), 0.5, 3, torch.quint8),
        "meta": torch.empty(2, 3, device="meta"),
        "array": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "values": [torch.float32, torch.Size([1, 2]), torch.device("cpu"), {1}, b"\xff", 2**70, 1j],
        "ordered": OrderedDict(b=1, a=2),
        3: (None, True, float("nan")),
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    torch.save(run(), FOLDER / "run.pt")
    torch.save(run(), FOLDER / "run.legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(odd(), FOLDER / "odd.pt")
    torch.save(odd(), FOLDER / "odd.protocol4.pt", pickle_protocol=4)
    torch.save(torch.nn.Linear(2, 3), FOLDER / "module.pt")
    torch.jit.script(torch.nn.Linear(2, 3)).save(FOLDER / "script.pt")


if __name__ == "__main__":
    main()
