"""Plain directories: arrays as directories of chunk files, and the files beside them."""

from __future__ import annotations

import os
from pathlib import Path

from portackpt.bytesource import ByteSource, File, FileRange
from portackpt.errors import DamagedError, RefusedError
from portackpt.storage.local import Writer
from portackpt_jax.ocdbt.reader import open_regular


class Directory:
    """Values by key: a key is the path of a file below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, key: str, limit: int) -> bytes | None:
        """The file `key`, of at most `limit` bytes; None where there is none."""
        file = self._open(key)
        if file is None:
            return None
        if file.size > limit:
            raise RefusedError(f"a file of {file.size} bytes, over {limit}", str(file.path))
        return file.read(0, file.size)

    def source(self, key: str) -> ByteSource | None:
        file = self._open(key)
        return None if file is None else FileRange(file, 0, file.size)

    def below(self, prefix: str) -> list[str]:
        """The keys that start with `prefix`, a directory with its slash, without it."""
        base = self.root / _checked(prefix)
        found: list[str] = []
        for directory, _, names in os.walk(base):
            inner = Path(directory).relative_to(base).as_posix()
            found.extend(name if inner == "." else f"{inner}/{name}" for name in names)
        return found

    def _open(self, key: str) -> File | None:
        path = self.root / _checked(key)
        return open_regular(path) if path.is_file() else None


class DirectoryWriter:
    """Puts values into files below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: Writer | None = None

    def put(self, key: str, value: bytes) -> None:
        self.begin(key).write(value)
        self.end()

    def begin(self, key: str) -> Writer:
        path = self._root / _checked(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open = Writer(path)
        return self._open

    def end(self) -> None:
        assert self._open is not None
        self._open.close()


def _checked(key: str) -> str:
    """A key that stays below its directory."""
    parts = key.rstrip("/").split("/") if key else []
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise RefusedError(f"a name that leads outside the checkpoint: {key!r:.200}")
    return "/".join(parts)


def read_file(path: Path, limit: int) -> bytes:
    """A whole file of at most `limit` bytes."""
    file = open_regular(path)
    if file.size > limit:
        raise RefusedError(f"a file of {file.size} bytes, over {limit}", str(path))
    return file.read(0, file.size)


def read_json(path: Path, limit: int) -> object:
    """A JSON file; numbers may be NaN or infinite, as Python's own writer spells them."""
    import json

    data = read_file(path, limit)
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"not JSON: {error}", str(path)) from error
    return found
