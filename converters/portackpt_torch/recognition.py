"""Which files are torch's, by their first bytes and the names in them."""

from __future__ import annotations

from portackpt.plugins import Probe

_MARKS = ("/data.pkl", "/constants.pkl", "/.data/extern_modules", "/.data/serialization_id")
"""Ends of record names that only archives of torch have."""
_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
_TAR = (b"sys_info", b"pickle", b"tensors", b"storages")


def recognize(probe: Probe) -> bool:
    """True for archives, streams, tar files of torch, and for pickles of protocol 2 and later."""
    head = probe.head
    if head.startswith(b"PK\x03\x04"):
        return _is_archive(probe)
    return is_stream(head) or is_tar(head) or is_pickle(head)


def _is_archive(probe: Probe) -> bool:
    """By its records; by the name of the first, where the archive is cut short."""
    if any(name.endswith(_MARKS) or name == "data.pkl" for name in probe.members):
        return True
    length = int.from_bytes(probe.head[26:28], "little")
    first = probe.head[30 : 30 + length].decode("utf-8", "replace")
    return first.endswith(_MARKS) or first.endswith("/version")


def is_stream(head: bytes) -> bool:
    """A stream of torch.save up to 1.5 begins with its magic number, as a pickle."""
    return head[:1] == b"\x80" and _MAGIC in head[:32]


def is_tar(head: bytes) -> bool:
    """A tar file whose first member is one of those that torch 0.1 wrote."""
    member = head[:100].rstrip(b"\0").removeprefix(b"./")
    return head[257:262] == b"ustar" and member in _TAR


def is_pickle(head: bytes) -> bool:
    """A pickle of protocol 2 to 5 begins by saying so."""
    return len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5
