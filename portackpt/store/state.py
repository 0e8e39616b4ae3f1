"""State files: trees that JSON cannot hold, as MessagePack that any reader of it can read.

Plain values are themselves; every array begins with a tag that says what it is (`spec/format.md`):

    nil true false 1 -2.5 "text" (bin)bytes
    ["list", item…]  ["tuple", item…]  ["dict", key, value, …]
    ["int", "decimal digits"]          beyond 64 bits
    ["complex", real, imaginary]
    ["str", (bin)utf-8]                text with lone surrogates, which MessagePack cannot hold
    ["tensor", number]                 of the index; ["tensor", number, name, attribute, …] where
                                       it stands first
    ["object", type, args, items, entries, state]     a tuple, a list or nil, a dict or nil, any

Nothing recurses here, so that depth costs no Python stack; nothing is allocated for a length that
the file only claims.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from portackpt.errors import WriteError
from portackpt.store import nodes
from portackpt.store.fault import Fault, FaultError
from portackpt.tensor import Tensor
from portackpt.tree import MAX_DEPTH, Node, Object

MakeTensor = Callable[[int, Mapping[str, Node]], Tensor]
"""Makes the tensor of a number, with its attributes."""


def pack(node: Node, numbers: Mapping[int, int], depth: int = MAX_DEPTH) -> bytes:
    """`node` as MessagePack; `numbers` says which number the tensor with an `id()` has."""
    return _Packer(numbers, depth).pack(node)


def unpack(data: bytes, make_tensor: MakeTensor, depth: int = MAX_DEPTH) -> Node:
    """The node that `data` spells. Raises a `Fault`'s error, with the offset."""
    return _Unpacker(data, make_tensor, depth).unpack()


class _Packer:
    def __init__(self, numbers: Mapping[int, int], depth: int) -> None:
        import msgpack

        self._depth = depth
        self._numbers = numbers
        self._met: set[int] = set()
        self._out = msgpack.Packer(autoreset=False)

    def pack(self, root: Node) -> bytes:
        write = self._out.pack
        stack: list[tuple[Node, int, Iterator[Node]]] = [(None, 0, iter((root,)))]
        while stack:
            parent, level, parts = stack[-1]
            for node in parts:
                kind = type(node)
                if kind in _SIMPLE:
                    write(node)
                elif kind is str or kind is int or kind is complex:
                    self._scalar(node)
                elif (inner := self._open(node)) is not None:
                    part = type(parent) is Object and kind in (dict, list, tuple)
                    stack.append((node, level if part else level + 1, inner))
                    break
            else:
                stack.pop()
            if stack and stack[-1][1] > self._depth:
                raise WriteError(f"containers are nested deeper than {self._depth} levels")
        data: bytes = self._out.bytes()
        return data

    def _scalar(self, value: str | int | complex) -> None:
        write = self._out.pack
        if isinstance(value, int):
            write(value if value in nodes.INTEGERS else ["int", _digits(value)])
        elif isinstance(value, complex):
            write(["complex", value.real, value.imag])
        else:
            whole = value.isascii() or not nodes.SURROGATE.search(value)
            write(value if whole else ["str", value.encode("utf-8", "surrogatepass")])

    def _open(self, node: Node) -> Iterator[Node] | None:
        """Write the head of a container; its parts are still to be written."""
        kind = type(node)
        if kind is Tensor:
            return self._tensor(node)
        if kind is dict:
            self._head("dict", 2 * len(node))
            return chain.from_iterable(node.items())
        if kind is list or kind is tuple:
            self._head(kind.__name__, len(node))
            return iter(list(node))
        if kind is Object:
            self._head("object", 5)
            return iter((node.type, node.args, node.items, node.entries, node.state))
        raise WriteError(f"a {kind.__name__} is no part of a tree")

    def _head(self, tag: str, count: int) -> None:
        self._out.pack_array_header(1 + count)
        self._out.pack(tag)

    def _tensor(self, tensor: Tensor) -> Iterator[Node] | None:
        number = self._numbers[id(tensor)]
        attributes: Mapping[str, Node] = {} if number in self._met else tensor.attributes
        self._met.add(number)
        if not attributes:
            self._out.pack(["tensor", number])
            return None
        self._head("tensor", 1 + 2 * len(attributes))
        return chain((number,), chain.from_iterable(attributes.items()))


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:
        raise WriteError(f"an integer has more than {nodes.MAX_DIGITS} digits") from None


