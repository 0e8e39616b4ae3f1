"""Reading DCP directories: items where they lie, tensors as the chunks that tile them."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

from portackpt import box
from portackpt.bytesource import ByteSource, File, FileRange, InMemory, Sequential
from portackpt.deferred import carried_out
from portackpt.dtypes import UINT8, DType
from portackpt.errors import DamagedError, InputError, RefusedError
from portackpt.tensor import Strided, Tensor, Tiled, c_strides
from portackpt.tree import MAX_DEPTH, Node
from portackpt_torch import reading
from portackpt_torch.dcp_metadata import BytesItem, Extent, Metadata, Place, TensorItem

_NO_ATTRIBUTES: Mapping[str, Any] = {}
_TRAINED: Mapping[str, Any] = {"requires_grad": True}
_SMALL = 1 << 16
"""Bytes of an item that is read at once."""
Kind: TypeAlias = tuple[DType, tuple[int, ...]]
"""Dtype and shape of a tensor."""


class Files:
    """The files of a directory, each opened once; a name is plain (see `dcp_metadata`)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, File] = {}
        self._items: dict[tuple[Extent, int, Kind | None], ItemBytes] = {}

    def range(self, extent: Extent) -> FileRange:
        """The bytes of an item. Raises where the file is missing, elsewhere or too short."""
        file = self._files.get(extent.file)
        if file is None:
            file = self._files[extent.file] = self._open(extent.file)
        return FileRange(file, extent.offset, extent.length)

    def _open(self, name: str) -> File:
        path = self._directory / name
        if path.is_symlink() and not path.resolve().is_relative_to(self._directory.resolve()):
            raise RefusedError(f"{name!r} is a link to outside of the checkpoint",
                               str(self._directory))  # fmt: skip
        if not path.is_file():
            raise DamagedError(f"the file {name!r} is missing", str(self._directory))
        return File(path)

    def item(self, extent: Extent, dtype: DType, shape: tuple[int, ...]) -> ItemBytes:
        """The tensor in an item; the same for the same item, so that tied tensors stay tied."""
        return self._item(extent, c_nbytes(dtype, shape), (dtype, shape))

    def elements(self, extent: Extent, nbytes: int) -> ItemBytes:
        """The bytes of the tensor in an item, whatever its dtype and shape."""
        return self._item(extent, nbytes, None)

    def _item(self, extent: Extent, nbytes: int, expected: Kind | None) -> ItemBytes:
        key = (extent, nbytes, expected)
        found = self._items.get(key)
        if found is None:
            found = self._items[key] = ItemBytes(self.range(extent), nbytes, expected)
        return found


class ItemBytes:
    """The bytes, in C order, of the one tensor that torch.save wrote into a range of a file.

    That it is such a tensor is found out when it is first read; a small one is read whole, each
    time. What torch put off (a conjugation) is carried out where a dtype is expected: whoever
    expects bytes only knows of it.
    """

    __slots__ = ("_expected", "_range", "_source", "nbytes")

    def __init__(self, part: FileRange, nbytes: int, expected: Kind | None) -> None:
        self._range = part
        self._expected = expected
        self._source: tuple[ByteSource, int] | None = None
        self.nbytes = nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        if self._range.nbytes > _SMALL:
            source, start = self._source or self._open(self._range)
        else:
            data = bytearray(self._range.nbytes)
            self._range.readinto(0, memoryview(data))
            source, start = self._open(InMemory(data))
            source.verify()
            self._source = None
        source.readinto(start + offset, out)

    def verify(self) -> None:
        if self._range.nbytes > _SMALL:
            source, _ = self._source or self._open(self._range)
            source.verify()

    def _open(self, part: ByteSource) -> tuple[ByteSource, int]:
        where = f"bytes {self._range.start} of {self._range.file.path}"
        tensor = reading.read(part, where).tree
        if not isinstance(tensor, Tensor):
            raise DamagedError(f"expected a tensor, found a {type(tensor).__name__}", where)
        self._check(tensor, where)
        if self._expected is not None:
            tensor = carried_out(tensor, {})
        layout = tensor.layout
        if isinstance(layout, Strided) and layout.is_contiguous(tensor.dtype, tensor.shape):
            self._source = (layout.source, layout.offset)
        else:
            self._source = (Sequential(tensor.nbytes, tensor.reader), 0)
        return self._source

    def _check(self, tensor: Tensor, where: str) -> None:
        found = (tensor.dtype, tensor.shape)
        if self._expected not in (None, found) or tensor.nbytes != self.nbytes:
            dtype, shape = self._expected or (UINT8, (self.nbytes,))
            raise DamagedError(
                f"expected a {dtype} tensor of shape {shape}, "
                f"found {tensor.dtype} of shape {tensor.shape}",
                where,
            )


