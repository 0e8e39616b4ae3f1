"""Pickles as data: the opcodes of protocols 0 to 5, interpreted without ever resolving a name.

A pickle is a program for a small stack machine (Python's `pickletools` documents its opcodes). The
standard machine imports and calls what the program names. This one builds a description instead:

    plain data                 None, bool, int, float, str, bytes, list, tuple, dict
    Global(module, name)       a name; it is never looked up
    Call(function, args, …)    what calling `function` would have made, and what was put into it
    persistent(id)             what the caller puts in place of a persistent id

so that reading a pickle does nothing, whatever it says. Shared parts are one object in the
description: it may contain cycles, and may be far larger when written out than it is in memory.
Who walks it bounds the walk (`values` does, and turns it into a tree).

Refused: INST, OBJ, textual PERSID, extension codes, DUP and out-of-band buffers, which no
checkpoint needs, and what goes past the limits here, in `opcodes` and `pickle_state`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from struct import error

from portackpt.errors import DamagedError, InputError, RefusedError
from portackpt_torch.opcodes import (
    AFTER_MARK,
    OTHERS,
    REFUSED,
    unpack_i4,
    unpack_u2,
    unpack_u4,
    utf8,
)
from portackpt_torch.pickle_state import State
from portackpt_torch.pickled import Persistent, Raw, call

MAX_BYTES = 256 << 20
"""Bytes of one pickle."""
MAX_OPERATIONS = 64 << 20
"""Opcodes of one pickle: what bounds the time and the memory it takes."""

BINPUT, LONG_BINPUT, BINGET, LONG_BINGET, MEMOIZE = 0x71, 0x72, 0x68, 0x6A, 0x94
BININT, BININT1, BININT2, BINUNICODE, NEWFALSE = 0x4A, 0x4B, 0x4D, 0x58, 0x89
MARK, TUPLE, EMPTY_TUPLE, TUPLE1, TUPLE2 = 0x28, 0x74, 0x29, 0x85, 0x86
REDUCE, BINPERSID, STOP, POP = 0x52, 0x51, 0x2E, 0x30


def read_pickle(data: bytes, persistent: Callable[[Raw], Raw] = Persistent) -> Raw:
    """What the pickle `data` describes; nothing may follow it.

    `persistent(id)` says what stands for a persistent id. Raises `DamagedError` for what is no
    pickle and `RefusedError` for what goes past a limit; both name the byte.
    """
    value, end = read_pickle_at(data, 0, persistent)
    if end != len(data):
        raise DamagedError(f"the pickle ends at byte {end}, expected its end at {len(data)}")
    return value


def read_pickle_at(
    data: bytes, start: int, persistent: Callable[[Raw], Raw] = Persistent
) -> tuple[Raw, int]:
    """What the pickle that starts at byte `start` describes, and the byte after its end."""
    if len(data) - start > MAX_BYTES:
        raise RefusedError(f"a pickle of {len(data) - start} bytes; at most {MAX_BYTES} are read")
    state = State(data)
    try:
        return _run(state, start, persistent), state.at
    except InputError as cause:
        cause.places = (*cause.places, f"pickle byte {state.at}")
        raise
    except MemoryError:
        raise RefusedError(
            "a pickle that needs more memory than there is", f"pickle byte {state.at}"
        ) from None
    except (error, LookupError, ValueError, TypeError) as cause:
        early = state.at >= len(data) and isinstance(cause, (error, IndexError))
        reason = "it ends early" if early else _explain(cause)
        raise DamagedError(f"malformed pickle: {reason}", f"pickle byte {state.at}") from cause


def _explain(cause: Exception) -> str:
    if isinstance(cause, KeyError):
        return f"memo entry {cause} was never stored"
    if isinstance(cause, IndexError):
        return "an operand or a mark is missing on the stack"
    return str(cause)


def _run(state: State, start: int, persistent: Callable[[Raw], Raw]) -> Raw:
    """Interpret up to STOP. The opcodes of ordinary tensors come first: this loop is hot."""
    data, memo, size = state.data, state.memo, len(state.data)
    stack: list[Raw] = []
    marks: list[list[Raw]] = []
    at = start
    try:
        for _ in repeat(None, MAX_OPERATIONS):
            op = data[at]
            at += 1
            if op == LONG_BINPUT:
                memo[unpack_u4(data, at)[0]] = stack[-1]
                at += 4
            elif op == BINGET:
                stack.append(memo[data[at]])
                at += 1
            elif op == BININT1:
                stack.append(data[at])
                at += 1
            elif op == MARK:
                marks.append(stack)
                stack = []
            elif op == BINUNICODE:
                end = at + 4 + unpack_u4(data, at)[0]
                if end > size:
                    raise ValueError(f"text up to byte {end} is announced, {size} are there")
                stack.append(utf8(data[at + 4 : end]))
                at = end
            elif op == TUPLE:
                items, stack = stack, marks.pop()
                stack.append(tuple(items))
            elif op == REDUCE:
                args = stack.pop()
                stack[-1] = call(stack[-1], args)
            elif op == TUPLE1:
                stack[-1] = (stack[-1],)
            elif op == EMPTY_TUPLE:
                stack.append(())
            elif op == MEMOIZE:
                memo[len(memo)] = stack[-1]
            elif op in OTHERS:
                at = OTHERS[op](state, stack, at)
            elif op in AFTER_MARK:
                items, stack = stack, marks.pop()
                AFTER_MARK[op](state, stack, items)
            elif op == NEWFALSE:
                stack.append(False)
            elif op == BINPERSID:
                stack[-1] = persistent(stack[-1])
            elif op == TUPLE2:
                second = stack.pop()
                stack[-1] = (stack[-1], second)
            elif op == BINPUT:
                memo[data[at]] = stack[-1]
                at += 1
            elif op == LONG_BINGET:
                stack.append(memo[unpack_u4(data, at)[0]])
                at += 4
            elif op == BININT2:
                stack.append(unpack_u2(data, at)[0])
                at += 2
            elif op == BININT:
                stack.append(unpack_i4(data, at)[0])
                at += 4
            elif op == STOP:
                return _result(stack, marks)
            elif op == POP and stack:
                stack.pop()
            elif op == POP:
                stack = marks.pop()
            else:
                raise _unknown(op)
        raise RefusedError(f"a pickle of more than {MAX_OPERATIONS} opcodes")
    finally:
        state.at = at


def _result(stack: list[Raw], marks: list[list[Raw]]) -> Raw:
    if marks or len(stack) != 1:
        raise ValueError("it does not end with one value on the stack")
    return stack[0]


def _unknown(op: int) -> InputError:
    if op in REFUSED:
        return RefusedError(f"opcode {REFUSED[op]}, which no checkpoint needs")
    return DamagedError(f"malformed pickle: unknown opcode {op:#04x}")
