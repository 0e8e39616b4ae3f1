"""From what a pickle describes to a tree of plain data, tensors and objects.

Calls whose shape is known become what they stand for (`KNOWN` tables of this module, `tensors` and
`arrays`); every other call, and every name, becomes an `Object` that carries its plain data. Shared
parts are built once; a part that contains itself is cut with `Object("portackpt.cycle")`. The size
of the tree as written out is bounded, and counted without writing it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from portackpt.errors import DamagedError, RefusedError
from portackpt.tree import MAX_DEPTH, Node, Object
from portackpt_torch.pickled import Call, Global, Raw
from portackpt_torch.storages import Storage, Storages

CYCLE = "portackpt.cycle"
ANONYMOUS = "portackpt.call"
"""The type of what is made by calling something that has no name."""
LEAVES_AT_LEAST = 1 << 20
LEAVES_PER_BYTE = 4
"""Leaves of a tree, at most: four for each byte of the pickle, a million for a small one."""

_PLAIN = frozenset((type(None), bool, int, float, complex))


class Builder:
    """Builds the tree of one pickle of `nbytes` bytes."""

    def __init__(self, known: Mapping[str, Handler], storages: Storages, nbytes: int) -> None:
        self.known = known
        self.storages = storages
        self.facts: dict[str, str] = {}
        """What the file spells in one of several ways and a writer repeats."""
        self.nested: dict[int, Storage] = {}
        """Storages that stand in the pickle itself, by the id of their call."""
        self._handlers: dict[Global, Handler] = {}
        self._limit = max(LEAVES_AT_LEAST, LEAVES_PER_BYTE * nbytes)
        self._leaves = 0
        self._depth = 0
        self._open: set[int] = set()
        # the raw value is kept so that its id is not given to another
        self._built: dict[int, tuple[Raw, Node, int]] = {}

    def tree(self, raw: Raw) -> Node:
        """The tree of the whole pickle."""
        try:
            return self.node(raw)
        except RecursionError:
            raise RefusedError(f"containers more than {MAX_DEPTH} deep") from None

    def node(self, raw: Raw) -> Node:
        """The tree of one part."""
        kind = type(raw)
        if kind is str or kind is bytes:
            self._count(1 + (len(raw) >> 6))
            return raw
        if kind in _PLAIN:
            self._count(1)
            return raw
        key = id(raw)
        done = self._built.get(key)
        if done is not None:
            self._count(done[2])
            return done[1]
        if key in self._open:
            return Object(CYCLE)
        before = self._leaves
        self._count(1)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise RefusedError(f"containers more than {MAX_DEPTH} deep")
        self._open.add(key)
        # the containers are told apart here, not in a function: a level of the tree costs two
        # levels of Python's stack
        node: Node
        if kind is Call:
            node = self._handler(raw.function)(self, raw)
        elif kind is dict:
            node = self.entries(raw)
        elif kind is list:
            node = self.items(raw)
        elif kind is tuple:
            node = tuple(self.items(raw))
        elif kind is Global:
            node = Object(raw.dotted)
        elif kind is Storage:
            node = self.known["storage"](self, raw)
        else:
            raise DamagedError(f"a {kind.__name__} stands where a value is expected")
        self._open.discard(key)
        self._depth -= 1
        self._built[key] = (raw, node, self._leaves - before)
        return node

    def _handler(self, function: Raw) -> Handler:
        if type(function) is not Global:
            return generic
        handler = self._handlers.get(function)
        if handler is None:
            handler = self._handlers[function] = self.known.get(function.dotted, generic)
        return handler

    def _count(self, leaves: int) -> None:
        self._leaves += leaves
        if self._leaves > self._limit:
            raise RefusedError(
                f"written out, the values are more than {self._limit} leaves: shared parts are "
                "repeated beyond what a checkpoint needs"
            )

    def items(self, raw: list[Raw] | tuple[Raw, ...]) -> list[Node]:
        nodes = []
        for item in raw:
            nodes.append(self.node(item))
        return nodes

    def entries(self, raw: dict[Raw, Raw]) -> dict[Node, Node]:
        nodes: dict[Node, Node] = {}
        for key, item in raw.items():
            value = self.node(item)
            if type(key) is not str:
                key = self.node(key)
                try:
                    hash(key)
                except TypeError:
                    raise DamagedError("a dictionary key that is a container") from None
            nodes[key] = value
        if len(nodes) < len(raw):
            raise DamagedError("two keys of a dictionary are equal")
        return nodes


Handler: TypeAlias = Callable[[Builder, Call], Node]


def generic(builder: Builder, call: Call) -> Node:
    """An object of a type we do not know, as its plain data."""
    name, args = _type(call)
    nodes = builder.items(args)
    if name is None:
        nodes.insert(0, builder.node(call.function))
    if call.keywords is not None:
        nodes.append(builder.entries(call.keywords))
    return Object(
        name or ANONYMOUS,
        tuple(nodes),
        None if call.items is None else builder.items(call.items),
        None if call.entries is None else builder.entries(call.entries),
        None if call.state is None else builder.node(call.state),
    )


def _type(call: Call) -> tuple[str | None, tuple[Raw, ...]]:
    """The name of what is made and the arguments, seen through `copyreg` and `getattr`."""
    function, args = call.function, call.args
    if type(function) is not Global:
        return None, args
    name = function.dotted
    if args and type(args[0]) is Global:
        if name == "copyreg.__newobj__":
            return args[0].dotted, args[1:]
        if name == "copyreg._reconstructor" and len(args) == 3:
            bare = args[1] == Global("builtins", "object")
            return args[0].dotted, () if bare else args[2:]
        if name == "builtins.getattr" and len(args) == 2 and type(args[1]) is str:
            return f"{args[0].dotted}.{args[1]}", ()
    return name, args


# Python's own types


def _ordered_dict(builder: Builder, call: Call) -> Node:
    entries = call.entries or {}
    if call.args:
        pairs = _pairs(call.args)
        if pairs is None or entries:
            return generic(builder, call)
        entries = pairs
    if call.items is not None:
        return generic(builder, call)
    state = None if call.state is None else builder.node(call.state)
    return Object("collections.OrderedDict", entries=builder.entries(entries), state=state)


def _pairs(args: tuple[Raw, ...]) -> dict[Raw, Raw] | None:
    """The entries of `OrderedDict([[key, value], …])`, as Python 2 spells it."""
    if len(args) != 1 or type(args[0]) is not list:
        return None
    entries: dict[Raw, Raw] = {}
    for pair in args[0]:
        if type(pair) not in (list, tuple) or len(pair) != 2 or type(pair[0]) not in (str, int):
            return None
        entries[pair[0]] = pair[1]
    return entries if len(entries) == len(args[0]) else None


def _counter(builder: Builder, call: Call) -> Node:
    counts = call.args[0] if len(call.args) == 1 else None
    if type(counts) is not dict or call.entries or call.items or call.state:
        return generic(builder, call)
    return Object("collections.Counter", entries=builder.entries(counts))


def _set(builder: Builder, call: Call) -> Node:
    items = call.args[0] if len(call.args) == 1 else [] if not call.args else None
    if type(items) not in (list, tuple) or call.entries or call.state:
        return generic(builder, call)
    assert isinstance(items, (list, tuple)) and isinstance(call.function, Global)
    return Object(call.function.dotted, items=builder.items([*items, *(call.items or ())]))


def _complex(builder: Builder, call: Call) -> Node:
    if len(call.args) == 2 and all(type(part) in (int, float) for part in call.args):
        return complex(*call.args)
    return generic(builder, call)


def _encode(builder: Builder, call: Call) -> Node:
    """How protocol 2 spells bytes."""
    data = encoded(call)
    if data is None:
        raise RefusedError("_codecs.encode of something other than bytes spelled as latin1")
    return data


def encoded(raw: Raw) -> bytes | None:
    """The bytes that `raw` spells; None where it spells none."""
    if type(raw) is bytes:
        return raw
    if type(raw) is not Call or raw.function != Global("_codecs", "encode"):
        return None
    if len(raw.args) != 2 or type(raw.args[0]) is not str or raw.args[1] != "latin1":
        return None
    try:
        return raw.args[0].encode("latin1")
    except UnicodeEncodeError:
        return None


def _bytes(builder: Builder, call: Call) -> Node:
    return generic(builder, call) if call.args or call.state else b""


def _bytearray(builder: Builder, call: Call) -> Node:
    data = encoded(call.args[0]) if call.args else b""
    if len(call.args) == 2 and type(call.args[0]) is str and call.args[1] == "latin-1":
        data = call.args[0].encode("latin1", "replace")
    if data is None or call.items or call.state:
        return generic(builder, call)
    return Object("builtins.bytearray", (data,))


def _dict(builder: Builder, call: Call) -> Node:
    if call.args or call.items or call.state:
        return generic(builder, call)
    return builder.entries(call.entries or {})


def _list(builder: Builder, call: Call) -> Node:
    if call.args or call.entries or call.state:
        return generic(builder, call)
    return builder.items(call.items or [])


KNOWN: dict[str, Handler] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.Counter": _counter,
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.complex": _complex,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytearray,
    "builtins.dict": _dict,
    "builtins.list": _list,
    "_codecs.encode": _encode,
}
