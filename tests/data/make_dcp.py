"""Makes tests/data/dcp: directories that torch.distributed.checkpoint wrote, for readers of DCP.

    python tests/data/make_dcp.py

`one` is of one process, `two` of two ranks that shard tensors by rows and by columns.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections import OrderedDict
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.tensor import Replicate, Shard, distribute_tensor, init_device_mesh

HERE = Path(__file__).parent / "dcp"


def one_process() -> None:
    state = {
        "model": OrderedDict(
            w=torch.arange(6, dtype=torch.bfloat16).view(2, 3), p=torch.nn.Parameter(torch.ones(3))
        ),
        "terminal": [1, 2, [3]],
        "open": [torch.ones(1), {"x": 2}, 5],
        "tuple": (1, torch.ones(2)),
        "empty": {},
        "none": None,
        "numbers": {0: {"step": torch.tensor(3)}},
        "zero": torch.zeros(0, 3),
        "text": "größe",
    }
    dcp.save(state, checkpoint_id=HERE / "one", no_dist=True)


def two_ranks(rank: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29533")
    dist.init_process_group("gloo", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    values = torch.arange(35.0).view(7, 5)
    state = {
        "rows": distribute_tensor(values, mesh, [Shard(0)]),
        "columns": distribute_tensor(values, mesh, [Shard(1)]),
        "copies": distribute_tensor(values, mesh, [Replicate()]),
        "few": distribute_tensor(torch.arange(1.0), mesh, [Shard(0)]),
        "groups": [{"lr": 0.1, "betas": (0.9, 0.99), "params": ["a", "b"]}],
    }
    dcp.save(state, checkpoint_id=HERE / "two")
    dist.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    shutil.rmtree(HERE, ignore_errors=True)
    one_process()
    mp.spawn(two_ranks, nprocs=2)
