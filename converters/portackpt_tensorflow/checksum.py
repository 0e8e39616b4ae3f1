"""crc32c, masked as leveldb and TensorFlow store it, so that a checksum of checksums stays good.

    masked = rotate_right(crc, 15) + 0xa282ead8      (mod 2^32)

Source: tensorflow/core/lib/hash/crc32c.h.
"""

from __future__ import annotations

import google_crc32c

_DELTA = 0xA282EAD8
_SMALL = 1 << 12
_PIECE = 1 << 18  # the library is ten times slower on pieces that leave the cache


def extend(data: bytes | bytearray | memoryview, value: int) -> int:
    """The crc32c `value` continued over `data`."""
    if len(data) <= _SMALL:
        return int(google_crc32c.extend(value, bytes(data)))
    import numpy as np

    # the library takes no memoryview; an array over the same memory is not copied
    view = np.frombuffer(data, np.uint8)
    for start in range(0, len(view), _PIECE):
        value = google_crc32c.extend(value, view[start : start + _PIECE])
    return value


def mask(value: int) -> int:
    return ((value >> 15 | value << 17) + _DELTA) & 0xFFFFFFFF


def unmask(masked: int) -> int:
    rotated = (masked - _DELTA) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF
