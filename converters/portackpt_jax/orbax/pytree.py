"""One pytree, opened: a directory with `_METADATA`, an array store, and text beside it.

_METADATA                     the leaves (see `tree_metadata`)
manifest.ocdbt, d/, ocdbt.*/  arrays in an OCDBT database, or NAME/ for each, plain zarr
array_metadatas/process_N     {"array_metadatas": [{"array_metadata": {"param_name",
                               "ext_metadata": {"random_key_impl"}}}]}: which arrays are keys
_strings.json                 text leaves, at the JSON pointer "/" + name
_sharding                     placement on devices: not part of the values, not read
checkpoint                    before 2024: a msgpack file of the tree (see `aggregate`)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portackpt.errors import DamagedError
from portackpt.tree import Node
from portackpt_jax.orbax import aggregate, tree_metadata
from portackpt_jax.orbax.attributes import NOTHING
from portackpt_jax.orbax.keys import MAPPING, Key, joined_name
from portackpt_jax.orbax.leaves import METADATA_KEYS, Leaves, open_store, text_names

AGGREGATE = "checkpoint"


@dataclass(slots=True)
class Opened:
    """A tree, what is needed to write it again, and what a reader must know."""

    tree: Node
    details: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def open_pytree(root: Path) -> Opened:
    """The pytree in the directory `root`."""
    metadata = root / tree_metadata.FILE
    values = root / AGGREGATE
    tree = aggregate.read(values) if values.is_file() else None
    if metadata.is_file():
        return _by_metadata(root, tree_metadata.read(metadata), tree)
    return _by_names(root) if tree is None else _by_aggregate(root, tree)


def _by_metadata(root: Path, document: tree_metadata.Document, aggregated: Node) -> Opened:
    version = 3 if document.use_zarr3 else 2
    leaves = Leaves(
        root, open_store(root, document.use_ocdbt), version,
        not document.store_array_data_equal_to_fill_value,
    )  # fmt: skip
    where = str(root / tree_metadata.FILE)

    def values() -> Iterator[tuple[tuple[Key, ...], Node]]:
        for path, value in tree_metadata.paths(document, where):
            found = _look_up(aggregated, path) if aggregated is not None else None
            if found is not None and placeholder(found) is None:
                yield path, found
            else:
                yield path, leaves.leaf(joined_name(path), value.value_type)

    opened = Opened(tree_metadata.build(values(), where))
    if document.custom_metadata is not None:
        opened.details["custom_metadata"] = document.custom_metadata
    if isinstance(document.value_metadata_tree, str):
        # the same leaves in their tuples and named tuples; good only while the leaves are the same
        opened.details["value_metadata_tree"] = document.value_metadata_tree
        found = tree_metadata.paths(document, where)
        opened.details["leaves"] = tree_metadata.digest(path for path, _ in found)
    return _noted(opened, leaves)


def _look_up(tree: Node, path: tuple[Key, ...]) -> Node:
    for key, _ in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _by_aggregate(root: Path, tree: Node) -> Opened:
    """Before there was `_METADATA`: the aggregate file is the tree, and names the arrays."""
    leaves = Leaves(root, open_store(root, None), 2, True)

    def resolve(node: Node) -> Node:
        name = placeholder(node)
        if name is not None:
            return leaves.array(name, NOTHING)
        if isinstance(node, dict):
            if node.get("driver") == "zarr" and isinstance(node.get("kvstore"), dict):
                return leaves.specified(node)
            return {key: resolve(item) for key, item in node.items()}
        if isinstance(node, (list, tuple)):
            return type(node)([resolve(item) for item in node])
        return node

    return _noted(Opened(resolve(tree)), leaves)


def placeholder(node: Node) -> str | None:
    """The name of the array that a text stands for; None where it is just text."""
    if isinstance(node, str):
        for prefix in ("PLACEHOLDER://", "AGGREGATED://"):
            if node.startswith(prefix):
                return node[len(prefix) :]
    return None


def _by_names(root: Path) -> Opened:
    """Neither metadata nor aggregate: the names of the arrays are all there is."""
    store = open_store(root, None)
    keys = store.below("")
    version = 3 if any(key.rpartition("/")[2] == METADATA_KEYS[3] for key in keys) else 2
    suffix = METADATA_KEYS[version]
    names = [key[: -len(suffix)].rstrip("/") for key in keys if key.rpartition("/")[2] == suffix]
    if not names:
        raise DamagedError(
            f"{tree_metadata.FILE} is missing, and there are no arrays with {suffix}: "
            "what the checkpoint holds is not known",
            str(root),
        )
    leaves = Leaves(root, store, version, True)
    kinds = [*[(name, "np.ndarray") for name in names],
             *[(name, "string") for name in text_names(root)]]  # fmt: skip
    tree = tree_metadata.build(
        (
            (tuple([(part, MAPPING) for part in name.split(".")]), leaves.leaf(name, kind))
            for name, kind in kinds
        ),
        str(root),
    )
    opened = Opened(tree)
    opened.notes.append(
        f"{tree_metadata.FILE} is missing: names are split at their dots, lists appear as dicts, "
        "empty containers and the types of plain values are not known"
    )
    return _noted(opened, leaves)


def _noted(opened: Opened, leaves: Leaves) -> Opened:
    if leaves.absent:
        opened.notes.append(
            f"{leaves.absent} chunks are absent and read as the fill value, as the format has it"
        )
    return opened
