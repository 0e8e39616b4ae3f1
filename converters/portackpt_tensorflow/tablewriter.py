"""Writing a table (see `table`), byte for byte as TensorFlow's own writer does.

Source: tensorflow/core/lib/io/table_builder.cc, block_builder.cc, util/comparator.cc.
"""

from __future__ import annotations

from portackpt.storage.local import Writer
from portackpt_tensorflow.checksum import extend, mask
from portackpt_tensorflow.table import FOOTER, MAGIC, Handle
from portackpt_tensorflow.wire import put_varint

_BLOCK_SIZE = 256 << 10
_RESTART_INTERVAL = 16


class TableWriter:
    """A table written key by key, in ascending order, to `file`."""

    def __init__(self, file: Writer) -> None:
        self._file = file
        self._data = _Block(_RESTART_INTERVAL)
        self._index = _Block(1)
        self._waiting: Handle | None = None

    def add(self, key: bytes, value: bytes) -> None:
        if self._waiting is not None:
            self._list_block(_separator(self._data.last, key))
        self._data.add(key, value)
        if self._data.size >= _BLOCK_SIZE:
            self._waiting = self._write(self._data)

    def finish(self) -> None:
        """Write what is left, the index and the footer."""
        if self._data.count:
            self._waiting = self._write(self._data)
        metaindex = self._write(_Block(_RESTART_INTERVAL))
        if self._waiting is not None:
            self._list_block(_successor(self._data.last))
        index = self._write(self._index)
        handles = b"".join(map(put_varint, (*metaindex, *index)))
        self._file.write(handles.ljust(FOOTER - 8, b"\0") + MAGIC)

    def _list_block(self, key: bytes) -> None:
        """Enter the block that was written last in the index, under a key not below its keys."""
        assert self._waiting is not None
        self._index.add(key, put_varint(self._waiting.offset) + put_varint(self._waiting.size))
        self._waiting = None

    def _write(self, block: _Block) -> Handle:
        contents = block.finish()
        handle = Handle(self._file.position, len(contents))
        crc = mask(extend(b"\0", extend(contents, 0)))
        self._file.write(contents + b"\0" + crc.to_bytes(4, "little"))
        return handle


class _Block:
    """The entries of one block; every `interval`-th spells its key out."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self.last = b""
        self._clear()

    def _clear(self) -> None:
        self._out = bytearray()
        self._restarts = [0]
        self.count = 0

    @property
    def size(self) -> int:
        return len(self._out) + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self.count % self._interval:
            shared = _common(self.last, key)
        elif self.count:
            self._restarts.append(len(self._out))
        more = key[shared:]
        self._out += put_varint(shared) + put_varint(len(more)) + put_varint(len(value))
        self._out += more
        self._out += value
        self.last = key
        self.count += 1

    def finish(self) -> bytes:
        """The contents of the block, which is empty again."""
        for number in (*self._restarts, len(self._restarts)):
            self._out += number.to_bytes(4, "little")
        contents = bytes(self._out)
        self._clear()
        return contents


def _common(a: bytes, b: bytes) -> int:
    """How many first bytes two keys share."""
    count = min(len(a), len(b))
    if a[:count] == b[:count]:
        return count
    difference = int.from_bytes(a[:count], "big") ^ int.from_bytes(b[:count], "big")
    return count - (difference.bit_length() + 7) // 8


def _separator(low: bytes, high: bytes) -> bytes:
    """A short key from `low` to below `high`."""
    at = _common(low, high)
    if at < len(low) and low[at] < 0xFF and low[at] + 1 < high[at]:
        return low[:at] + bytes((low[at] + 1,))
    return low


def _successor(key: bytes) -> bytes:
    """A short key not below `key`."""
    for at, byte in enumerate(key):
        if byte != 0xFF:
            return key[:at] + bytes((byte + 1,))
    return key