_SIMPLE = frozenset((type(None), bool, float, bytes))
_TAGS = {
    bytes([0xA0 | len(tag)]) + tag.encode(): tag
    for tag in ("dict", "list", "tuple", "tensor", "object", "str", "int", "complex")
}
_FIXED = {  # the code of a number, and how its bytes are read
    0xCB: struct.Struct(">d"),
    0xCC: struct.Struct(">B"),
    0xCD: struct.Struct(">H"),
    0xCE: struct.Struct(">I"),
    0xCF: struct.Struct(">Q"),
    0xD0: struct.Struct(">b"),
    0xD1: struct.Struct(">h"),
    0xD2: struct.Struct(">i"),
    0xD3: struct.Struct(">q"),
}
_SIZED = {  # the code of text, bytes or an array: what it is, and how wide its length is
    0xC4: ("bytes", 1),
    0xC5: ("bytes", 2),
    0xC6: ("bytes", 4),
    0xD9: ("text", 1),
    0xDA: ("text", 2),
    0xDB: ("text", 4),
    0xDC: ("array", 2),
    0xDD: ("array", 4),
}
_BARE_TENSOR = b"\x92\xa6tensor"
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_FOREIGN = {0xC1: "an unused code", 0xCA: "a 32-bit float", 0xC7: "an extension type",
            0xC8: "an extension type", 0xC9: "an extension type", 0xDE: "a map", 0xDF: "a map",
            **dict.fromkeys(range(0xD4, 0xD9), "an extension type"),
            **dict.fromkeys(range(0x80, 0x90), "a map")}  # fmt: skip
_PARTS = frozenset(("tuple", "list", "dict"))


class _Frame:
    """An array whose parts are being read."""

    __slots__ = ("count", "level", "offset", "parts", "tag")

    def __init__(self, tag: str, count: int, level: int, offset: int) -> None:
        self.tag = tag
        self.count = count
        self.level = level
        self.offset = offset
        self.parts: list[Node] = []


