"""The opcodes of a pickle, except the few that `pickle_reader` has in its loop.

`AFTER_MARK` has those whose operands stand above a mark, `OTHERS` those that have their operand in
the pickle. Malformed operands raise `ValueError`, `LookupError` or `struct.error`.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TypeAlias

from portackpt.errors import RefusedError
from portackpt_torch.pickle_state import State
from portackpt_torch.pickled import Call, Raw, call

MAX_INTEGER = 255
"""Bytes of one integer: what LONG1 holds."""
PROTOCOL = 5

unpack_u2 = Struct("<H").unpack_from
unpack_u4 = Struct("<I").unpack_from
unpack_i4 = Struct("<i").unpack_from
_unpack_u8 = Struct("<Q").unpack_from
_unpack_f8 = Struct(">d").unpack_from


def utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return str(data, "utf-8", "surrogatepass")


_Marked: TypeAlias = Callable[[State, list[Raw], list[Raw]], None]


def _appends(state: State, stack: list[Raw], items: list[Raw]) -> None:
    target = stack[-1]
    if type(target) is list:
        target.extend(items)
    elif type(target) is not Call:
        raise ValueError(f"an item is appended to a {type(target).__name__}")
    elif target.items is None:
        target.items = items
    else:
        target.items.extend(items)


def _setitems(state: State, stack: list[Raw], items: list[Raw]) -> None:
    if len(items) % 2:
        raise ValueError("a key without a value")
    target = stack[-1]
    for index in range(0, len(items), 2):
        state.set_item(target, items[index], items[index + 1])


def _list(state: State, stack: list[Raw], items: list[Raw]) -> None:
    stack.append(items)


def _dict(state: State, stack: list[Raw], items: list[Raw]) -> None:
    stack.append({})
    _setitems(state, stack, items)


def _frozenset(state: State, stack: list[Raw], items: list[Raw]) -> None:
    stack.append(Call(state.name("builtins", "frozenset"), (items,)))


def _pop_mark(state: State, stack: list[Raw], items: list[Raw]) -> None:
    pass


AFTER_MARK: dict[int, _Marked] = {
    0x75: _setitems,  # SETITEMS
    0x65: _appends,  # APPENDS
    0x90: _appends,  # ADDITEMS
    0x6C: _list,  # LIST
    0x64: _dict,  # DICT
    0x91: _frozenset,  # FROZENSET
    0x31: _pop_mark,  # POP_MARK
}

_Other: TypeAlias = Callable[[State, list[Raw], int], int]
"""Takes the byte after the opcode, returns the byte after the operand."""


def _push(value: Callable[[], Raw]) -> _Other:
    def handler(state: State, stack: list[Raw], at: int) -> int:
        stack.append(value())
        return at

    return handler


def _counted(width: int, value: Callable[[bytes], Raw]) -> _Other:
    """An operand with its length before it, in `width` bytes."""
    unpack = {1: Struct("<B").unpack_from, 4: unpack_u4, -4: unpack_i4, 8: _unpack_u8}[width]

    def handler(state: State, stack: list[Raw], at: int) -> int:
        count: int = unpack(state.data, at)[0]
        start = at + abs(width)
        stack.append(value(state.take(start, count)))
        return start + count

    return handler


def _lined(value: Callable[[bytes], Raw]) -> _Other:
    """An operand that is the rest of the line (protocol 0)."""

    def handler(state: State, stack: list[Raw], at: int) -> int:
        line, end = state.line(at)
        stack.append(value(line))
        return end

    return handler


def _python2_text(data: bytes) -> str | bytes:
    """A `str` of Python 2: text where it can be, else bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _integer(data: bytes) -> int:
    if len(data) > MAX_INTEGER:
        raise RefusedError(f"an integer of {len(data)} bytes; at most {MAX_INTEGER} are read")
    return int.from_bytes(data, "little", signed=True)


def _decimal(line: bytes) -> int:
    return line == b"01" if line in (b"00", b"01") else int(line.rstrip(b"L"))


def _quoted(line: bytes) -> str | bytes:
    from codecs import escape_decode

    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise ValueError("a string without its quotes")
    return _python2_text(escape_decode(line[1:-1])[0])


def _proto(state: State, stack: list[Raw], at: int) -> int:
    if state.data[at] > PROTOCOL:
        raise RefusedError(f"pickle protocol {state.data[at]}; known are 0 to {PROTOCOL}")
    return at + 1


def _frame(state: State, stack: list[Raw], at: int) -> int:
    state.take(at + 8, _unpack_u8(state.data, at)[0])
    return at + 8


