"""Trees as `flax.serialization` spells them: msgpack, with arrays as extensions.

    nil │ bool │ int │ float │ str │ bin │ map        plain values and dicts, as they are
    ext 1  ndarray: msgpack of [shape, dtype name, bytes]      ext 3  numpy scalar: likewise
    ext 2  complex: msgpack of [real, imaginary]
    {"0": …, "1": …}                                           a list (flax.serialization)
    {"__msgpack_chunked_array__": true, "shape": {"0": n, …}, "chunks": {"0": ndarray, …}}

Source: flax/serialization.py. A tree is spelled as text between the bytes of its tensors, so that
these are streamed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from portackpt.dtypes import DType
from portackpt.errors import WriteError
from portackpt.tensor import Tensor
from portackpt.tree import Node, escape

CHUNKED = "__msgpack_chunked_array__"
MOST = 1 << 30
"""Bytes of an array that is not split into chunks."""
SCALAR = "numpy.scalar"
_NDARRAY, _COMPLEX, _NPSCALAR = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Array:
    """The next tensor: `marks` are (offset in its bytes, text that stands before that byte)."""

    tensor: Tensor
    marks: tuple[tuple[int, bytes], ...]


def spell(tree: Node, sequences: frozenset[str]) -> tuple[list[Array], bytes]:
    """`tree` as tensors with the text before and within them, and the text after the last.

    Lists whose path is in `sequences` are arrays of msgpack, the others dicts by number.
    """
    speller = _Speller(sequences)
    speller.spell(tree)
    return speller.arrays, speller.rest()


class _Speller:
    def __init__(self, sequences: frozenset[str]) -> None:
        import msgpack

        self._sequences = sequences
        self._packer = msgpack.Packer(strict_types=True)
        self._text = bytearray()
        self._place: list[Node] = []
        self.arrays: list[Array] = []

    def rest(self) -> bytes:
        """The text since the last tensor."""
        text = bytes(self._text)
        self._text.clear()
        return text

    def spell(self, root: Node) -> None:
        stack: list[Iterator[tuple[Node, Node]]] = []
        node = root
        while True:
            if isinstance(node, (dict, list)):
                stack.append(self._open(node))
            elif isinstance(node, Tensor):
                self._tensor(node)
            else:
                self._plain(node)
            while stack:
                part = next(stack[-1], None)
                if part is not None:
                    break
                stack.pop()
                self._place.pop()
            else:
                return
            key, node = part
            self._place[-1] = key

    def _open(self, node: Node) -> Iterator[tuple[Node, Node]]:
        """Write the head of a container; gives each part with its key, which is written then."""
        is_map = isinstance(node, dict) or self._path() not in self._sequences
        head = self._packer.pack_map_header if is_map else self._packer.pack_array_header
        self._text += head(len(node))
        self._place.append(None)
        return self._parts(node, is_map)

    def _parts(self, node: Node, is_map: bool) -> Iterator[tuple[Node, Node]]:
        for key, part in node.items() if isinstance(node, dict) else enumerate(node):
            if is_map:
                self._plain(key if isinstance(node, dict) else str(key))
            yield key, part

    def _path(self) -> str:
        return "/".join(escape(str(key)) for key in self._place)

    def _plain(self, value: Node) -> None:
        try:
            if isinstance(value, complex):
                parts = b"\x92" + struct.pack(">BdBd", 0xCB, value.real, 0xCB, value.imag)
                self._text += _extension(_COMPLEX, len(parts)) + parts
            else:
                self._text += self._packer.pack(value)
        except (UnicodeEncodeError, OverflowError, ValueError, TypeError) as error:
            raise WriteError(f"msgpack cannot hold {value!r:.60}: {error}", self._path()) from None

    def _tensor(self, tensor: Tensor) -> None:
        code = _NDARRAY
        if not tensor.shape and tensor.attributes.get("numpy.class") == SCALAR:
            code = _NPSCALAR
        if tensor.nbytes <= MOST:
            self._array(code, tensor.dtype, tensor.shape)
            self.arrays.append(Array(tensor, ((0, self.rest()),)))
        else:
            self._chunks(tensor)

    def _chunks(self, tensor: Tensor) -> None:
        """A large array as a dict of its shape and of flat pieces."""
        pack, itemsize = self._packer.pack, tensor.dtype.itemsize
        shape = {str(axis): n for axis, n in enumerate(tensor.shape)}
        self._text += self._packer.pack_map_header(3)
        self._text += pack(CHUNKED) + pack(True) + pack("shape") + pack(shape) + pack("chunks")
        each = max(1, MOST // itemsize)
        starts = range(0, tensor.size, each)
        self._text += self._packer.pack_map_header(len(starts))
        marks = []
        for number, start in enumerate(starts):
            self._text += pack(str(number))
            self._array(_NDARRAY, tensor.dtype, (min(each, tensor.size - start),))
            marks.append((start * itemsize, self.rest()))
        self.arrays.append(Array(tensor, tuple(marks)))

    def _array(self, code: int, dtype: DType, shape: tuple[int, ...]) -> None:
        """All of an array but its bytes, which have to follow."""
        nbytes = prod(shape) * dtype.itemsize
        pack = self._packer.pack
        head = b"\x93" + pack(list(shape)) + pack(dtype.name)
        head += _sized(nbytes, {1: 0xC4, 2: 0xC5, 4: 0xC6})
        self._text += _extension(code, len(head) + nbytes) + head


def _extension(code: int, length: int) -> bytes:
    fixed = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}.get(length)
    head = bytes([fixed]) if fixed else _sized(length, {1: 0xC7, 2: 0xC8, 4: 0xC9})
    return head + bytes([code])


def _sized(length: int, markers: dict[int, int]) -> bytes:
    """A marker with a length, in the narrowest width that holds it."""
    width = 1 if length < 1 << 8 else 2 if length < 1 << 16 else 4
    return bytes([markers[width]]) + length.to_bytes(width, "big")
