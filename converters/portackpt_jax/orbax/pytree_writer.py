"""One pytree, written: an OCDBT database of uncompressed zarr arrays, and its metadata."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Protocol

import msgspec

from portackpt.dtypes import DType
from portackpt.errors import WriteError
from portackpt.plugins import Progress
from portackpt.storage.local import Writer, write_file
from portackpt.streaming import read_ahead
from portackpt.tensor import Tensor
from portackpt.tree import Node
from portackpt_jax.ocdbt.writer import INLINE, DatabaseWriter
from portackpt_jax.orbax import tree_metadata
from portackpt_jax.orbax.directory import DirectoryWriter
from portackpt_jax.orbax.leaves import ARRAY_METADATAS, STRINGS
from portackpt_jax.orbax.spelling import Leaf, key_prefix, leaves, number, path_of
from portackpt_jax.zarr.metadata import spell_version_2


class Target(Protocol):
    """Takes values by key."""

    def put(self, key: str, value: bytes) -> None: ...
    def begin(self, key: str) -> Writer: ...
    def end(self) -> None: ...


LARGEST_CHUNK = 64 << 20
SHARDING = "_sharding"
# replicated over whatever devices the program has; other programs run on other machines
_ANYWHERE = json.dumps({
    "sharding_type": "NamedSharding", "shape": [-1], "axis_names": ["devices"],
    "partition_spec": [],
})  # fmt: skip


def write_pytree(
    tree: Node,
    details: Mapping[str, Any],
    directory: Path,
    identity: str,
    progress: Progress,
    *,
    plain: bool = False,
) -> None:
    """Write `tree` into `directory`, which exists and is empty; `plain` is without a database."""
    found = list(leaves(tree))
    if plain:
        _write_arrays(found, DirectoryWriter(directory), progress)
    else:
        with DatabaseWriter(directory, identity) as database:
            _write_arrays(found, database, progress)
    _write_metadata(found, details, directory, plain)
    arrays = [leaf for leaf in found if leaf.value_type == "jax.Array"]
    if arrays:
        _write_array_metadata(arrays, directory)
    texts = [leaf for leaf in found if leaf.value_type == "string"]
    if texts:
        write_file(directory / STRINGS, msgspec.json.encode(_pointers(texts)))


def _write_arrays(found: list[Leaf], database: Target, progress: Progress) -> None:
    tensors: list[tuple[str, Tensor]] = []
    for leaf in found:
        prefix = key_prefix(leaf.name)
        if isinstance(leaf.value, Tensor):
            tensors.append((prefix, leaf.value))
        elif leaf.value_type == "scalar":
            dtype, data = number(leaf.value)
            database.put(f"{prefix}.zarray", _zarray(dtype, (), ()))
            database.put(f"{prefix}0", data)
    chunks: _Chunks | None = None
    last = -1
    for index, piece in read_ahead([tensor for _, tensor in tensors]):
        if index != last:
            chunks, last = _Chunks(*tensors[index], database), index
        assert chunks is not None
        chunks.write(piece)
        progress(piece.nbytes)


@lru_cache(1024)
def _zarray(dtype: DType, shape: tuple[int, ...], chunk: tuple[int, ...]) -> bytes:
    return spell_version_2(dtype, shape, chunk)


class _Chunks:
    """The bytes of one array, cut into chunks as they come."""

    def __init__(self, prefix: str, tensor: Tensor, database: Target) -> None:
        self._prefix = prefix
        self._database = database
        chunk = chunk_shape(tensor.shape, tensor.dtype.itemsize)
        database.put(f"{prefix}.zarray", _zarray(tensor.dtype, tensor.shape, chunk))
        self._rest = tensor.nbytes
        self._each = prod(chunk) * tensor.dtype.itemsize
        grid = [range(-(-n // size)) for n, size in zip(tensor.shape, chunk, strict=True)]
        self._keys = product(*grid)
        # where the divided axis ends, the last chunk is filled up with zeros
        axis = next((i for i, size in enumerate(chunk) if size > 1), 0)
        self._run = prod(tensor.shape[axis:]) * tensor.dtype.itemsize
        self._in_run = 0
        self._open: Writer | None = None
        self._in_chunk = 0

    def write(self, piece: memoryview) -> None:
        if self._rest == piece.nbytes <= min(INLINE, self._each) and self._open is None:
            if piece.nbytes:
                self._database.put(self._key(), bytes(piece))
            self._rest = 0
            return
        while piece.nbytes:
            if self._open is None:
                self._open, self._in_chunk = self._database.begin(self._key()), 0
            count = min(piece.nbytes, self._each - self._in_chunk, self._run - self._in_run)
            self._open.write(piece[:count])
            piece = piece[count:]
            self._in_chunk += count
            self._in_run = (self._in_run + count) % self._run
            self._rest -= count
            if self._in_chunk == self._each or not self._in_run:
                self._end(self._open)

    def _key(self) -> str:
        return self._prefix + (".".join(map(str, next(self._keys))) or "0")

    def _end(self, writer: Writer) -> None:
        for start in range(self._in_chunk, self._each, 1 << 20):
            writer.write(bytes(min(1 << 20, self._each - start)))
        self._database.end()
        self._open = None


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Chunks that follow each other in C order: the whole array, or about equal parts of it."""
    if prod(shape) * itemsize <= LARGEST_CHUNK:
        return tuple([max(n, 1) for n in shape])
    axis = 0
    while prod(shape[axis + 1 :]) * itemsize > LARGEST_CHUNK:
        axis += 1
    rows = LARGEST_CHUNK // (prod(shape[axis + 1 :]) * itemsize)
    parts = -(-shape[axis] // rows)
    return (*((1,) * axis), -(-shape[axis] // parts), *shape[axis + 1 :])


def _write_metadata(
    found: list[Leaf], details: Mapping[str, Any], directory: Path, plain: bool
) -> None:
    encode = msgspec.json.Encoder().encode
    with Writer(directory / tree_metadata.FILE) as file:
        file.write(b'{"tree_metadata":{')
        for number_, leaf in enumerate(found):
            entry = encode({
                "key_metadata": [{"key": key, "key_type": kind} for key, kind in leaf.path],
                "value_metadata": _value_metadata(leaf),
            })  # fmt: skip
            key = encode(str(tuple([key for key, _ in leaf.path])))
            file.write(b"%s%s:%s" % (b"," if number_ else b"", key, entry))
        rest = {
            "use_ocdbt": not plain,
            "use_zarr3": False,
            "store_array_data_equal_to_fill_value": True,
            "custom_metadata": details.get("custom_metadata"),
        }
        rich = details.get("value_metadata_tree")
        if rich and details.get("leaves") == tree_metadata.digest(leaf.path for leaf in found):
            rest["value_metadata_tree"] = rich
        file.write(b"}," + json.dumps(rest).encode()[1:])


def _value_metadata(leaf: Leaf) -> dict[str, Any]:
    found: dict[str, Any] = {
        "value_type": leaf.value_type,
        "skip_deserialize": leaf.value_type in tree_metadata.EMPTY,
    }
    if leaf.value_type == "jax.Array":
        found["write_shape"] = leaf.value.shape
    return found


def _write_array_metadata(arrays: Iterable[Leaf], directory: Path) -> None:
    """Which arrays are random keys, and where they may be placed."""
    entries = []
    shardings = {}
    for leaf in arrays:
        extra = None if leaf.generator is None else {"random_key_impl": leaf.generator}
        chunk = chunk_shape(leaf.value.shape, leaf.value.dtype.itemsize)
        entries.append({"array_metadata": {
            "param_name": leaf.name, "write_shape": leaf.value.shape, "chunk_shape": chunk,
            "ext_metadata": extra,
        }})  # fmt: skip
        shardings[urlsafe_b64encode(leaf.name.encode()).decode()] = _ANYWHERE
    (directory / ARRAY_METADATAS).mkdir()
    write_file(
        directory / ARRAY_METADATAS / "process_0", msgspec.json.encode({"array_metadatas": entries})
    )
    write_file(directory / SHARDING, msgspec.json.encode(shardings))


def _pointers(texts: Iterable[Leaf]) -> dict[str, Any]:
    """Text leaves at the JSON pointers (RFC 6901) where Orbax looks for them."""
    root: dict[str, Any] = {}
    for leaf in texts:
        parts = leaf.name.split("/")
        if any(part.replace("~0", "").replace("~1", "").count("~") for part in parts):
            raise WriteError(
                f"Orbax cannot keep text under the name {path_of(leaf)!r}: it takes the name for a "
                "JSON pointer, in which '~' must be '~0' or '~1'; rename it"
            )
        *outer, last = [part.replace("~1", "/").replace("~0", "~") for part in parts]
        node: Any = root
        for part in outer:
            node = node.setdefault(part, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last in node:
            raise WriteError(
                f"Orbax cannot keep text under {path_of(leaf)!r} beside another text whose name "
                "starts the same; rename one of them"
            )
        node[last] = leaf.value
    return root
