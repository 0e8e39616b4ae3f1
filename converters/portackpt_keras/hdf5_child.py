"""The child process that parses HDF5: a file made to crash the library crashes this process only.

Run as `python -m portackpt_keras.hdf5_child`; it answers frames (see `frames`) until its input
ends. It may use a fixed amount of memory, a stated time for each answer, write no file, and load no
filter plug-in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import h5py
import msgpack

from portackpt_keras.frames import DATA, DONE, ERROR, INDEX, OPEN, RECORDS, write_frame
from portackpt_keras.hdf5_index import records
from portackpt_keras.hdf5_types import UnreadableError
from portackpt_keras.hdf5_values import Stream, open_dataset
from portackpt_keras.window import Window

MEMORY = 1 << 30
"""Address space of the child, most of which are the libraries."""
BATCH = 2048
_SECONDS = 60
"""CPU time for one answer; the parent's deadline is nearer, this one holds when the parent died."""


def main() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what the library grumbles is in its errors, too
    _limit_memory()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    session = _Session()
    while (frame := _read_frame(requests)) is not None:
        _limit_time()
        try:
            for kind, payload in session.answer(*frame):
                write_frame(answers, kind, payload)
            write_frame(answers, DONE)
        except UnreadableError as error:
            _fail(answers, error.kind, error.message)
        except MemoryError:
            _fail(answers, "refused", f"needs more than {MEMORY >> 20} MiB of memory")
        except RecursionError:
            _fail(answers, "refused", "nested too deeply")
        except Exception as error:  # the library raises what it likes
            _fail(answers, "damaged", f"HDF5 cannot read it: {error or type(error).__name__}")
        answers.flush()
    # the library is not torn down: with what is left of a hostile file in it, that may crash
    os._exit(0)


def _fail(answers: BinaryIO, kind: str, message: str) -> None:
    write_frame(answers, ERROR, msgpack.packb([kind, message[:2000]]))


def _read_frame(stream: BinaryIO) -> tuple[bytes, bytes] | None:
    """The next frame; None at the end."""
    head = stream.read(5)
    if len(head) < 5:
        return None
    return head[:1], stream.read(int.from_bytes(head[1:], "little"))


class _Session:
    """One open file."""

    def __init__(self) -> None:
        self._file: Any = None
        self._path: bytes | None = None
        self._stream: Any = None

    def answer(self, kind: bytes, payload: bytes) -> Iterator[tuple[bytes, bytes]]:
        if kind == INDEX:
            yield from self._index()
            return
        path, start, count = msgpack.unpackb(payload)
        if kind == OPEN:
            window = Window(os.open(path, os.O_RDONLY), start, count)
            self._file = h5py.File(window, "r").id
        else:
            yield DATA, self._read(path, start, count)

    def _index(self) -> Iterator[tuple[bytes, bytes]]:
        batch: list[Any] = []
        for record in records(self._file):
            batch.append(record)
            if len(batch) == BATCH:
                yield RECORDS, msgpack.packb(batch)
                batch = []
        yield RECORDS, msgpack.packb(batch)

    def _read(self, path: bytes, start: int, count: int) -> bytes:
        if path != self._path:
            self._stream = Stream(open_dataset(self._file, path))
            self._path = path
        data: bytes = self._stream.read(start, count)
        return data


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    allowed = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time() -> None:
    try:
        import resource
    except ImportError:
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (used + _SECONDS, most))


if __name__ == "__main__":
    main()
