"""An HDF5 file, read through a child process that may crash (see `hdf5_child`).

The child gives the index; values that lie in the file as they are, are then read here. Compressed
values and strings are asked for, piece by piece, from a child that lives while they are read.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from portackpt.errors import DamagedError, InputError, RefusedError, UnsupportedError, UsageError
from portackpt_keras.frames import DATA, DONE, ERROR, INDEX, OPEN, READ, RECORDS, write_frame

PIECE = 1 << 20
_SECONDS = 8.0
_SECONDS_PER_MIB = 4.0
_SECONDS_PER_ANSWER = 30.0
_LARGEST_FRAME = 512 << 20
_ERRORS: dict[str, type[InputError]] = {
    "damaged": DamagedError,
    "refused": RefusedError,
    "unsupported": UnsupportedError,
}


class Hdf5:
    """`size` bytes of the file at `path` from `start`, which are an HDF5 file."""

    def __init__(self, path: Path, start: int, size: int, where: str) -> None:
        self.path = path
        self.start = start
        self.size = size
        self.where = where
        self._child: _Child | None = None
        self._lock = threading.Lock()

    def records(self) -> Iterator[Any]:
        """The records of the index (see `hdf5_index`). Raises `InputError`."""
        deadline = time.monotonic() + _SECONDS + _SECONDS_PER_MIB * self.size / (1 << 20)
        child = self._spawn(deadline)
        try:
            for payload in child.ask(INDEX, b"", RECORDS, deadline):
                yield from _unpacked(payload, self.where)
        finally:
            child.end()

    def read(self, path: bytes, offset: int, out: memoryview) -> None:
        """Fill `out` with decoded bytes of the dataset at `path`."""
        import msgpack

        with self._lock:
            if self._child is None:
                self._child = self._spawn(time.monotonic() + _SECONDS_PER_ANSWER)
            for at in range(0, out.nbytes, PIECE):
                piece = out[at : at + PIECE]
                request = msgpack.packb([path, offset + at, piece.nbytes])
                deadline = time.monotonic() + _SECONDS_PER_ANSWER
                data = b"".join(self._child.ask(READ, request, DATA, deadline))
                if len(data) != piece.nbytes:
                    raise DamagedError(
                        f"expected {piece.nbytes} bytes of dataset {path!r}, found {len(data)}",
                        self.where,
                    )
                piece[:] = data

    def _spawn(self, deadline: float) -> _Child:
        import msgpack

        child = _Child(self.where)
        try:
            request = msgpack.packb([os.fsencode(self.path), self.start, self.size])
            for _ in child.ask(OPEN, request, DATA, deadline):
                pass
        except BaseException:
            child.end()
            raise
        return child


class _Child:
    """A running child."""

    def __init__(self, where: str) -> None:
        if find_spec("h5py") is None:
            raise UsageError("format 'keras' needs h5py: pip install 'portackpt[keras]'")
        self._where = where
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "portackpt_keras.hdf5_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._answers = self._process.stdout.fileno()
        self.end = weakref.finalize(self, _end, self._process)

    def ask(self, kind: bytes, payload: bytes, wanted: bytes, deadline: float) -> Iterator[bytes]:
        """Send a request; the payloads of its answer."""
        try:
            write_frame(self._requests, kind, payload)
            self._requests.flush()
        except OSError:
            raise self._died() from None
        while True:
            until = min(deadline, time.monotonic() + _SECONDS_PER_ANSWER)
            head = self._receive(5, until)
            found, length = head[:1], int.from_bytes(head[1:], "little")
            if length > _LARGEST_FRAME:
                raise DamagedError(f"HDF5 answered with {length} bytes at once", self._where)
            body = self._receive(length, until)
            if found == DONE:
                return
            if found == ERROR:
                raise self._told(body)
            if found != wanted:
                raise DamagedError(f"HDF5 answered {found!r} for {wanted!r}", self._where)
            yield body

    def _receive(self, count: int, deadline: float) -> bytes:
        found = bytearray()
        while len(found) < count:
            left = deadline - time.monotonic()
            ready = select.select([self._answers], [], [], max(0.0, left))[0]
            if not ready:
                self.end()
                raise RefusedError("reading the HDF5 file takes longer than any sound file of its "
                                   "size does", self._where)  # fmt: skip
            part = os.read(self._answers, min(count - len(found), 1 << 20))
            if not part:
                raise self._died()
            found += part
        return bytes(found)

    def _told(self, body: bytes) -> InputError:
        told = _unpacked(body, self._where)
        kind, message = (str(part) for part in told[:2])
        return _ERRORS.get(kind, DamagedError)(message, self._where)

    def _died(self) -> InputError:
        self._process.kill()
        number = -self._process.wait()
        name = signal.Signals(number).name if number in set(signal.Signals) else str(-number)
        return DamagedError(f"the HDF5 library crashed ({name}) while it read the file; "
                            "it is damaged, or made to crash it", self._where)  # fmt: skip


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    process.wait()


def _environment() -> dict[str, str]:
    """The parent's environment and import path; no filter plug-ins, no locks, one thread."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "HDF5_PLUGIN_PRELOAD": "::",
        "HDF5_USE_FILE_LOCKING": "FALSE",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def _unpacked(payload: bytes, where: str) -> list[Any]:
    import msgpack

    try:
        found = msgpack.unpackb(payload, max_str_len=len(payload))
    except (ValueError, msgpack.UnpackException) as error:
        raise DamagedError(f"HDF5 answered nonsense: {error}", where) from None
    if not isinstance(found, list):
        raise DamagedError("HDF5 answered nonsense", where)
    return found
