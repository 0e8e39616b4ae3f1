"""References from a manifest to files: what names are allowed, and how such a file is opened.

A name that was read from a file is data. It becomes a path only when every component is of the
letters below, and the file is opened component by component, without following a symbolic link.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from portackpt.store.fault import Fault

_REFERENCE = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,199}/)*[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
_LIMIT = 1000
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


def is_reference(name: str) -> bool:
    """True for a relative path of plain components, the same file on every system."""
    return (
        len(name) <= _LIMIT
        and _REFERENCE.fullmatch(name) is not None
        and not any(
            part.endswith(".") or _DEVICE.fullmatch(part) is not None for part in name.split("/")
        )
    )


def open_reference(root: Path, name: str) -> int:
    """A descriptor of the file `name` below `root`, for reading.

    Raises a `Fault`'s error where it is missing, or is anything but a regular file.
    """
    if not is_reference(name):
        raise Fault("D-3", f"{name!r} is no file name that a manifest may refer to").error()
    *folders, last = name.split("/")
    opened: list[int] = []
    try:
        # the root itself may be a link: it is the caller's own path
        opened.append(os.open(root, os.O_RDONLY | os.O_DIRECTORY))
        for folder in folders:
            opened.append(os.open(folder, _FLAGS | os.O_DIRECTORY, dir_fd=opened[-1]))
        descriptor = os.open(last, _FLAGS | os.O_NONBLOCK, dir_fd=opened[-1])
    except OSError as error:
        raise _fault(name, error).error() from error
    finally:
        for folder_descriptor in opened:
            os.close(folder_descriptor)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Fault("D-5", "not a regular file", name).error()
    return descriptor


def _fault(name: str, error: OSError) -> Fault:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return Fault("D-5", "a symbolic link or no directory; links are not followed", name)
    if error.errno == errno.ENOENT and name == "manifest.json":
        return Fault("D-2", "this is not a committed checkpoint: it has no manifest.json")
    if error.errno == errno.ENOENT:
        return Fault("D-6", "the file is missing", name)
    return Fault("D-5", f"cannot be opened: {error.strerror or error}", name)


class ReferencedFile:
    """A file of a checkpoint whose size is known, opened when it is first read."""

    __slots__ = ("_descriptor", "name", "root", "size")

    def __init__(self, root: Path, name: str, size: int) -> None:
        self.root = root
        self.name = name
        self.size = size
        self._descriptor: int | None = None

    def open(self) -> None:
        """Open the file and compare its size. Raises a `Fault`'s error."""
        descriptor = open_reference(self.root, self.name)
        found = os.fstat(descriptor).st_size
        if found != self.size:
            os.close(descriptor)
            raise Fault("D-7", f"expected {self.size} bytes, found {found}", self.name).error()
        if self._descriptor is None:
            self._descriptor = descriptor
        else:  # another thread was first
            os.close(descriptor)

    def readinto(self, offset: int, out: memoryview) -> None:
        """Fill `out` with the bytes from `offset`."""
        if self._descriptor is None:
            self.open()
        assert self._descriptor is not None
        done = 0
        while done < out.nbytes:
            count = os.preadv(self._descriptor, [out[done:]], offset + done)
            if count == 0:
                raise Fault(
                    "D-7", f"the file ends early: expected {self.size} bytes", self.name, offset
                ).error()
            done += count

    def read(self) -> bytes:
        """The whole file, whose size is compared before memory is taken for it."""
        if self._descriptor is None:
            self.open()
        data = bytearray(self.size)
        self.readinto(0, memoryview(data))
        return bytes(data)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()