class _Unpacker:
    def __init__(self, data: bytes, make_tensor: MakeTensor, depth: int) -> None:
        self._depth = depth
        self._data = data
        self._at = 0
        self._make_tensor = make_tensor
        self._tensors: dict[int, Tensor] = {}

    def unpack(self) -> Node:
        try:
            value = self._unpack()
        except (IndexError, struct.error):
            raise _error("N-1", "the state ends early", len(self._data)) from None
        if self._at != len(self._data):
            raise self._error("nothing after the tree", f"{len(self._data) - self._at} bytes")
        return value

    def _unpack(self) -> Node:
        data = self._data
        stack: list[_Frame] = []
        while True:
            start = self._at
            code = data[start]
            if 0xA0 <= code <= 0xBF:
                value: Node = self._text(start + 1, code & 0x1F)
            elif data.startswith(_BARE_TENSOR, start):
                self._at = start + len(_BARE_TENSOR)
                value = self._close("tensor", [self._value()], start)
            elif (count := self._array(code)) is None:
                value = self._value()
            else:
                frame = self._frame(count, start, stack[-1] if stack else None)
                if frame.count:
                    stack.append(frame)
                    continue
                value = self._close(frame.tag, frame.parts, start)
            while stack:
                frame = stack[-1]
                frame.parts.append(value)
                if len(frame.parts) < frame.count:
                    break
                stack.pop()
                value = self._close(frame.tag, frame.parts, frame.offset)
            else:
                return value

    def _array(self, code: int) -> int | None:
        """The length of an array that begins here; None where something else does."""
        if 0x90 <= code <= 0x9F:
            self._at += 1
            return code & 0x0F
        kind, width = _SIZED.get(code, ("", 0))
        return self._length(width) if kind == "array" else None

    def _length(self, width: int) -> int:
        """The length in the `width` bytes after a code; what it counts must fit into the rest."""
        start = self._at + 1
        self._at = start + width
        if self._at > len(self._data):
            raise IndexError
        length = int.from_bytes(self._data[start : self._at], "big")
        if length > len(self._data) - self._at:
            rest = len(self._data) - self._at
            raise _error("N-1", f"expected a length of at most {rest}, found {length}", start - 1)
        return length

    def _frame(self, count: int, start: int, parent: _Frame | None) -> _Frame:
        code = self._data[self._at] if count else 0
        width = 1 + (code & 0x1F)
        short = 0xA0 <= code <= 0xBF
        if short and self._at + width > len(self._data):
            raise IndexError
        tag = _TAGS.get(self._data[self._at : self._at + width]) if short else None
        if tag is None:
            place = self._at if count else start
            raise _error("N-2", f"expected the tag of an array, found {self._found()}", place)
        self._at += width
        level = parent.level + 1 if parent is not None else 1
        if parent is not None and parent.tag == "object" and tag in _PARTS:
            level = parent.level  # the parts of an object are no level of their own
        if level > self._depth:
            told = f"containers are nested deeper than {self._depth} levels"
            raise _error("L-7", told, start)
        return _Frame(tag, count - 1, level, start)

    def _value(self) -> Node:
        data = self._data
        code = data[self._at]
        if 0xA0 <= code <= 0xBF:
            return self._text(self._at + 1, code & 0x1F)
        if code <= 0x7F or code >= 0xE0:
            self._at += 1
            return code if code <= 0x7F else code - 0x100
        number = _FIXED.get(code)
        if number is not None:
            value = number.unpack_from(data, self._at + 1)[0]
            self._at += 1 + number.size
            return value
        if code in _CONSTANTS:
            self._at += 1
            return _CONSTANTS[code]
        if code not in _SIZED:
            raise self._error("a value", _FOREIGN.get(code, "an array"))
        kind, width = _SIZED[code]
        length = self._length(width)
        if kind == "text":
            return self._text(self._at, length)
        self._at += length
        return data[self._at - length : self._at]

    def _text(self, start: int, length: int) -> str:
        end = start + length
        if end > len(self._data):
            raise IndexError
        self._at = end
        try:
            return self._data[start:end].decode()
        except UnicodeDecodeError as error:
            place = start + error.start
            told = f"expected UTF-8 text, found byte {self._data[place]:#04x}"
            raise _error("N-1", told, place) from None

    def _close(self, tag: str, parts: list[Node], offset: int) -> Node:
        """The node of an array that was read to its end."""
        try:
            if tag == "tensor":
                return self._tensor(parts)
            return nodes.MAKERS[tag](parts)
        except ValueError as error:
            raise _error(nodes.CODES[tag], f"not a valid {tag!r} array ({error})", offset) from None

    def _tensor(self, parts: list[Node]) -> Tensor:
        number = parts[0] if parts else None
        if type(number) is not int:
            raise ValueError("its number is missing")
        tensor = self._tensors.get(number)
        if tensor is None:
            attributes = nodes.to_dict(parts[1:]) if len(parts) > 1 else {}
            nodes.need(
                all(type(name) is str for name in attributes), "an attribute's name is no text"
            )
            tensor = self._tensors[number] = self._make_tensor(number, attributes)
        else:
            nodes.need(len(parts) == 1, f"tensor {number} stands here again, with attributes")
        return tensor

    def _found(self) -> str:
        if self._at >= len(self._data):
            return "the end"
        return f"byte {self._data[self._at]:#04x}"

    def _error(self, expected: str, found: str) -> FaultError:
        return _error("N-1", f"expected {expected}, found {found}", self._at)


def _error(code: str, message: str, offset: int) -> FaultError:
    return Fault(code, message, offset=offset).error()
