"""Local disk: files and directories that are there whole and durable, or not at all.

A target is written under a temporary name beside it, synced, and renamed into place; the parent
directory is synced last. Replacing a directory exchanges the two names in one step, so that there
is no moment with neither. What fails leaves the old target as it was and nothing of the new one.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from portackpt.errors import PortackptError, UsageError, WriteError

if TYPE_CHECKING:
    import ctypes

_FLUSH_EVERY = 32 << 20
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def save_id() -> str:
    """128 random bits that name one save; `PORTACKPT_SAVE_ID` fixes them for reproducible runs."""
    return os.environ.get("PORTACKPT_SAVE_ID") or os.urandom(16).hex()


class Writer:
    """A new file, written front to back; `close` returns when its bytes are on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        self._file = open(path, "xb", buffering=1 << 20)  # noqa: SIM115 - closed by `close`
        self._flushed = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append `data`; write-back starts as the file grows, so that `close` waits less."""
        count = memoryview(data).nbytes
        self._file.write(data)
        self.position += count
        if self.position - self._flushed >= _FLUSH_EVERY:
            self._file.flush()
            _start_write_back(self._file.fileno(), self._flushed, self.position - self._flushed)
            self._flushed = self.position
        return count

    def pad(self, alignment: int) -> None:
        """Append zeros up to a multiple of `alignment`."""
        self.write(bytes(-self.position % alignment))

    def patch(self, offset: int, data: bytes) -> None:
        """Put `data` in place of bytes that were written before: a length, a checksum."""
        assert offset + len(data) <= self.position
        self._file.flush()
        self._file.seek(offset)
        self._file.write(data)
        self._file.seek(self.position)

    def close(self) -> None:
        """Flush, sync, close. An error here is final: the file is not to be trusted."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            with suppress(OSError):
                self._file.close()


@contextmanager
def staged_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary path; what the block writes there becomes `path` when the block ends well.

    The block must sync what it writes (`Writer` does).
    """
    with _told(path):
        _check_target(path, overwrite)
        temporary = _temporary(path)
        try:
            yield temporary
            _commit(temporary, path, overwrite)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


@contextmanager
def staged_directory(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary directory; what the block puts there becomes `path` when the block ends well.

    Files must be synced by the block; directories are synced here, innermost first.
    """
    with _told(path):
        _check_target(path, overwrite)
        temporary = _temporary(path)
        try:
            temporary.mkdir()
            yield temporary
            for directory, _, _ in os.walk(temporary, topdown=False):
                sync_directory(Path(directory))
            _commit(temporary, path, overwrite)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def make_directory(path: Path) -> None:
    """`path` with its parents, each durable."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        with suppress(FileExistsError):
            directory.mkdir()
        sync_directory(directory.parent)


def sync_directory(path: Path) -> None:
    """Make the names in `path` durable (a no-op where directories cannot be opened)."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """A new, synced file."""
    with Writer(path) as file:
        file.write(data)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except PortackptError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        place = f" ({error.filename})" if error.filename and error.filename != str(path) else ""
        raise WriteError(
            f"cannot write: {reason}{place}; what was there before is unchanged", str(path)
        ) from error


def _temporary(path: Path) -> Path:
    """Where `path` is staged; what an earlier save of the same id left there is gone."""
    temporary = path.parent / f".{path.name}.tmp-{save_id()}"
    _remove(temporary)
    return temporary


def _check_target(path: Path, overwrite: bool) -> None:
    if path.exists() or path.is_symlink():
        if not overwrite:
            raise UsageError("the target exists; use --overwrite to replace it", str(path))
    else:
        make_directory(path.parent)


def _commit(temporary: Path, path: Path, overwrite: bool) -> None:
    """Give `temporary` its name, in one step, and make that durable."""
    if not overwrite:
        _rename_new(temporary, path)
        sync_directory(path.parent)
        return
    if not temporary.is_dir() and not path.is_dir():
        temporary.rename(path)
        sync_directory(path.parent)
        return
    if not path.exists():
        temporary.rename(path)
        sync_directory(path.parent)
        return
    if _renameat2(temporary, path, _RENAME_EXCHANGE):
        sync_directory(path.parent)
        _remove(temporary)
        return
    # a file system without exchange: the old one steps aside and comes back if the new one cannot
    aside = path.parent / f".{path.name}.old-{save_id()}"
    path.rename(aside)
    try:
        temporary.rename(path)
    except OSError:
        aside.rename(path)
        raise
    sync_directory(path.parent)
    _remove(aside)


def _rename_new(temporary: Path, path: Path) -> None:
    if _renameat2(temporary, path, _RENAME_NOREPLACE):
        return
    if path.exists():
        raise UsageError("the target appeared while it was being written", str(path))
    temporary.rename(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _renameat2(source: Path, target: Path, flags: int) -> bool:
    """Rename with flags; False where the system or the file system knows no such flags."""
    function = getattr(_libc(), "renameat2", None)
    if function is None:
        return False
    if function(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) == 0:
        return True
    from ctypes import get_errno

    number = get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    if number == errno.EEXIST:
        raise UsageError("the target appeared while it was being written", str(target))
    raise OSError(number, os.strerror(number), str(target))


def _start_write_back(descriptor: int, start: int, count: int) -> None:
    function = getattr(_libc(), "sync_file_range", None)
    if function is not None:
        import ctypes

        function(descriptor, ctypes.c_int64(start), ctypes.c_int64(count), 2)


@cache
def _libc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    import ctypes

    return ctypes.CDLL(None, use_errno=True)
