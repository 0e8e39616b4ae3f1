"""Pickles of protocol 2 that `torch.load(weights_only=True)` reads, written from trees.

Only opcodes that torch's own unpickler knows are used. Plain data is written as Python's pickle
writes it; `tensor_writer` says how a tensor is, `object_writers` how an `Object` is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from struct import Struct
from typing import TypeAlias

from portackpt.errors import WriteError
from portackpt.tensor import Tensor
from portackpt.tree import Node, Object
from portackpt_torch.shelf import Shelf

_U1, _U2, _I4, _U4 = (Struct(form).pack for form in ("<B", "<H", "<i", "<I"))
_F8 = Struct(">d").pack
MAX_TEXT = 0xFFFFFFFF

TensorWriter: TypeAlias = Callable[["Pickler", Tensor], None]
ObjectWriter: TypeAlias = Callable[["Pickler", Object], None]


class Pickler:
    """Appends one pickle to `out`; the storages of its tensors gather on `shelf`.

    `core` is what numpy's core is called in it: `numpy._core`, before numpy 2 `numpy.core`.
    """

    def __init__(
        self, tensor: TensorWriter, objects: Mapping[str, ObjectWriter], core: str
    ) -> None:
        self.out = bytearray(b"\x80\x02")
        self.shelf = Shelf()
        self.core = core
        self._tensor = tensor
        self._objects = objects
        self._memo: dict[str | tuple[str, str] | int, bytes] = {}

    def finish(self) -> bytes:
        """The pickle of everything written so far, which is one value."""
        return bytes(self.out) + b"."

    def node(self, node: Node) -> None:
        """Any part of a tree."""
        kind = type(node)
        if kind is Tensor:
            self._tensor(self, node)
        elif kind is str:
            self.text(node)
        elif kind is dict:
            self.out += b"}"
            self.entries(node)
        elif kind is list:
            self.out += b"]"
            self.items(node)
        elif kind is tuple:
            self.parts(node)
        elif kind is Object:
            writer = self._objects.get(node.type)
            if writer is None:
                raise WriteError(f"torch.load rebuilds no {node.type}")
            writer(self, node)
        else:
            self._scalar(node)

    def entries(self, entries: Mapping[Node, Node]) -> None:
        """Set `entries` in the mapping on the stack."""
        if entries:
            self.out += b"("
            for key, item in entries.items():
                self.node(key)
                self.node(item)
            self.out += b"u"

    def items(self, items: Iterable[Node]) -> None:
        """Append `items` to the list on the stack."""
        self.out += b"("
        for item in items:
            self.node(item)
        self.out += b"e"

    def parts(self, items: tuple[Node, ...]) -> None:
        """A tuple."""
        if not items:
            self.out += b")"
            return
        self.out += b"("
        for item in items:
            self.node(item)
        self.out += b"t"

    def call(self, module: str, name: str, *args: Node) -> None:
        """What `module.name(*args)` returns."""
        self.name(module, name)
        self.parts(args)
        self.out += b"R"

    def build(self, state: Node) -> None:
        """Give `state` to the value on the stack."""
        self.node(state)
        self.out += b"b"

    def name(self, module: str, name: str) -> None:
        known = self._memo.get((module, name))
        if known is not None:
            self.out += known
        else:
            self.out += f"c{module}\n{name}\n".encode()
            self.remember((module, name))

    def text(self, text: str) -> None:
        known = self._memo.get(text)
        if known is not None:
            self.out += known
        else:
            data = text.encode("utf-8", "surrogatepass")
            if len(data) > MAX_TEXT:
                raise WriteError(f"a text of {len(data)} bytes; a pickle holds {MAX_TEXT}")
            self.out += b"X" + _U4(len(data)) + data
            self.remember(text)

    def data(self, data: bytes) -> None:
        """Bytes, which protocol 2 can only spell as text."""
        self.name("_codecs", "encode")
        text = data.decode("latin1").encode()
        if len(text) > MAX_TEXT:
            raise WriteError(f"{len(data)} bytes in one piece are too many for a pickle")
        self.out += b"(X" + _U4(len(text)) + text
        self.text("latin1")
        self.out += b"tR"

    def _scalar(self, value: Node) -> None:
        kind = type(value)
        if value is None:
            self.out += b"N"
        elif kind is bool:
            self.out += b"\x88" if value else b"\x89"
        elif kind is int:
            self.out += integer(value)
        elif kind is float:
            self.out += b"G" + _F8(value)
        elif kind is bytes:
            self.data(value)
        elif kind is complex:
            self.call("__builtin__", "complex", value.real, value.imag)
        else:
            raise WriteError(f"a {kind.__name__} in a tree of plain data")

    def recall(self, key: str | tuple[str, str] | int) -> bool:
        """Put what was remembered as `key` on the stack; False where nothing was."""
        known = self._memo.get(key)
        if known is None:
            return False
        self.out += known
        return True

    def remember(self, key: str | tuple[str, str] | int) -> None:
        """Remember the value on the stack."""
        index = len(self._memo)
        if index < 256:
            self.out += b"q" + _U1(index)
            self._memo[key] = b"h" + _U1(index)
        else:
            self.out += b"r" + _U4(index)
            self._memo[key] = b"j" + _U4(index)


_SMALL = [b"K" + _U1(value) for value in range(1 << 8)]


def integer(value: int) -> bytes:
    """An integer, in as few bytes as it takes."""
    if 0 <= value < 1 << 8:
        return _SMALL[value]
    if 0 <= value < 1 << 16:
        return b"M" + _U2(value)
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + _I4(value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    if len(data) > 255:
        raise WriteError(f"an integer of {len(data)} bytes; torch.load reads 255")
    return b"\x8a" + _U1(len(data)) + data
