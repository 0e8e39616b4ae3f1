"""Keys of a tree and names in an HDF5 file.

    group                        dict
    dataset                      Tensor; a `str` or `bytes` for a single string
    attribute NAME of a group    the entry `@NAME` of the dict: str, bytes, or a Tensor
    attribute NAME of a dataset  the attribute `@NAME` of the Tensor
    a second link to a dataset   the same Tensor

HDF5 names cannot hold a slash or be empty; what cannot be a name is spelled, and the attribute
`portackpt.key` of the dataset or group holds the bytes of the key. A child whose name begins with
`@` has the key `./@…`.
"""

from __future__ import annotations

from portackpt.dtypes import STRING, DType
from portackpt.tensor import Tensor
from portackpt.tree import Node, escape

KEY = "portackpt.key"
KIND = "portackpt.kind"
"""`str`, `bytes` or `tensor`, where a dataset of strings alone does not say which it is."""
OPAQUE = "hdf5.opaque"
"""Tensor attribute: the bytes of elements without meaning, one more dimension of uint8."""
UNTYPED = "hdf5.untyped"
"""Tensor attribute: bfloat16 without an attribute that says so."""
FIXED = "hdf5.fixed"
"""Tensor attribute: the width of padded strings."""
NULL = "hdf5.null"
"""Tensor attribute: a null dataspace, which has a type and no shape."""
LARGEST_ATTRIBUTE = 60_000
"""Bytes of an attribute; what is larger becomes a dataset, since headers hold attributes."""

TENSOR_ATTRIBUTES = frozenset((OPAQUE, UNTYPED, FIXED, NULL))


def keeps(attribute: str) -> bool:
    """Whether an attribute of a tensor has a place in HDF5."""
    return attribute.startswith("@") or attribute in TENSOR_ATTRIBUTES


def link_name(key: str) -> bytes | None:
    """The link that reads as `key`; None where no link does, and the key must be kept beside."""
    if key.startswith("@"):
        return None
    name = key[2:] if key.startswith("./@") else key
    if not name or name == "." or "/" in name or "\0" in name:
        return None
    try:
        return name.encode()
    except UnicodeEncodeError:
        return None


def key_of(link: bytes) -> str:
    """The key that a link without `portackpt.key` has."""
    name = link.decode("utf-8", "surrogateescape")
    return f"./{name}" if name.startswith("@") else name


def spelled(key: str, taken: set[bytes]) -> bytes:
    """A link for a key that cannot be one, unlike all in `taken`."""
    base = escape(key).encode("utf-8", "backslashreplace").replace(b"\0", b"\\0")
    name, count = base, 0
    while name in taken or name in (b"", b".") or name.startswith(b"@"):
        count += 1
        name = b"%s~%d" % (base.lstrip(b"@"), count)
    return name


def attribute_name(key: str, value: Node) -> bytes | None:
    """The name of the attribute that `value` under `key` is; None where it must be a child."""
    if not key.startswith("@") or not _readable(value):
        return None
    name = key[1:]
    if not name or "\0" in name or name in (KEY, KIND):
        return None
    try:
        return name.encode()
    except UnicodeEncodeError:
        return None


def _readable(value: Node) -> bool:
    """Whether an attribute of this value reads as what it is."""
    if isinstance(value, str):
        return is_text(value)
    if isinstance(value, bytes):
        return is_padded(value)
    if not isinstance(value, Tensor) or value.nbytes > LARGEST_ATTRIBUTE:
        return False
    if value.dtype is STRING:
        if value.attributes.get(NULL):
            return True
        texts = [bytes(item) for item in value.read().flat]
        width = fixed_width(value, texts)
        return bool(value.shape) and (width > 0 or are_texts(texts))
    return has_number(value.dtype)


def is_text(value: str) -> bool:
    """Whether an HDF5 string of any length reads as `value`: they end at a NUL."""
    try:
        return "\0" not in value and value.encode() is not None
    except UnicodeEncodeError:
        return False


def is_padded(value: bytes) -> bool:
    """Whether a padded HDF5 string reads as `value`: it has a width, and loses NULs at its end."""
    return bool(value) and not value.endswith(b"\0")


def are_texts(values: list[bytes]) -> bool:
    return not any(b"\0" in value for value in values)


def fixed_width(tensor: Tensor, values: list[bytes]) -> int:
    """The width of padded strings; 0 where the values do not fit one."""
    width = int(tensor.attributes.get(FIXED, 0))
    fits = all(len(value) <= width and not value.endswith(b"\0") for value in values)
    return width if fits else 0


def has_number(dtype: DType) -> bool:
    """Whether HDF5 has a type for the dtype's numbers, as h5py spells them."""
    return dtype.exact and not dtype.numpy.startswith("ml_dtypes.")
