"""What the real frameworks read: the leaves of a checkpoint by path, as dtype, shape and bits.

A path is spelled as in `portackpt.tree`: slash-joined, with `~1` for a slash and `~0` for a tilde.
Each judge imports its framework when it is asked, so that a test can skip where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from portackpt.tree import escape


@dataclass(frozen=True)
class Bits:
    """A tensor as a framework holds it (text as an array of its bytes)."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def of_array(array: Any) -> Bits:
    values = np.asarray(array)
    if values.dtype.kind in "OSU":
        texts = [v.encode() if isinstance(v, str) else bytes(v) for v in values.reshape(-1)]
        return Bits("string", values.shape, repr(texts).encode())
    return Bits(values.dtype.name, values.shape, values.tobytes())


def nested(
    node: Any, leaf: Callable[[Any], Any], path: str | None = None
) -> Iterator[tuple[str, Any]]:
    """The leaves of dicts, lists and tuples by path."""
    if isinstance(node, (dict, list, tuple)) and not hasattr(node, "dtype"):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, item in items:
            name = escape(str(key))
            yield from nested(item, leaf, name if path is None else f"{path}/{name}")
    else:
        yield path or "", leaf(node)


def pytorch(path: Path) -> dict[str, Any]:
    import torch

    return dict(nested(torch.load(path, weights_only=True), _of_torch))


def _of_torch(value: Any) -> Any:
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    dense = value.detach().resolve_conj().resolve_neg().contiguous()
    shape = tuple(dense.shape)
    data = dense.reshape(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b""
    return Bits(str(dense.dtype).removeprefix("torch."), shape, data)


def orbax(path: Path) -> dict[str, Any]:
    import jax
    import orbax.checkpoint

    with orbax.checkpoint.StandardCheckpointer() as reader:
        restored = reader.restore(path.absolute())
    return dict(
        nested(restored, lambda v: of_array(v) if isinstance(v, (jax.Array, np.ndarray)) else v)
    )


_TF_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def tensorflow(path: Path) -> dict[str, Any]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(path))
    found = {}
    for key in sorted(reader.get_variable_to_shape_map()):
        if key == "_CHECKPOINTABLE_OBJECT_GRAPH":
            continue
        name = key
        if key.endswith(_TF_VALUE):
            parts = key.removesuffix(_TF_VALUE).split("/")
            name = "/".join(
                escape(re.sub(r"\.[.S]", lambda m: "/" if m[0] == ".S" else ".", part))
                for part in parts
            )
        found[name] = of_array(reader.get_tensor(key))
    return found


_SAFETENSORS = {
    "BOOL": "bool", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "C64": "complex64",
    **{f"F{n}": f"float{n}" for n in (16, 32, 64)},
    **{f"I{n}": f"int{n}" for n in (8, 16, 32, 64)},
    **{f"U{n}": f"uint{n}" for n in (8, 16, 32, 64)},
}  # fmt: skip


def safetensors(path: Path) -> dict[str, Any]:
    import safetensors as library

    return {
        name: Bits(_SAFETENSORS[facts["dtype"]], tuple(facts["shape"]), bytes(facts["data"]))
        for name, facts in sorted(library.deserialize(path.read_bytes()))
    }


def dcp(path: Path) -> dict[str, Any]:
    """Every item of DCP's as its planner loads it, at its place."""
    import io
    import pickle

    import torch

    metadata = pickle.loads((path / ".metadata").read_bytes())
    found: dict[str, Any] = {}
    for index, info in metadata.storage_data.items():
        with (path / info.relative_path).open("rb") as file:
            file.seek(info.offset)
            value = torch.load(io.BytesIO(file.read(info.length)), weights_only=True)
        place = "/".join(escape(str(part)) for part in metadata.planner_data[index.fqn])
        found.update(nested(value, _of_torch, place))
    return found


def flax(path: Path) -> dict[str, Any]:
    from flax import serialization

    tree = serialization.msgpack_restore(path.read_bytes())
    return dict(nested(tree, lambda v: of_array(v) if isinstance(v, np.ndarray) else v))


def npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: of_array(archive[name]) for name in archive.files}


def keras(path: Path) -> dict[str, Any]:
    """Datasets by their links, or by the key beside one that is no link; attributes as `@`."""
    import h5py

    found: dict[str, Any] = {}

    def visit(group: Any, above: str | None) -> None:
        for link, item in group.items():
            key = item.attrs.get("portackpt.key", link)
            text = bytes(key).decode() if not isinstance(key, str) else key
            name = escape(text) if above is None else f"{above}/{escape(text)}"
            if isinstance(item, h5py.Dataset):
                found[name] = of_array(item[()])
            else:
                attributes(item, name)
                visit(item, name)

    def attributes(item: Any, above: str | None) -> None:
        for attribute, value in item.attrs.items():
            if isinstance(value, (np.ndarray, np.generic)):
                name = escape(f"@{attribute}")
                found[name if above is None else f"{above}/{name}"] = of_array(value)

    with h5py.File(path) as file:
        attributes(file, None)
        visit(file, None)
    return found


JUDGES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "pytorch": pytorch,
    "orbax": orbax,
    "tensorflow": tensorflow,
    "safetensors": safetensors,
    "npz": npz,
    "keras": keras,
    "dcp": dcp,
    "flax-msgpack": flax,
}
