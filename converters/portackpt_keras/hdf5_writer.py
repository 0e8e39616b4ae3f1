"""Writing a tree as HDF5 (spelled as `hdf5_names` says): its structure, then the values.

The HDF5 library lays out the file with room for every value, contiguous; the values are then
written to their places front to back, without it. Equal trees give equal bytes: no times are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from portackpt.dtypes import STRING
from portackpt.errors import WriteError
from portackpt.plugins import Progress
from portackpt.streaming import read_ahead
from portackpt.tensor import Tensor, from_array
from portackpt.tree import Node
from portackpt_keras.hdf5_names import (
    KEY,
    UNTYPED,
    attribute_name,
    has_number,
    link_name,
    spelled,
)
from portackpt_keras.hdf5_storing import (
    space,
    stored,
    write_attribute,
    write_string,
    write_strings,
)
from portackpt_keras.window import Window


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A tensor whose bytes belong at `offset` of the HDF5 file."""

    offset: int
    tensor: Tensor


def lay_out(tree: Mapping[str, Node], window: Window) -> list[Placed]:
    """Write the structure of `tree` as an HDF5 file; where the values belong, front to back."""
    from h5py import h5f, h5fd, h5g, h5p

    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5fd.fileobj_driver, window)
    # version 1.8 keeps many links and large attributes well, and every h5py reads it
    access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_V18)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    plan = h5p.create(h5p.FILE_CREATE)
    children = _children(tree)
    _keep_order(plan, children)
    file = h5f.create(b"portackpt", h5f.ACC_TRUNC, plan, access)
    try:
        layout = _Layout()
        layout.fill(h5g.open(file, b"/"), tree, children)
        file.close()
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise WriteError(f"the HDF5 library cannot write this: {error}") from error
    return sorted(layout.placed, key=lambda placed: placed.offset)


def pour(
    placed: list[Placed],
    descriptor: int,
    start: int,
    progress: Progress,
    update: Callable[[memoryview, int], int] | None = None,
) -> int:
    """Write the values to their places in the HDF5 file that begins at `start` of an open file.

    Gives the checksum that `update` makes of the HDF5 file's bytes from first to last.
    """
    size = os.fstat(descriptor).st_size - start
    window = Window(descriptor, start, size)
    position, checksum, last = 0, 0, -1
    for index, piece in read_ahead([item.tensor for item in placed]):
        if index != last:
            if update is not None:
                checksum = _over(window, position, placed[index].offset, checksum, update)
            position, last = placed[index].offset, index
        done = 0
        while done < piece.nbytes:
            done += os.pwrite(descriptor, piece[done:], start + position + done)
        if update is not None:
            checksum = update(piece, checksum)
        position += piece.nbytes
        progress(piece.nbytes)
    return checksum if update is None else _over(window, position, size, checksum, update)


def _over(
    window: Window, start: int, stop: int, checksum: int, update: Callable[[memoryview, int], int]
) -> int:
    """The checksum, continued over what the library wrote from `start` to `stop`."""
    window.seek(start)
    while start < stop:
        part = window.read(min(stop - start, 1 << 20))
        if not part:
            raise WriteError("the HDF5 file is shorter than its values")
        checksum = update(memoryview(part), checksum)
        start += len(part)
    return checksum


_Child = tuple[bytes, str | None, Node]
"""(link, the key where the link does not say it, what is there)."""


def _children(tree: Mapping[str, Node]) -> list[_Child]:
    keys = [key for key, value in tree.items() if attribute_name(key, value) is None]
    links = {key: link_name(key) for key in keys}
    taken = {link for link in links.values() if link is not None}
    found: list[_Child] = []
    for key in keys:
        link, kept = links[key], None
        if link is None:
            link, kept = spelled(key, taken), key
            taken.add(link)
        found.append((link, kept, tree[key]))
    return found


def _keep_order(plan: Any, children: list[_Child]) -> None:
    """Keep no times; keep the order of children that are not in that of their names."""
    from h5py import h5p

    plan.set_obj_track_times(False)
    names = [name for name, _, _ in children]
    if names != sorted(names):
        plan.set_link_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)


class _Layout:
    def __init__(self) -> None:
        from h5py import h5d, h5p

        self.placed: list[Placed] = []
        self._links: dict[int, tuple[Any, bytes]] = {}
        self._waiting: list[tuple[Any, Mapping[str, Node], list[_Child]]] = []
        self._plan = h5p.create(h5p.DATASET_CREATE)
        self._plan.set_layout(h5d.CONTIGUOUS)
        self._plan.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        self._plan.set_fill_time(h5d.FILL_TIME_NEVER)
        self._plan.set_obj_track_times(False)

    def fill(self, root: Any, tree: Mapping[str, Node], children: list[_Child]) -> None:
        """The attributes and children of the root group, and of every group below."""
        self._waiting = [(root, tree, children)]
        while self._waiting:
            group, tree, children = self._waiting.pop()
            for key, value in tree.items():
                name = attribute_name(key, value)
                if name is not None:
                    write_attribute(group, name, value)
            for link, key_beside, value in children:
                item = self._child(group, link, key_beside, value)
                if key_beside is not None:
                    data = key_beside.encode("utf-8", "surrogatepass")
                    write_attribute(item, KEY.encode(), _octets(data))

    def _child(self, group: Any, link: bytes, key: str | None, value: Node) -> Any:
        """One child; groups are filled later."""
        if isinstance(value, dict):
            return self._group(group, link, value)
        if isinstance(value, (str, bytes)):
            return write_string(group, link, value)
        if not isinstance(value, Tensor):
            raise WriteError(f"HDF5 cannot hold a {type(value).__name__}", repr(key or link))
        if key is not None:
            return self._tensor(group, link, value)
        known = self._links.setdefault(id(value), (group, link))
        if known != (group, link):
            group.links.create_hard(link, *known)
            return None
        return self._tensor(group, link, value)

    def _group(self, group: Any, link: bytes, tree: dict[str, Node]) -> Any:
        from h5py import h5g, h5p

        plan = h5p.create(h5p.GROUP_CREATE)
        children = _children(tree)
        _keep_order(plan, children)
        item = h5g.create(group, link, None, plan)
        self._waiting.append((item, tree, children))
        return item

    def _tensor(self, group: Any, link: bytes, tensor: Tensor) -> Any:
        from h5py import h5d

        if tensor.dtype is STRING:
            item = write_strings(group, link, tensor)
        else:
            kind, shape = stored(tensor)
            item = h5d.create(group, link, kind, space(tensor, shape), self._plan)
            if tensor.nbytes:
                self.placed.append(Placed(item.get_offset(), tensor))
        told = tensor.attributes
        if told:
            for key, value in told.items():
                name = attribute_name(key, value)
                if name is not None and name != b"dtype":
                    write_attribute(item, name, value)
        if has_number(tensor.dtype) or tensor.dtype is STRING:
            if "@dtype" in told:
                write_attribute(item, b"dtype", told["@dtype"])
        elif not (told.get(UNTYPED) and tensor.dtype.name == "bfloat16"):
            write_attribute(item, b"dtype", tensor.dtype.name)
        return item


def _octets(data: bytes) -> Tensor:
    import numpy as np

    return from_array(np.frombuffer(data, np.uint8))
