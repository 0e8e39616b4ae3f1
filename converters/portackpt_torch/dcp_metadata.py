"""The `.metadata` of a DCP directory: what tensors there are, in what chunks, where in what file.

    Metadata(state_dict_metadata={FQN: TensorStorageMetadata(TensorProperties(dtype, …), size,
                                       [ChunkStorageMetadata(offsets, sizes), …])
                                     | BytesStorageMetadata()},
             planner_data={FQN: (name or index, …)},
             storage_data={MetadataIndex(FQN, offset): _StorageInfo(file, offset, length)})

It is a pickle, of which only the shapes above are taken. Source: torch/distributed/checkpoint/
{metadata,filesystem,default_planner}.py; before torch 2.3 some classes stood in
torch/distributed/_shard, with fields of other names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from portackpt.box import Box
from portackpt.dtypes import DType
from portackpt.errors import DamagedError, InputError, RefusedError, UnsupportedError
from portackpt_torch.pickle_reader import read_pickle
from portackpt_torch.pickled import Call, Global, Raw
from portackpt_torch.tensors import dtype_of, short, size

Place: TypeAlias = tuple[str | int, ...]
"""Where an item stands in the tree: names of dicts, indices of lists."""
MAX_BYTES = 1 << 30
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ +=@-]{0,199}")


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of a file of the directory."""

    file: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A box of a tensor, and where it is kept."""

    box: Box
    extent: Extent


@dataclass(frozen=True, slots=True)
class TensorItem:
    dtype: DType
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]
    requires_grad: bool = False


@dataclass(frozen=True, slots=True)
class BytesItem:
    """An object that torch.save wrote."""

    extent: Extent


Item: TypeAlias = TensorItem | BytesItem


@dataclass(frozen=True, slots=True)
class Metadata:
    """`items` by their flat names, `paths` where they stand in the tree (not all need one)."""

    items: Mapping[str, Item]
    paths: Mapping[str, Place]
    version: str | None = None
    document: bytes | None = None
    """What portackpt kept besides, where it wrote the directory (see `dcp_document`)."""


def parse(data: bytes) -> Metadata:
    """The metadata that the pickle describes. Raises `InputError`."""
    fields = _fields(read_pickle(data), "Metadata")
    described = _dict(fields, "state_dict_metadata")
    extents = _extents(_dict(fields, "storage_data"))
    items: dict[str, Item] = {}
    name: Raw = None
    try:
        for name, about in described.items():
            if type(name) is not str:
                raise DamagedError(f"an item's name is text, found {short(name)}")
            items[name] = _item(name, about, extents)
    except InputError as error:
        error.places = (*error.places, f"item {name!r:.200}")
        raise
    paths = fields.get("planner_data")
    version, document = fields.get("version"), fields.get("portackpt")
    return Metadata(
        items,
        _paths(paths, items) if isinstance(paths, dict) else {},
        version if isinstance(version, str) else None,
        document if isinstance(document, bytes) else None,
    )


def _fields(raw: Raw, *kinds: str) -> dict[str, Raw]:
    """The attributes of an object of one of the classes `kinds`, whatever their module."""
    if _class(raw) not in kinds or raw.args:
        raise DamagedError(f"expected {' or '.join(kinds)}, found {_class(raw) or short(raw)}")
    state = {} if raw.state is None else raw.state
    if type(state) is tuple and len(state) == 2 and state[0] is None:
        state = state[1]  # of a class with slots
    if type(state) is not dict or any(type(name) is not str for name in state):
        raise DamagedError(f"the fields of {_class(raw)} are a dict, found {short(state)}")
    return state


def _class(raw: Raw) -> str:
    """The name of the class of DCP's that `raw` is an object of; empty for anything else."""
    function = raw.function if type(raw) is Call else None
    if type(function) is Global and function.module.startswith("torch.distributed."):
        return function.name
    return ""


def _dict(fields: dict[str, Raw], name: str) -> dict[Raw, Raw]:
    value = fields.get(name)
    if type(value) is not dict:
        raise DamagedError(f"{name} is a dict, found {short(value)}")
    return value


_Key: TypeAlias = tuple[str, tuple[int, ...] | None]


