"""Who writes a temporary directory: so that only what a dead process left behind is deleted."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

NAME: Final = ".owner"
_OLD = 24 * 3600.0
"""Seconds after which what nobody owns, or another machine, is taken for abandoned."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process: `host` and `boot` name the running system, `started` tells pids used twice apart.

    `namespace` is that of process ids, so that two containers of one host are not mixed up.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started: str


def claim(directory: Path) -> None:
    """Say in `directory` that this process writes it."""
    (directory / NAME).write_bytes(msgspec.json.encode(asdict(_self())))


def release(directory: Path) -> None:
    """Take the claim back: what is committed belongs to nobody."""
    (directory / NAME).unlink()


def is_abandoned(directory: Path, now: float | None = None) -> bool:
    """True when the process that wrote `directory` is known to be gone, or must be by now."""
    try:
        owner = msgspec.json.decode((directory / NAME).read_bytes(), type=Owner)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return _is_old(directory, now)
    own = _self()
    if owner.host != own.host or (owner.boot == own.boot and owner.namespace != own.namespace):
        return _is_old(directory, now)
    return owner.boot != own.boot or _start_of(owner.pid) != owner.started


def _is_old(directory: Path, now: float | None) -> bool:
    try:
        return (time.time() if now is None else now) - directory.stat().st_mtime > _OLD
    except OSError:
        return False


def _self() -> Owner:
    host, boot, namespace = _system()
    return Owner(host, boot, namespace, os.getpid(), _start_of(os.getpid()))


@cache
def _system() -> tuple[str, str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - no path: 'pid:[4026531836]'
    except OSError:
        boot = namespace = ""
    return socket.gethostname(), boot, namespace


def _start_of(pid: int) -> str:
    """When a process began, in ticks since the system did; empty where there is none.

    Where there is no `/proc`, every process that can be signalled is taken for the same one.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "running"