def c_nbytes(dtype: DType, shape: tuple[int, ...]) -> int:
    return prod(shape) * dtype.itemsize


def read_tensor(item: TensorItem, files: Files) -> Tensor:
    """The tensor of an item, once its chunks are known to tile it."""
    dtype, shape = item.dtype, item.shape
    boxes = [chunk.box for chunk in item.chunks]
    if not box.covers(shape, boxes):
        raise DamagedError(
            f"{len(boxes)} chunks do not tile the shape {shape}: one is missing, overlaps another "
            "or lies outside"
        )
    attributes = _TRAINED if item.requires_grad else _NO_ATTRIBUTES
    tiles: list[tuple[box.Box, Tensor]] = []
    for chunk in item.chunks:
        source = files.item(chunk.extent, dtype, chunk.box.shape)
        layout = Strided(source, 0, c_strides(chunk.box.shape, dtype.itemsize))
        if chunk.box.shape == shape:
            return Tensor(dtype, shape, layout, attributes)
        tiles.append((chunk.box, Tensor(dtype, chunk.box.shape, layout)))
    return Tensor(dtype, shape, Tiled(tuple(tiles)), attributes)


def read_items(metadata: Metadata, files: Files) -> dict[str, Node]:
    """Every item by its flat name; objects are read, tensors are not."""
    found: dict[str, Node] = {}
    name = ""
    try:
        for name, item in metadata.items.items():
            if isinstance(item, BytesItem):
                part = files.range(item.extent)
                where = f"bytes {part.start} of {part.file.path}"
                found[name] = reading.read(part, where).tree
            else:
                found[name] = read_tensor(item, files)
    except InputError as error:
        error.places = (*error.places, f"item {name!r:.200}")
        raise
    return found


def nest(items: Mapping[str, Node], paths: Mapping[str, Place]) -> dict[Node, Node]:
    """The tree that the paths describe; an item without one stands under its flat name."""
    root: dict[Node, Node] = {}
    inner: dict[Place, Node] = {(): root}
    for name, value in items.items():
        path = paths.get(name, (name,))
        if len(path) > MAX_DEPTH:
            raise RefusedError(f"a path of {len(path)} parts", f"item {name!r}")
        try:
            _place(_container(inner, path), path[-1], value)
        except (TypeError, LookupError):
            raise DamagedError(f"its path {path} leads through another item or the wrong kind of "
                               "container", f"item {name!r}") from None  # fmt: skip
    return root


def _container(inner: dict[Place, Node], path: Place) -> Node:
    """The dict or list that holds the last part of `path`, made where it is not there yet."""
    parent = path[:-1]
    found = inner.get(parent)
    if found is None:
        found = inner[parent] = {} if isinstance(path[-1], str) else []
        _place(_container(inner, parent), parent[-1], found)
    return found


def _place(container: Node, part: str | int, value: Node) -> None:
    if isinstance(container, dict) is not isinstance(part, str):
        raise TypeError
    if isinstance(part, int):
        container.extend([None] * (part + 1 - len(container)))
        if container[part] is not None:
            raise LookupError
    elif part in container:
        raise LookupError
    container[part] = value
