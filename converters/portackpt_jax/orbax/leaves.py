"""The leaves of one pytree: arrays of its store, plain numbers, text, random keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from portackpt.bytesource import ByteSource
from portackpt.dtypes import BY_NAME
from portackpt.errors import DamagedError, PortackptError
from portackpt.tensor import Tensor
from portackpt.tree import Node, Object, walk
from portackpt_jax.ocdbt.reader import MANIFEST_NAME, Database
from portackpt_jax.orbax import tree_metadata
from portackpt_jax.orbax.attributes import JAX_ARRAY, NOTHING, NUMPY_SCALAR
from portackpt_jax.orbax.directory import Directory, read_json
from portackpt_jax.orbax.distinct import pointer
from portackpt_jax.orbax.keys import key_prefix
from portackpt_jax.zarr.ahead import Ahead
from portackpt_jax.zarr.chunks import tensor
from portackpt_jax.zarr.metadata import LARGEST_METADATA, parse, spell_dtype

STRINGS = "_strings.json"
ARRAY_METADATAS = "array_metadatas"
LARGEST_TEXT = 64 << 20
METADATA_KEYS = {2: ".zarray", 3: "zarr.json"}
_SCALARS = {"int64": int, "float64": float, "bool": bool, "complex128": complex}


class Store(Protocol):
    """Where the values of arrays are, by key."""

    def read(self, key: str, limit: int) -> bytes | None: ...
    def source(self, key: str) -> ByteSource | None: ...
    def below(self, prefix: str) -> list[str]: ...


class Leaves:
    """The leaves of one pytree, by name and value type."""

    def __init__(self, root: Path, store: Store, version: int, may_lack: bool) -> None:
        self.root = root
        self.absent = 0
        self._store = store
        self._version = version
        self._may_lack = may_lack
        self._random_keys = read_random_keys(root)
        self._strings: Any = None
        self._ahead = Ahead()

    def leaf(self, name: str, value_type: str) -> Node:
        if value_type in tree_metadata.EMPTY:
            return tree_metadata.empty(value_type)
        if value_type == "string":
            return self._string(name)
        if value_type == "scalar":
            return self._scalar(name)
        generator = self._random_keys.get(name)
        if generator is not None:
            data = self.array(name, NOTHING)
            return Object("jax.random.key", entries={"data": data, "impl": generator})
        return self.array(name, JAX_ARRAY if value_type == "jax.Array" else NOTHING)

    def array(self, name: str, attributes: Mapping[str, Any]) -> Tensor:
        """The array called `name`."""
        prefix = key_prefix(name)
        where = f"{self.root}: {name!r}"
        key = prefix + METADATA_KEYS[self._version]
        data = self._store.read(key, LARGEST_METADATA)
        if data is None:
            raise DamagedError("the array is missing; the checkpoint is incomplete", where)
        return self._tensor(data, prefix, attributes, where)

    def _tensor(
        self, data: bytes, prefix: str, attributes: Mapping[str, Any], where: str
    ) -> Tensor:
        try:
            array = parse(data, self._version)
        except PortackptError as error:
            error.places = (*error.places, where)
            raise
        found, absent = tensor(
            array,
            self._store,
            prefix,
            attributes,
            may_lack=self._may_lack,
            ahead=self._ahead,
            where=where,
        )
        self.absent += absent
        return found

    def specified(self, spec: dict[Node, Node]) -> Tensor:
        """An array that T5X describes in place: a TensorStore spec with the zarr metadata."""
        where = str(self.root)
        path, metadata = spec["kvstore"].get("path"), spec.get("metadata")
        dtype = BY_NAME.get(str(spec.get("dtype")))
        if not isinstance(path, str) or not isinstance(metadata, dict):
            raise DamagedError(f"an array without path or metadata: {spec!r:.200}", where)
        path = path.rstrip("/")
        if self._store.read(f"{path}/.zarray", LARGEST_METADATA) is not None or dtype is None:
            return self.array(path, NOTHING)
        usual = {"zarr_format": 2, "dtype": spell_dtype(dtype), "fill_value": None}
        data = json.dumps(usual | metadata, default=str).encode()
        return self._tensor(data, path + "/", NOTHING, f"{self.root}: {path!r}")

    def _scalar(self, name: str) -> Node:
        """A plain number; one whose dtype Python has no type for stays a tensor."""
        found = self.array(name, NUMPY_SCALAR)
        if found.shape:
            raise DamagedError(f"a scalar of shape {found.shape}", str(self.root / name))
        kind = _SCALARS.get(found.dtype.name)
        return found if kind is None else kind(found.read()[()])

    def _string(self, name: str) -> str:
        if self._strings is None:
            self._strings = read_json(self.root / STRINGS, LARGEST_TEXT)
        found = self._strings
        for part in pointer(name) or ():
            found = found.get(part) if isinstance(found, dict) else None
        if not isinstance(found, str):
            raise DamagedError(f"no text for the leaf {name!r}", str(self.root / STRINGS))
        return found


def text_names(root: Path) -> list[str]:
    """The names of all text leaves, whatever else is known of them."""
    path = root / STRINGS
    document = read_json(path, LARGEST_TEXT) if path.is_file() else {}
    return [name for name, leaf in walk(document) if isinstance(leaf, str)]


def read_random_keys(root: Path) -> dict[str, str]:
    """Names of arrays that are the data of random keys, and the generator of each."""
    found: dict[str, str] = {}
    folder = root / ARRAY_METADATAS
    for path in sorted(folder.glob("process_*")) if folder.is_dir() else ():
        document = read_json(path, tree_metadata.LARGEST)
        entries = document.get("array_metadatas") if isinstance(document, dict) else None
        for entry in entries if isinstance(entries, list) else ():
            metadata = entry.get("array_metadata") if isinstance(entry, dict) else None
            extra = metadata.get("ext_metadata") if isinstance(metadata, dict) else None
            implementation = extra.get("random_key_impl") if isinstance(extra, dict) else None
            if isinstance(implementation, str) and isinstance(metadata, dict):
                found[str(metadata.get("param_name"))] = implementation
    return found


def open_store(root: Path, use_ocdbt: bool | None) -> Store:
    """The array store of a pytree."""
    manifest = root / MANIFEST_NAME
    if use_ocdbt is None:
        use_ocdbt = manifest.is_file()
    if not use_ocdbt:
        return Directory(root)
    if not manifest.is_file() and any(root.glob("ocdbt.process_*")):
        raise DamagedError(
            f"{MANIFEST_NAME} is missing beside the data of each process: "
            "the checkpoint was not finished",
            str(root),
        )
    return Database(root)