def _extents(raw: dict[Raw, Raw]) -> dict[_Key, Extent]:
    extents: dict[_Key, Extent] = {}
    for index, info in raw.items():
        fields = _fields(index, "MetadataIndex")
        name, offset = fields.get("fqn"), fields.get("offset")
        if type(name) is not str:
            raise DamagedError(f"an index has the name of an item, found {short(name)}")
        key = (name, None if offset is None else size(offset))
        if key in extents:
            raise RefusedError(f"two places are given for the chunk of {name!r} at {key[1]}")
        extents[key] = _extent(_fields(info, "_StorageInfo"))
    return extents


def _extent(fields: dict[str, Raw]) -> Extent:
    file = fields.get("relative_path")
    if type(file) is not str or not is_file_name(file):
        raise RefusedError(f"a file is a plain name in the directory, found {short(file)}")
    if fields.get("transform_descriptors"):
        raise UnsupportedError(
            f"written through the extensions {short(fields['transform_descriptors'])} of DCP; "
            "load it with torch and save it without them"
        )
    return Extent(file, _count(fields.get("offset")), _count(fields.get("length")))


def is_file_name(name: str) -> bool:
    """True for a plain name, which means a file in the directory and nowhere else."""
    return _FILE.fullmatch(name) is not None


def _count(raw: Raw) -> int:
    if type(raw) is not int or not 0 <= raw < 1 << 63:
        raise DamagedError(f"an offset or length of {short(raw)}")
    return raw


def _item(name: str, raw: Raw, extents: Mapping[_Key, Extent]) -> Item:
    fields = _fields(raw, "TensorStorageMetadata", "BytesStorageMetadata")
    if _class(raw) == "BytesStorageMetadata":
        extent = extents.get((name, None))
        if extent is None:
            raise DamagedError("no place is given for it")
        return BytesItem(extent)
    dtype, requires_grad = _properties(fields.get("properties"))
    shape = size(fields.get("size"))
    chunks = fields.get("chunks")
    if type(chunks) is not list:
        raise DamagedError(f"chunks are a list, found {short(chunks)}")
    boxes = dict.fromkeys(map(_box, chunks))  # a replica is listed once more
    return TensorItem(dtype, shape, tuple(_chunks(name, boxes, extents)), requires_grad)


def _properties(raw: Raw) -> tuple[DType, bool]:
    """(dtype, requires_grad): of the state, a tuple, or of the fields in old files."""
    if _class(raw) != "TensorProperties":
        raise DamagedError(f"expected TensorProperties, found {short(raw)}")
    state = raw.state
    if type(state) is dict:
        state = (state.get("dtype"), None, state.get("requires_grad"))
    if type(state) is not tuple or len(state) < 3:
        raise DamagedError(f"TensorProperties of {short(state)}")
    return dtype_of(state[0]), state[2] is True


def _box(raw: Raw) -> Box:
    fields = _fields(raw, "ChunkStorageMetadata", "ShardMetadata")
    start = fields.get("offsets", fields.get("shard_offsets"))
    extent = fields.get("sizes", fields.get("shard_sizes"))
    return Box(*(size(tuple(x) if type(x) is list else x) for x in (start, extent)))


def _chunks(
    name: str, boxes: Mapping[Box, None], extents: Mapping[_Key, Extent]
) -> Iterator[Chunk]:
    for box in boxes:
        extent = extents.get((name, box.start))
        if extent is None and len(boxes) == 1:
            extent = extents.get((name, None))
        if extent is None:
            raise DamagedError(f"no place is given for the chunk at {box.start}")
        yield Chunk(box, extent)


def _paths(raw: dict[Raw, Raw], items: Mapping[str, Item]) -> dict[str, Place]:
    paths: dict[str, Place] = {}
    limit = 4 * len(items) + 1024
    for name, path in raw.items():
        if type(name) is not str or type(path) is not tuple or not path:
            raise DamagedError(f"the path of item {short(name)} is {short(path)}")
        for part in path:
            if type(part) is int and not 0 <= part < limit:
                raise RefusedError(f"index {part} in a tree of {len(items)} items",
                                   f"item {name!r}")  # fmt: skip
            if type(part) not in (str, int):
                raise DamagedError(f"a path of {short(path)}", f"item {name!r}")
        paths[name] = path
    return paths
