"""The file `checkpoint` in a directory of checkpoints: a text that names the newest of them.

    model_checkpoint_path: "ckpt-9"
    all_model_checkpoint_paths: "ckpt-8"
    all_model_checkpoint_paths: "ckpt-9"

Paths may be absolute, and of another machine. Only their last component is used, and only if it
names something in the same directory: nothing that the text says leads out of it.

Source: tensorflow/python/training/checkpoint_state.proto.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NAME = "checkpoint"
_LIMIT = 16 << 20
_START = re.compile(rb"(?:\s|#[^\n]*\n)*(?:all_)?model_checkpoint_path")
_TEXT = re.compile(rb"""(["'])((?:\\.|[^\\])*?)\1""")
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)", re.S)
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f",
            b"v": b"\v"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    """What the text says: the newest checkpoint, and all of them, oldest first."""

    newest: str | None
    known: tuple[str, ...]


def is_state(head: bytes) -> bool:
    """True for the beginning of such a file."""
    return _START.match(head) is not None


def read_state(directory: Path) -> State | None:
    """The state file of a directory; None where there is none."""
    path = directory / NAME
    if not path.is_file() or path.stat().st_size > _LIMIT:
        return None
    data = path.read_bytes()
    return _parse(data) if is_state(data) else None


def _parse(data: bytes) -> State:
    newest = None
    known = []
    for line in data.splitlines():
        field, _, value = line.partition(b":")
        if field.strip() == b"model_checkpoint_path":
            newest = _unquote(value)
        elif field.strip() == b"all_model_checkpoint_paths":
            known.append(_unquote(value))
    return State(newest, tuple(known))


def _unquote(value: bytes) -> str:
    parts = [body for _, body in _TEXT.findall(value)]  # adjacent texts are one
    return _ESCAPE.sub(_unescape, b"".join(parts)).decode("utf-8", "surrogateescape")


def _unescape(found: re.Match[bytes]) -> bytes:
    code = found[1]
    if code[:1].isdigit():
        return bytes((int(code, 8) & 0xFF,))
    if code[:1] == b"x" and len(code) > 1:
        return bytes((int(code[1:], 16),))
    return _LETTERS.get(code, code)


def encode_state(state: State) -> bytes:
    """The text of a state file."""
    lines = [f"all_model_checkpoint_paths: {_quote(name)}\n" for name in state.known]
    if state.newest is not None:
        lines.insert(0, f"model_checkpoint_path: {_quote(state.newest)}\n")
    return "".join(lines).encode()


def _quote(name: str) -> str:
    plain = [
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\{byte:03o}"
        for byte in name.encode("utf-8", "surrogateescape")
    ]
    return f'"{"".join(plain)}"'


def last_component(text: str) -> str:
    """The name at the end of a path of any system; empty where there is none to use."""
    name = re.split(r"[/\\]", text)[-1]
    return "" if name in (".", "..") or "\0" in name else name
