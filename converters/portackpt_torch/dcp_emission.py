"""The pickle of `.metadata`, as torch's own `Metadata` would be pickled (`dcp_metadata` reads it).

Protocol 4, of which only the opcodes of protocol 3 are used: names, tuples, dicts, `NEWOBJ` and
`BUILD`. The classes are named, torch finds them when it reads the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import pack

from portackpt.dtypes import DType
from portackpt.errors import WriteError
from portackpt.tensor import Tensor
from portackpt_torch.dcp_metadata import BytesItem, Extent, Item, Metadata, TensorItem
from portackpt_torch.pickle_writer import Pickler, integer

VERSION = "1.0.0"
"""Of the format, as torch 2.13 says."""
_METADATA = "torch.distributed.checkpoint.metadata"
_FILESYSTEM = "torch.distributed.checkpoint.filesystem"


def emit(metadata: Metadata) -> bytes:
    """The bytes of the file."""
    return _Emitter().emit(metadata)


class _Emitter:
    def __init__(self) -> None:
        self._pickler = Pickler(_no_tensor, {}, "")
        self._pickler.out[:] = b"\x80\x04"
        self._out = self._pickler.out

    def emit(self, metadata: Metadata) -> bytes:
        out, text = self._out, self._pickler.text
        self._new(_METADATA, "Metadata")
        out += b"}("
        text("state_dict_metadata")
        self._items(metadata.items)
        text("planner_data")
        self._pickler.node(dict(metadata.paths))
        text("storage_data")
        self._places(metadata.items)
        text("storage_meta")
        self._new(_METADATA, "StorageMeta")
        self._pickler.build({"checkpoint_id": None, "save_id": None, "load_id": None,
                             "modules": []})  # fmt: skip
        text("version")
        text(VERSION)
        if metadata.document is not None:
            text("portackpt")
            self._bytes(metadata.document)
        out += b"ub"
        return self._pickler.finish()

    def _new(self, module: str, name: str) -> None:
        """An object of a class, made without a call of its constructor."""
        self._pickler.name(module, name)
        self._out += b")\x81"

    def _bytes(self, data: bytes) -> None:
        if len(data) >= 1 << 31:
            raise WriteError(f"names and plain data take {len(data)} bytes, too many for a pickle")
        self._out += b"B" + pack("<I", len(data)) + data

    def _items(self, items: Mapping[str, Item]) -> None:
        self._out += b"}("
        for name, item in items.items():
            self._pickler.text(name)
            if isinstance(item, BytesItem):
                self._new(_METADATA, "BytesStorageMetadata")
            else:
                self._tensor(item)
        self._out += b"u"

    def _tensor(self, item: TensorItem) -> None:
        out, text = self._out, self._pickler.text
        self._new(_METADATA, "TensorStorageMetadata")
        out += b"}("
        text("properties")
        self._properties(item.dtype, item.requires_grad)
        text("size")
        self._size(item.shape)
        text("chunks")
        out += b"]("
        for chunk in item.chunks:
            self._new(_METADATA, "ChunkStorageMetadata")
            out += b"}("
            text("offsets")
            self._size(chunk.box.start)
            text("sizes")
            self._size(chunk.box.shape)
            out += b"ub"
        out += b"eub"

    def _properties(self, dtype: DType, requires_grad: bool) -> None:
        """TensorProperties: dtype, layout, requires_grad, memory format, whether pinned."""
        pickler = self._pickler
        key = ("properties", f"{dtype}{requires_grad}")
        if pickler.recall(key):
            return
        self._new(_METADATA, "TensorProperties")
        self._out += b"("
        pickler.name("torch", dtype.torch or "")
        pickler.call("torch.serialization", "_get_layout", "torch.strided")
        pickler.node(requires_grad)
        pickler.call(_METADATA, "_MEM_FORMAT_ENCODING", 0)
        pickler.node(False)
        self._out += b"tb"
        pickler.remember(key)

    def _size(self, size: tuple[int, ...]) -> None:
        key = ("size", str(size))
        if not self._pickler.recall(key):
            self._pickler.call("torch", "Size", size)
            self._pickler.remember(key)

    def _places(self, items: Mapping[str, Item]) -> None:
        """MetadataIndex → _StorageInfo, for every chunk of every item."""
        out = self._out
        out += b"}("
        for name, item in items.items():
            if isinstance(item, BytesItem):
                self._place(name, None, None, item.extent)
            else:
                for number, chunk in enumerate(item.chunks):
                    self._place(name, number, chunk.box.start, chunk.extent)
        out += b"u"

    def _place(
        self, name: str, number: int | None, start: tuple[int, ...] | None, extent: Extent
    ) -> None:
        out, text = self._out, self._pickler.text
        self._new(_METADATA, "MetadataIndex")
        out += b"}("
        text("fqn")
        text(name)
        if start is not None:
            text("offset")
            self._size(start)
        text("index")
        out += b"N" if number is None else integer(number)
        out += b"ub"
        self._new(_FILESYSTEM, "_StorageInfo")
        out += b"}("
        text("relative_path")
        text(extent.file)
        text("offset")
        out += integer(extent.offset)
        text("length")
        out += integer(extent.length) + b"ub"


def _no_tensor(pickler: Pickler, tensor: Tensor) -> None:
    raise AssertionError("metadata holds no tensors")
