"""A checkpoint is read with a JSON parser, a MessagePack reader and the safetensors library."""

from __future__ import annotations

import json

import msgpack
import numpy as np
from conformance.vectors import SPEC
from safetensors import safe_open

VECTOR = SPEC / "vectors" / "valid" / "step-source-notes-and-sections" / "checkpoint"


def test_it_is_read_without_this_library() -> None:
    manifest = json.loads((VECTOR / "manifest.json").read_text())
    assert manifest["portackpt"] == [1, 0]
    tree, details = msgpack.unpackb((VECTOR / manifest["state"]["file"]).read_bytes())[1:]
    assert details == ["dict"]
    assert tree == ["dict", "model", ["dict", "w", ["tensor", 0]], "a/b", ["list", 1]]

    _, number = tree[2][2]
    tensor = manifest["tensors"][number]
    (box,) = tensor["boxes"]
    shard = manifest["shards"][box["shard"]]
    with safe_open(VECTOR / shard["file"], framework="numpy") as file:
        values = file.get_tensor(tensor["name"])
    assert values.dtype == np.dtype(tensor["dtype"])
    assert values.shape == tuple(tensor["shape"])
    assert values.tolist() == [1.0]


def test_it_is_mapped_into_memory_where_the_manifest_says() -> None:
    manifest = json.loads((VECTOR / "manifest.json").read_text())
    (box,) = manifest["tensors"][0]["boxes"]
    path = VECTOR / manifest["shards"][box["shard"]]["file"]
    values = np.memmap(path, "<f4", "r", box["offset"], tuple(manifest["tensors"][0]["shape"]))
    assert values.tolist() == [1.0]
