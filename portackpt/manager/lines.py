"""Lines of JSON that carry a digest of themselves, so that torn and changed ones are told apart.

    {"event":"saved","step":10,"xxh3":"4fd1…"}\n

`xxh3` is the XXH3-64 digest, in 16 hexadecimal digits, of the bytes before its comma.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import xxhash

_MARK = b',"xxh3":"'
_TAIL = len(_MARK) + 16 + len(b'"}')


def seal(members: Mapping[str, Any]) -> bytes:
    """One line that holds `members`, newline included."""
    body = msgspec.json.encode(members)[:-1]
    return body + _MARK + xxhash.xxh3_64_hexdigest(body).encode() + b'"}\n'


def unseal(line: bytes) -> dict[str, Any] | None:
    """The members of a line; None for one that is torn, changed, or none of ours."""
    text = line.rstrip(b"\n")
    body, tail = text[:-_TAIL], text[-_TAIL:]
    if tail != _MARK + xxhash.xxh3_64_hexdigest(body).encode() + b'"}':
        return None
    try:
        found = msgspec.json.decode(body + b"}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
