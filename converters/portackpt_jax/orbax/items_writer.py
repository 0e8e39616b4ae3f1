"""A checkpoint, written: directly as one pytree, or with the items it was read with."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portackpt.errors import WriteError
from portackpt.plugins import Progress
from portackpt.storage.local import Writer, write_file
from portackpt.tensor import Tensor
from portackpt.tree import Node, walk
from portackpt_jax.orbax.items import ARRAY, COMPOSITE, FILES, JSON, JSON_FILES, PYTREE
from portackpt_jax.orbax.places import CHECKPOINT_METADATA, COMMITTED, INDICATOR
from portackpt_jax.orbax.pytree_writer import write_pytree

_HANDLERS = "orbax.checkpoint._src.handlers"
STANDARD = f"{_HANDLERS}.standard_checkpoint_handler.StandardCheckpointHandler"
JSON_HANDLER = f"{_HANDLERS}.json_checkpoint_handler.JsonCheckpointHandler"
_ITEM_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}")


def write_checkpoint(
    tree: Node,
    details: Mapping[str, Any],
    directory: Path,
    identity: str,
    progress: Progress,
    *,
    named: bool,
) -> None:
    """Write `tree` into `directory`, which is empty; `named` where it must consist of items."""
    begun = time.time_ns()
    handlers: Any = STANDARD
    if not named:
        write_pytree(tree, details, directory, identity, progress)
    else:
        tree, composite = _as_items(tree, details)
        _write_item(tree, composite, directory, identity, progress)
        handlers = _handlers(composite)
        if details.get("indicator"):
            write_file(directory / INDICATOR, b"")
    document = {
        "item_handlers": handlers,
        "metrics": details.get("checkpoint_metrics", {}),
        "performance_metrics": {},
        "init_timestamp_nsecs": begun,
        "commit_timestamp_nsecs": time.time_ns(),
        "custom_metadata": details.get("checkpoint_custom_metadata", {}),
    }
    write_file(directory / CHECKPOINT_METADATA, json.dumps(document).encode())
    write_file(directory / COMMITTED, b"Checkpoint commit was successful")


def _as_items(tree: Node, details: Mapping[str, Any]) -> tuple[Node, Mapping[str, Any]]:
    """The tree as items by name, those it was read with if it still has them."""
    items = details.get("items")
    if details.get("kind") == COMPOSITE and isinstance(items, dict):
        if isinstance(name := details.get("unnamed"), str):
            return {name: tree}, details
        if isinstance(tree, dict) and tree and tree.keys() <= items.keys():
            return tree, details
    alone = {} if items else {**details, "kind": PYTREE}
    return {"default": tree}, {"kind": COMPOSITE, "items": {"default": alone}}


def _handlers(details: Mapping[str, Any]) -> dict[str, str]:
    """The type names that were read, kept as data; Orbax's own for what has none."""
    found = details.get("checkpoint_item_handlers")
    if isinstance(found, dict) and found:
        return found
    usual = {PYTREE: STANDARD, JSON: JSON_HANDLER}
    kinds = {name: item.get("kind", PYTREE) for name, item in details["items"].items()}
    return {name: usual[kind] for name, kind in kinds.items() if kind in usual}


def _write_item(
    node: Node, details: Mapping[str, Any], directory: Path, identity: str, progress: Progress
) -> None:
    kind = details.get("kind", PYTREE)
    if kind == COMPOSITE and isinstance(node, dict):
        items = details.get("items", {})
        for name, item in node.items():
            if not isinstance(name, str) or not _ITEM_NAME.fullmatch(name):
                raise WriteError(f"the name of an item cannot be {name!r}")
            (directory / name).mkdir()
            _write_item(item, items.get(name, {}), directory / name, f"{identity}/{name}", progress)
    elif kind == JSON and _is_plain(node):
        name = details.get("file")
        file = name if name in JSON_FILES else JSON_FILES[0]
        write_file(directory / file, json.dumps(node).encode())
    elif kind == FILES and _is_files(node):
        _write_files(node, directory, progress)
    else:
        tree = {"checkpoint": node} if kind == ARRAY else node
        write_pytree(tree, details, directory, identity, progress, plain=kind == ARRAY)


def _is_plain(node: Node) -> bool:
    return all(
        isinstance(leaf, (bool, int, float, str, dict, list)) or leaf is None
        for _, leaf in walk(node)
    )


def _is_files(node: Node) -> bool:
    return isinstance(node, dict) and all(
        isinstance(value, Tensor)
        and isinstance(name, str)
        and all(_ITEM_NAME.fullmatch(part) for part in name.split("/"))
        for name, value in node.items()
    )


def _write_files(node: dict[str, Tensor], directory: Path, progress: Progress) -> None:
    for name, tensor in node.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with Writer(path) as file:
            for piece in tensor.pieces():
                progress(file.write(piece))