def _binfloat(state: State, stack: list[Raw], at: int) -> int:
    stack.append(_unpack_f8(state.data, at)[0])
    return at + 8


def _bytearray(state: State, stack: list[Raw], at: int) -> int:
    count: int = _unpack_u8(state.data, at)[0]
    stack.append(Call(state.name("builtins", "bytearray"), (state.take(at + 8, count),)))
    return at + 8 + count


def _global(state: State, stack: list[Raw], at: int) -> int:
    module, at = state.line(at)
    name, at = state.line(at)
    stack.append(state.name(module.decode(), name.decode()))
    return at


def _stack_global(state: State, stack: list[Raw], at: int) -> int:
    name = stack.pop()
    stack[-1] = state.name(stack[-1], name)
    return at


def _newobj(state: State, stack: list[Raw], at: int) -> int:
    args = stack.pop()
    stack[-1] = call(stack[-1], args)
    stack[-1].new = True
    return at


def _newobj_ex(state: State, stack: list[Raw], at: int) -> int:
    keywords = stack.pop()
    if type(keywords) is not dict:
        raise ValueError("keyword arguments must be a dict")
    _newobj(state, stack, at)
    stack[-1].keywords = keywords or None
    return at


def _build(state: State, stack: list[Raw], at: int) -> int:
    given = stack.pop()
    target = stack[-1]
    if type(target) is not Call:
        raise ValueError(f"state is given to a {type(target).__name__}")
    if target.state is not None:
        raise ValueError("state is given twice to one object")
    target.state = given
    return at


def _append(state: State, stack: list[Raw], at: int) -> int:
    item = stack.pop()
    _appends(state, stack, [item])
    return at


def _setitem(state: State, stack: list[Raw], at: int) -> int:
    value, key = stack.pop(), stack.pop()
    state.set_item(stack[-1], key, value)
    return at


def _tuple3(state: State, stack: list[Raw], at: int) -> int:
    stack[-3:] = [(stack[-3], stack[-2], stack[-1])]
    return at


def _empty_set(state: State, stack: list[Raw], at: int) -> int:
    stack.append(Call(state.name("builtins", "set"), ()))
    return at


def _put(state: State, stack: list[Raw], at: int) -> int:
    line, end = state.line(at)
    state.memo[int(line)] = stack[-1]
    return end


def _get(state: State, stack: list[Raw], at: int) -> int:
    line, end = state.line(at)
    stack.append(state.memo[int(line)])
    return end


OTHERS: dict[int, _Other] = {
    0x7D: _push(dict),  # EMPTY_DICT
    0x5D: _push(list),  # EMPTY_LIST
    0x4E: _push(lambda: None),  # NONE
    0x88: _push(lambda: True),  # NEWTRUE
    0x63: _global,  # GLOBAL
    0x93: _stack_global,  # STACK_GLOBAL
    0x62: _build,  # BUILD
    0x73: _setitem,  # SETITEM
    0x61: _append,  # APPEND
    0x87: _tuple3,  # TUPLE3
    0x47: _binfloat,  # BINFLOAT
    0x81: _newobj,  # NEWOBJ
    0x92: _newobj_ex,  # NEWOBJ_EX
    0x80: _proto,  # PROTO
    0x95: _frame,  # FRAME
    0x8F: _empty_set,  # EMPTY_SET
    0x8A: _counted(1, _integer),  # LONG1
    0x8B: _counted(-4, _integer),  # LONG4
    0x8C: _counted(1, utf8),  # SHORT_BINUNICODE
    0x8D: _counted(8, utf8),  # BINUNICODE8
    0x55: _counted(1, _python2_text),  # SHORT_BINSTRING
    0x54: _counted(-4, _python2_text),  # BINSTRING
    0x43: _counted(1, bytes),  # SHORT_BINBYTES
    0x42: _counted(4, bytes),  # BINBYTES
    0x8E: _counted(8, bytes),  # BINBYTES8
    0x96: _bytearray,  # BYTEARRAY8
    # protocol 0
    0x49: _lined(_decimal),  # INT
    0x4C: _lined(_decimal),  # LONG
    0x46: _lined(float),  # FLOAT
    0x53: _lined(_quoted),  # STRING
    0x56: _lined(lambda line: str(line, "raw-unicode-escape")),  # UNICODE
    0x70: _put,  # PUT
    0x67: _get,  # GET
}

REFUSED = {
    0x69: "INST",
    0x6F: "OBJ",
    0x50: "PERSID",
    0x82: "EXT1",
    0x83: "EXT2",
    0x84: "EXT4",
    0x32: "DUP",
    0x97: "NEXT_BUFFER",
    0x98: "READONLY_BUFFER",
}
