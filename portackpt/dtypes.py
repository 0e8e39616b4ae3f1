"""The one table of dtypes and their spelling in every format.

A dtype's elements are kept as little-endian bytes. Sub-byte dtypes (int4, float4_e2m1fn, …) take
one byte an element, as in ml_dtypes; those marked `packed` keep the framework's packing, and their
shapes count bytes. `string` has elements of any length (see `spec/`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portackpt.errors import UnsupportedError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class DType:
    """One dtype: its neutral name, its size, and its name in each format (None: it has none).

    `itemsize` is in bytes; 0 for `string`, whose elements vary.
    `numpy` is a numpy dtype string, or `ml_dtypes.NAME`; where numpy has no such type, the unsigned
    integer (or void) that holds its bits.
    `exact` is False where `numpy` only holds the bits.
    """

    name: str
    itemsize: int
    numpy: str
    safetensors: str | None = None
    torch: str | None = None
    tensorflow: int | None = None
    zarr: str | None = None
    exact: bool = True

    def __str__(self) -> str:
        return self.name

    def to_numpy(self) -> np.dtype[Any]:
        """The numpy dtype whose memory is this dtype's bytes (little-endian)."""
        cached = _NUMPY.get(self.name)
        if cached is None:
            cached = _NUMPY[self.name] = _load(self.numpy)
        return cached


def _load(spelling: str) -> np.dtype[Any]:
    import numpy as np

    if spelling.startswith("ml_dtypes."):
        import ml_dtypes

        kind: np.dtype[Any] = np.dtype(getattr(ml_dtypes, spelling.removeprefix("ml_dtypes.")))
        return kind
    return np.dtype(spelling)


_NUMPY: dict[str, np.dtype[Any]] = {}

