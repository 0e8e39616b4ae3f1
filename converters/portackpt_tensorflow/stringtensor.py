"""String tensors in a data shard, as byte sources in the neutral form and back.

    in a bundle: { varint64 length } fixed32(masked crc of the lengths) { bytes }
    neutral:     n + 1 little-endian uint64 end offsets, from 0, then { bytes }

The crc of the lengths is over each as four bytes (eight where it needs them); it goes on over its
own masked form and the bytes, and then is the crc of the tensor.

Source: tensorflow/core/util/tensor_bundle/tensor_bundle.cc, WriteStringTensor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portackpt.bytesource import Checked, FileRange
from portackpt.errors import DamagedError
from portackpt_tensorflow.checksum import extend, mask
from portackpt_tensorflow.varints import decode, encode

if TYPE_CHECKING:
    import numpy as np

    Ends = np.ndarray[Any, np.dtype[np.uint64]]

_WINDOW = 1 << 20
_SHORT = 0xFFFFFFFF


class Strings:
    """The neutral form of `count` strings at `where`; lengths are read when first needed."""

    __slots__ = ("_big_endian", "_count", "_crc", "_parts", "_range", "_where")

    def __init__(
        self, extent: FileRange, count: int, crc: int, big_endian: bool, where: str
    ) -> None:
        self._range = extent
        self._count = count
        self._crc = crc
        self._big_endian = big_endian
        self._where = where
        self._parts: tuple[memoryview, Checked] | None = None

    @property
    def nbytes(self) -> int:
        head, body = self._open()
        return head.nbytes + body.nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        head, body = self._open()
        done = max(0, min(out.nbytes, head.nbytes - offset))
        out[:done] = head[offset : offset + done]
        if done < out.nbytes:
            body.readinto(offset + done - head.nbytes, out[done:])
        elif not body.nbytes:
            body.verify()

    def verify(self) -> None:
        self._open()[1].verify()

    def _open(self) -> tuple[memoryview, Checked]:
        if self._parts is None:
            self._parts = self._read_head()
        return self._parts

    def _read_head(self) -> tuple[memoryview, Checked]:
        """The end offsets, checked, and the bytes with the checksum they must lead to."""
        lengths, start = self._read_lengths()
        size = self._range.nbytes - start - 4
        if size < 0 or (lengths > size).any() or int(lengths.sum()) != size:
            raise DamagedError(f"{size} bytes cannot hold the stated strings", self._where)
        order = "big" if self._big_endian else "little"
        crc = _lengths_crc(lengths, self._big_endian)
        stored = bytearray(4)
        self._range.readinto(start, memoryview(stored))
        if int.from_bytes(stored, order) != mask(crc):  # type: ignore[arg-type]
            raise DamagedError(
                f"checksum of the strings' lengths does not match: expected {stored.hex()}, "
                f"found {mask(crc):08x}",
                self._where,
            )
        body = FileRange(self._range.file, self._range.start + start + 4, size)
        checked = Checked(body, extend, self._crc, self._where, extend(stored, crc))
        return memoryview(_to_ends(lengths).tobytes()), checked

    def _read_lengths(self) -> tuple[Ends, int]:
        """All lengths, and where they end."""
        import numpy as np

        size = self._range.nbytes
        if self._count > size:
            raise DamagedError(f"{size} bytes cannot hold {self._count} strings", self._where)
        lengths = np.zeros(self._count, "<u8")
        have = at = 0
        while have < self._count:
            window = np.empty(min(_WINDOW, size - at), "u1")
            self._range.readinto(at, window.data)
            found, used = decode(window, self._count - have)
            if not used:
                raise DamagedError("the lengths of the strings end early", self._where)
            lengths[have : have + len(found)] = found
            have += len(found)
            at += used
        return lengths, at


def _to_ends(lengths: Any) -> Any:
    import numpy as np

    ends = np.zeros(len(lengths) + 1, "<u8")
    np.cumsum(lengths, out=ends[1:])
    return ends


def _lengths_crc(lengths: Any, big_endian: bool = False) -> int:
    order = ">" if big_endian else "<"
    if not len(lengths) or int(lengths.max()) <= _SHORT:
        return extend(lengths.astype(f"{order}u4").tobytes(), 0)
    crc = 0
    for length in lengths:
        size = "u4" if length <= _SHORT else "u8"
        crc = extend(length.astype(order + size).tobytes(), crc)
    return crc


class StringEncoder:
    """Turns the neutral form of `count` strings, fed in pieces, into what a bundle holds."""

    def __init__(self, count: int) -> None:
        self._head_size = 8 * (count + 1)
        self._head = bytearray()
        self._missing = 0
        self._crc = 0

    def encode(self, piece: memoryview) -> list[bytes | memoryview]:
        """What to write for the next `piece`."""
        parts: list[bytes | memoryview] = []
        wanted = self._head_size - len(self._head)
        if wanted:
            self._head += piece[:wanted]
            if len(self._head) < self._head_size:
                return parts
            parts.append(self._encode_head())
            piece = piece[wanted:]
        self._crc = extend(piece, self._crc)
        self._missing -= piece.nbytes
        return [*parts, piece]

    def finish(self) -> int:
        """The crc32c of the whole."""
        if len(self._head) < self._head_size or self._missing:
            raise DamagedError("string tensor's offsets do not fit its bytes")
        return self._crc

    def _encode_head(self) -> bytes:
        import numpy as np

        ends = np.frombuffer(self._head, "<u8")
        if ends[0] != 0 or (ends[1:] < ends[:-1]).any():
            raise DamagedError("string tensor's offsets do not fit its bytes")
        self._missing = int(ends[-1])
        lengths = np.diff(ends)
        self._crc = _lengths_crc(lengths)
        checksum = mask(self._crc).to_bytes(4, "little")
        self._crc = extend(checksum, self._crc)
        return encode(lengths) + checksum
