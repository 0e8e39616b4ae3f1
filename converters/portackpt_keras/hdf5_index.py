"""The index of an HDF5 file: groups, datasets, attributes as flat records. Runs in the child.

Records come parents first, in the order of the links:

    ["g", parent, name, attributes]             a group; `parent` is the number of a record
    ["d", parent, name, attributes, dataset]    a dataset
    ["a", parent, name, number]                 another name of the dataset in record `number`

A dataset is a dict: `type`, `size`, `big` (see `hdf5_types.Held`), `shape` (None: a null
dataspace), `nbytes`, `offset` where its bytes lie in the file as they are (else they are asked
for), and `value` where it is one string. An attribute is `[name, type, size, big, shape, bytes]`;
strings are a list of byte strings.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from h5py import h5, h5a, h5d, h5g, h5l, h5o, h5p, h5s

from portackpt_keras.hdf5_types import STRING, TEXT, Held, UnreadableError, held
from portackpt_keras.hdf5_values import read_strings, string_bytes

DEEPEST = 256
MOST = 4_000_000
"""Records, at most."""
LARGEST_ATTRIBUTES = 256 << 20
LARGEST_VALUE = 16 << 20
LARGEST_CHUNK = 256 << 20
EXPANSION = 1100
"""Deflate expands a byte to 1032 at most."""
UNWRITTEN = 64 << 20
"""Bytes that a dataset may have without any of them in the file (they are its fill value)."""

_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
Record = list[Any]


def records(file: Any) -> Iterator[Record]:
    """The records of all that an open `h5py.h5f.FileID` holds, the root group first."""
    return _Walk().all(file)


class _Walk:
    def __init__(self) -> None:
        self._count = 0
        self._attribute_bytes = 0
        self._groups: set[int] = set()
        self._datasets: dict[int, int] = {}

    def all(self, file: Any) -> Iterator[Record]:
        root = h5g.open(file, b"/")
        yield self._group(root, h5o.get_info(root).addr, -1, b"")
        stack = [(0, b"", root, iter(_links(root)))]
        while stack:
            parent, place, group, links = stack[-1]
            link = next(links, None)
            if link is None:
                stack.pop()
                continue
            name, kind, address = link
            number = self._count
            try:
                record, child = self._open(group, name, kind, address, parent)
                if child is not None and len(stack) >= DEEPEST:
                    raise UnreadableError("refused", f"groups deeper than {DEEPEST}")
                below = None if child is None else iter(_links(child))
            except Exception as error:
                raise located(error, f"{_text(place)}/{_text(name)}") from error
            if below is not None:
                stack.append((number, place + b"/" + name, child, below))
            yield record

    def _open(
        self, group: Any, name: bytes, kind: int, address: int, parent: int
    ) -> tuple[Record, Any]:
        """The record of what a link leads to, and the group where it is one."""
        if kind != h5l.TYPE_HARD:
            told = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "a link to another file"}
            raise UnreadableError("refused", f"{told.get(kind, 'a link of a user-defined kind')}: "
                             "a checkpoint has none")  # fmt: skip
        known = self._datasets.get(address)
        if known is not None:
            self._next()
            return ["a", parent, name, known], None
        item = h5o.open(group, name)
        if isinstance(item, h5g.GroupID):
            return self._group(item, address, parent, name), item
        if not isinstance(item, h5d.DatasetID):
            raise UnreadableError("unsupported", "a named datatype")
        self._datasets[address] = self._count
        self._next()
        return ["d", parent, name, self._attributes(item), _dataset(item)], None

    def _group(self, group: Any, address: int, parent: int, name: bytes) -> Record:
        if address in self._groups:
            raise UnreadableError(
                "refused", "a group that was met under another name: a loop, or a bomb"
            )
        self._groups.add(address)
        self._next()
        return ["g", parent, name, self._attributes(group)]

    def _next(self) -> None:
        self._count += 1
        if self._count > MOST:
            raise UnreadableError("refused", f"more than {MOST} groups and datasets")

    def _attributes(self, item: Any) -> list[list[Any]]:
        found: list[list[Any]] = []
        for index in range(h5a.get_num_attrs(item)):
            attribute = h5a.open(item, index=index)
            try:
                found.append([attribute.name, *self._attribute(attribute)])
            except Exception as error:
                raise located(error, f"@{_text(attribute.name)}") from error
        return found

    def _attribute(self, attribute: Any) -> list[Any]:
        kind = held(attribute.get_type())
        space = attribute.get_space()
        if space.get_simple_extent_type() == h5s.NULL:
            return [kind.name, kind.size, kind.big, None, b""]
        shape = space.shape
        self._attribute_bytes += prod(shape) * (kind.size or 16)
        if self._attribute_bytes > LARGEST_ATTRIBUTES:
            raise UnreadableError("refused", f"attributes of more than {LARGEST_ATTRIBUTES} bytes")
        if kind.name in (TEXT, STRING):
            values = read_strings(attribute, kind, shape)
            self._attribute_bytes += sum(map(len, values))
            return [kind.name, kind.size, False, shape, values]
        array = np.empty(shape, f"V{kind.size}")
        attribute.read(array, mtype=attribute.get_type())
        return [kind.name, kind.size, kind.big, shape, array.tobytes()]


def located(error: Exception, place: str) -> Exception:
    """`error` with the place in the file where it was met."""
    if isinstance(error, UnreadableError):
        return UnreadableError(error.kind, f"{place}: {error.message}")
    if isinstance(error, (MemoryError, RecursionError)):
        return error
    return UnreadableError("damaged", f"{place}: HDF5 cannot read it: {error}")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _links(group: Any) -> list[tuple[bytes, int, int]]:
    """(name, kind, address) of each link: in the order of their making if kept, else by name."""
    found: list[tuple[bytes, int, int]] = []

    def note(name: bytes, info: Any) -> None:
        if len(found) > MOST:
            raise UnreadableError("refused", f"a group of more than {MOST} links")
        found.append((name, info.type, info.u))

    tracked = group.get_create_plist().get_link_creation_order() & h5p.CRT_ORDER_TRACKED
    order = h5.INDEX_CRT_ORDER if tracked else h5.INDEX_NAME
    group.links.iterate(note, idx_type=order, order=h5.ITER_INC, info=True)
    return found


def _dataset(dataset: Any) -> dict[str, Any]:
    kind = held(dataset.get_type())
    found: dict[str, Any] = {"type": kind.name, "size": kind.size, "big": kind.big}
    space = dataset.get_space()
    if space.get_simple_extent_type() == h5s.NULL:
        return found | {"shape": None, "nbytes": 0}
    shape = found["shape"] = space.shape
    nbytes = found["nbytes"] = prod(shape) * (kind.size or 16)
    stored = dataset.get_storage_size()
    # only contiguous datasets that were written have an offset
    offset = None if kind.name in (TEXT, STRING) else dataset.get_offset()
    if offset is None:
        _check_storage(dataset.get_create_plist(), kind)
        if nbytes > EXPANSION * stored + UNWRITTEN:
            raise UnreadableError("refused", f"claims {nbytes} bytes, {stored} are stored")
        if kind.name in (TEXT, STRING):
            found["nbytes"] = string_bytes(dataset, kind, shape)
            if not shape and found["nbytes"] <= LARGEST_VALUE:
                found["value"] = read_strings(dataset, kind, (), ())[0]
        return found
    if stored != nbytes:
        raise UnreadableError("damaged", f"{nbytes} bytes of values, {stored} are stored")
    found["offset"] = offset
    return found


def _check_storage(plan: Any, kind: Held) -> None:
    """Refuse values that lie elsewhere, and chunks that cannot be decoded here."""
    layout = plan.get_layout()
    if layout == h5d.VIRTUAL:
        raise UnreadableError("refused", "a virtual dataset: its values lie elsewhere")
    if plan.get_external_count():
        raise UnreadableError("refused", "a dataset whose values lie in another file")
    if layout != h5d.CHUNKED:
        return
    for index in range(plan.get_nfilters()):
        number, _, _, name = plan.get_filter(index)
        if number not in _FILTERS:
            told = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
            known = ", ".join(_FILTERS.values())
            raise UnreadableError("unsupported", f"compressed by filter {number} ({told}); "
                             f"known are {known}")  # fmt: skip
    size = prod(plan.get_chunk()) * (kind.size or 16)
    if size > LARGEST_CHUNK:
        raise UnreadableError(
            "refused", f"chunks of {size} bytes, at most {LARGEST_CHUNK} are decoded"
        )
