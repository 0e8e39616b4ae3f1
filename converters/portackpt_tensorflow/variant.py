"""Values that only TensorFlow can decode (DT_VARIANT: the state of a tf.data iterator, say).

    { varint64(size) bytes fixed32(masked crc so far) }      one record an element

They are carried as the bytes they are. The crc is over each size as eight bytes, the bytes, and the
masked crc itself; the one after the last record is the crc of the tensor.

Source: tensorflow/core/util/tensor_bundle/tensor_bundle.cc, WriteVariantTensor.
"""

from __future__ import annotations

from portackpt.bytesource import FileRange
from portackpt.dtypes import UINT8
from portackpt.errors import DamagedError, located
from portackpt.tensor import Tensor
from portackpt_tensorflow.checksum import extend, mask

DTYPE = 21
TYPE, SHAPE = "tensorflow.dtype", "tensorflow.shape"
"""Attributes of the uint8 tensor that holds the records: `variant`, and the variant's shape."""
NAME = "variant"

_PIECE = 1 << 20


def is_variant(tensor: Tensor) -> bool:
    return tensor.attributes.get(TYPE) == NAME and tensor.dtype is UINT8


class RecordEncoder:
    """Passes on the records of `count` variants, fed in pieces of any size, and checks them."""

    def __init__(self, count: int) -> None:
        self._crc = 0
        self._left = count
        self._size = bytearray()
        self._body = 0
        self._tail: bytearray | None = None

    def encode(self, piece: memoryview) -> tuple[memoryview]:
        at = 0
        while at < piece.nbytes:
            if not self._left:
                raise DamagedError("bytes after the last variant")
            if self._tail is None:
                self._take_size(piece[at])
                at += 1
            elif self._body:
                part = piece[at : at + self._body]
                self._crc = extend(part, self._crc)
                self._body -= part.nbytes
                at += part.nbytes
            else:
                part = piece[at : at + 4 - len(self._tail)]
                self._tail += part
                at += part.nbytes
                if len(self._tail) == 4:
                    self._end_record()
        return (piece,)

    def finish(self) -> int:
        """The crc32c of the whole."""
        if self._left:
            raise DamagedError(f"{self._left} variants are missing")
        return self._crc

    def _take_size(self, byte: int) -> None:
        self._size.append(byte)
        if len(self._size) > 9:
            raise DamagedError("a variant of impossible size")
        if byte < 0x80:
            self._body = sum((b & 0x7F) << 7 * i for i, b in enumerate(self._size))
            self._crc = extend(self._body.to_bytes(8, "little"), self._crc)
            self._size.clear()
            self._tail = bytearray()

    def _end_record(self) -> None:
        assert self._tail is not None
        expected, found = int.from_bytes(self._tail, "little"), mask(self._crc)
        if expected != found:
            raise DamagedError(
                f"checksum of a variant does not match: expected {expected:08x}, found {found:08x}"
            )
        self._crc = extend(self._tail, self._crc)
        self._tail = None
        self._left -= 1


class Records:
    """The records of `count` variants in a file, checked as a whole before any is given out."""

    __slots__ = ("_count", "_crc", "_range", "_verified", "_where")

    def __init__(self, extent: FileRange, count: int, crc: int, where: str) -> None:
        self._range = extent
        self._count = count
        self._crc = crc
        self._where = where
        self._verified = False

    @property
    def nbytes(self) -> int:
        return self._range.nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        self.verify()
        self._range.readinto(offset, out)

    def verify(self) -> None:
        if self._verified:
            return
        with located(self._where):
            records = RecordEncoder(self._count)
            buffer = memoryview(bytearray(min(_PIECE, self.nbytes)))
            for start in range(0, self.nbytes, _PIECE):
                piece = buffer[: self.nbytes - start]
                self._range.readinto(start, piece)
                records.encode(piece)
            crc = records.finish()
            if crc != self._crc:
                raise DamagedError(
                    f"checksum does not match: expected {self._crc:08x}, found {crc:08x}"
                )
        self._verified = True
