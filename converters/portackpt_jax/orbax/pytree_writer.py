"""One pytree, written: an OCDBT database of uncompressed zarr arrays, and its metadata."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Protocol

import msgspec

from portackpt.collector import paused_collector
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
from portackpt_jax.orbax.distinct import Pointers, pointer
from portackpt_jax.orbax.keys import Key, key_prefix, spell
from portackpt_jax.orbax.leaves import ARRAY_METADATAS, STRINGS
from portackpt_jax.orbax.spelling import Leaf, leaves, number
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
    with paused_collector():
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
            database.put(f"{prefix}.zarray", _divide(dtype, ()).zarray)
            database.put(f"{prefix}0", data)
    chunks: _Chunks | None = None
    last = -1
    for index, piece in read_ahead([tensor for _, tensor in tensors]):
        if index != last:
            prefix, tensor = tensors[index]
            division = _divide(tensor.dtype, tensor.shape)
            database.put(f"{prefix}.zarray", division.zarray)
            chunks, last = _Chunks(prefix, division, database), index
        if piece.nbytes == tensor.nbytes <= INLINE and division.each == tensor.nbytes:
            database.put(prefix + division.first, bytes(piece))
        elif piece.nbytes:
            assert chunks is not None
            chunks.write(piece)
        progress(piece.nbytes)


@dataclass(frozen=True, slots=True)
class _Division:
    """How an array is cut: chunks of `each` bytes; after each `run` bytes the last is filled up."""

    zarray: bytes
    first: str
    grid: tuple[int, ...]
    each: int
    run: int


@lru_cache(1024)
def _divide(dtype: DType, shape: tuple[int, ...]) -> _Division:
    chunk = chunk_shape(shape, dtype.itemsize)
    axis = next((i for i, size in enumerate(chunk) if size > 1), 0)
    return _Division(
        spell_version_2(dtype, shape, chunk),
        ".".join(["0"] * len(shape)) or "0",
        tuple([-(-n // size) for n, size in zip(shape, chunk, strict=True)]),
        prod(chunk) * dtype.itemsize,
        prod(shape[axis:]) * dtype.itemsize,
    )


class _Chunks:
    """The bytes of one array, cut into chunks as they come."""

    __slots__ = ("_database", "_division", "_in_chunk", "_in_run", "_keys", "_open", "_prefix")

    def __init__(self, prefix: str, division: _Division, database: Target) -> None:
        self._prefix = prefix
        self._division = division
        self._database = database
        self._keys: Iterator[tuple[int, ...]] | None = None
        self._open: Writer | None = None
        self._in_chunk = 0
        self._in_run = 0

    def write(self, piece: memoryview) -> None:
        each, run = self._division.each, self._division.run
        while piece.nbytes:
            if self._open is None:
                self._open, self._in_chunk = self._database.begin(self._key()), 0
            count = min(piece.nbytes, each - self._in_chunk, run - self._in_run)
            self._open.write(piece[:count])
            piece = piece[count:]
            self._in_chunk += count
            self._in_run = (self._in_run + count) % run
            if self._in_chunk == each or not self._in_run:
                self._end(self._open)

    def _key(self) -> str:
        if self._keys is None:
            self._keys = product(*map(range, self._division.grid))
        return self._prefix + (".".join(map(str, next(self._keys))) or "0")

    def _end(self, writer: Writer) -> None:
        for start in range(self._in_chunk, self._division.each, 1 << 20):
            writer.write(bytes(min(1 << 20, self._division.each - start)))
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
    keys: dict[Key, bytes] = {}
    with Writer(directory / tree_metadata.FILE) as file:
        file.write(b'{"tree_metadata":{')
        for index, leaf in enumerate(found):
            spelled = []
            for key in leaf.path:
                if key not in keys:
                    keys[key] = encode({"key": key[0], "key_type": key[1]})
                spelled.append(keys[key])
            file.write(b'%s%s:{"key_metadata":[%s],"value_metadata":%s}' % (
                b"," if index else b"",
                encode(str(tuple([key for key, _ in leaf.path]))),
                b",".join(spelled),
                encode(_value_metadata(leaf)),
            ))  # fmt: skip
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
    """Text leaves at the JSON pointers where Orbax looks for them."""
    root: dict[str, Any] = {}
    taken = Pointers()
    for leaf in texts:
        parts = pointer(leaf.name)
        if parts is None or not taken.add(parts):
            raise WriteError(
                f"Orbax cannot keep text under the name {spell(leaf.path)!r}, which it takes for a "
                "JSON pointer: there '~' must be '~0' or '~1', and no pointer may lead through "
                "another text; rename it"
            )
        *outer, last = parts
        node = root
        for part in outer:
            node = node.setdefault(part, {})
        node[last] = leaf.value
    return root