_T = DType
# name, itemsize, numpy, safetensors, torch, tensorflow (types.proto), zarr (tensorstore)
TABLE: tuple[DType, ...] = (
    _T("bool", 1, "?", "BOOL", "bool", 10, "bool"),
    _T("int8", 1, "i1", "I8", "int8", 6, "int8"),
    _T("int16", 2, "<i2", "I16", "int16", 5, "int16"),
    _T("int32", 4, "<i4", "I32", "int32", 3, "int32"),
    _T("int64", 8, "<i8", "I64", "int64", 9, "int64"),
    _T("uint8", 1, "u1", "U8", "uint8", 4, "uint8"),
    _T("uint16", 2, "<u2", "U16", "uint16", 17, "uint16"),
    _T("uint32", 4, "<u4", "U32", "uint32", 22, "uint32"),
    _T("uint64", 8, "<u8", "U64", "uint64", 23, "uint64"),
    _T("float16", 2, "<f2", "F16", "float16", 19, "float16"),
    _T("bfloat16", 2, "ml_dtypes.bfloat16", "BF16", "bfloat16", 14, "bfloat16"),
    _T("float32", 4, "<f4", "F32", "float32", 1, "float32"),
    _T("float64", 8, "<f8", "F64", "float64", 2, "float64"),
    _T("complex64", 8, "<c8", "C64", "complex64", 8, "complex64"),
    _T("complex128", 16, "<c16", None, "complex128", 18, "complex128"),
    _T("complex32", 4, "<u4", None, "complex32", None, None, exact=False),
    _T("float8_e3m4", 1, "ml_dtypes.float8_e3m4", None, None, None, "float8_e3m4"),
    _T("float8_e4m3", 1, "ml_dtypes.float8_e4m3", None, None, None, None),
    _T("float8_e4m3fn", 1, "ml_dtypes.float8_e4m3fn", "F8_E4M3", "float8_e4m3fn", 25,
       "float8_e4m3fn"),
    _T("float8_e4m3fnuz", 1, "ml_dtypes.float8_e4m3fnuz", None, "float8_e4m3fnuz", 26,
       "float8_e4m3fnuz"),
    _T("float8_e4m3b11fnuz", 1, "ml_dtypes.float8_e4m3b11fnuz", None, None, 27,
       "float8_e4m3b11fnuz"),
    _T("float8_e5m2", 1, "ml_dtypes.float8_e5m2", "F8_E5M2", "float8_e5m2", 24, "float8_e5m2"),
    _T("float8_e5m2fnuz", 1, "ml_dtypes.float8_e5m2fnuz", None, "float8_e5m2fnuz", 28,
       "float8_e5m2fnuz"),
    _T("float8_e8m0fnu", 1, "ml_dtypes.float8_e8m0fnu", "F8_E8M0", "float8_e8m0fnu", None,
       "float8_e8m0fnu"),
    _T("float6_e2m3fn", 1, "ml_dtypes.float6_e2m3fn", None, None, None, None),
    _T("float6_e3m2fn", 1, "ml_dtypes.float6_e3m2fn", None, None, None, None),
    _T("float4_e2m1fn", 1, "ml_dtypes.float4_e2m1fn", None, None, 33, "float4_e2m1fn"),
    _T("int4", 1, "ml_dtypes.int4", None, None, 29, "int4"),
    _T("uint4", 1, "ml_dtypes.uint4", None, None, 30, None),
    _T("int2", 1, "ml_dtypes.int2", None, None, 31, "int2"),
    _T("uint2", 1, "ml_dtypes.uint2", None, None, 32, None),
    # packed: two elements a byte, shapes count bytes
    _T("float4_e2m1fn_x2", 1, "u1", None, "float4_e2m1fn_x2", None, None, exact=False),
    # quantized integers: the integers of an affine quantization, whose scale stands beside them
    _T("qint8", 1, "i1", None, "qint8", 11, None, exact=False),
    _T("quint8", 1, "u1", None, "quint8", 12, None, exact=False),
    _T("qint16", 2, "<i2", None, None, 15, None, exact=False),
    _T("quint16", 2, "<u2", None, None, 16, None, exact=False),
    _T("qint32", 4, "<i4", None, "qint32", 13, None, exact=False),
    # packed: two or four elements a byte, shapes count bytes
    _T("quint4x2", 1, "u1", None, "quint4x2", None, None, exact=False),
    _T("quint2x4", 1, "u1", None, "quint2x4", None, None, exact=False),
    # bits without arithmetic
    _T("bits8", 1, "u1", None, "bits8", None, None, exact=False),
    _T("bits16", 2, "<u2", None, "bits16", None, None, exact=False),
    _T("bits1x8", 1, "u1", None, "bits1x8", None, None, exact=False),
    _T("bits2x4", 1, "u1", None, "bits2x4", None, None, exact=False),
    _T("bits4x2", 1, "u1", None, "bits4x2", None, None, exact=False),
    # elements are byte strings of any length
    _T("string", 0, "O", None, None, 7, None, exact=False),
)  # fmt: skip

BY_NAME = {dtype.name: dtype for dtype in TABLE}
BY_TORCH = {dtype.torch: dtype for dtype in TABLE if dtype.torch}
BY_SAFETENSORS = {dtype.safetensors: dtype for dtype in TABLE if dtype.safetensors}
BY_TENSORFLOW = {dtype.tensorflow: dtype for dtype in TABLE if dtype.tensorflow}

STRING = BY_NAME["string"]
# the U8 spelling of bytes that have no dtype of their own
UINT8 = BY_NAME["uint8"]


def named(name: str) -> DType:
    """The dtype called `name`, by its neutral name."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise UnsupportedError(f"unknown dtype {name!r}") from None


def from_numpy(dtype: np.dtype[Any]) -> DType:
    """The dtype of a numpy array (either byte order; ml_dtypes included)."""
    found = BY_NAME.get(dtype.name)
    if found is None:
        raise UnsupportedError(f"no dtype for numpy's {dtype.name!r}")
    return found
