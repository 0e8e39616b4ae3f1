"""The contract of a format, and how formats are found.

A format is a module of any installed distribution, named by an entry point in the group
`portackpt.formats` as `NAME = "package.module:FORMAT"`, where FORMAT has the methods below.
Importing that module must be cheap: heavy libraries are imported where they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Protocol

from portackpt import discovery
from portackpt.checkpoint import Checkpoint
from portackpt.errors import AmbiguousError, InputError, UnknownFormatError, UsageError
from portackpt.vocabulary import Vocabulary

GROUP = "portackpt.formats"
Progress = Callable[[int], None]
"""Called with the number of bytes that were just written."""


class Format(Protocol):
    """One way to keep a tree of tensors in files."""

    name: str
    framework: str | None
    summary: str
    """One line for `portackpt formats`."""
    suffixes: tuple[str, ...]
    """Suffixes of DST that mean this format and no other."""
    vocabulary: Vocabulary | None
    """What a written file can hold; None where the format is only read."""
    holds_steps: bool
    """Whether `write` takes a step: the target is then a root that holds it."""

    def recognize(self, probe: Probe) -> bool:
        """True when the content is this format's, whole or damaged; bad content never raises."""

    def steps(self, path: Path) -> tuple[int, ...]:
        """The complete steps of a root that holds several, ascending; empty for one checkpoint."""

    def open(self, path: Path, *, step: int | None = None) -> Checkpoint:
        """Parse the indexes; tensors stay on disk. Raises `InputError`."""

    def write(
        self,
        checkpoint: Checkpoint,
        path: Path,
        *,
        overwrite: bool,
        step: int | None,
        progress: Progress,
    ) -> None:
        """Write a tree that fits `vocabulary`, durably and all or nothing. Raises `WriteError`."""

    def resume(self, path: Path, step: int | None) -> str:
        """Code for the target's program that loads what `write` put at `path`."""


@dataclass(frozen=True)
class Probe:
    """What detection may look at: a path, its first bytes, the names in it."""

    path: Path

    @cached_property
    def is_directory(self) -> bool:
        return self.path.is_dir()

    @cached_property
    def head(self) -> bytes:
        """The first 4096 bytes of a file; empty for a directory and for a path that is no file."""
        if not self.path.is_file():
            return b""
        with self.path.open("rb") as file:
            return file.read(4096)

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the entries of a directory (the first 100,000)."""
        if not self.is_directory:
            return frozenset()
        return frozenset(entry.name for entry in islice(self.path.iterdir(), 100_000))

    @cached_property
    def members(self) -> tuple[str, ...]:
        """Names of the first members of a zip archive; empty where it is none or is damaged."""
        if not self.head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return ()
        return tuple(_first_members(self.path))


def _first_members(path: Path, limit: int = 1 << 16) -> Iterator[str]:
    """Names from the first `limit` bytes of the central directory (PKWARE APPNOTE 4.3.12)."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        tail_start = max(0, size - 22 - (1 << 16))
        file.seek(tail_start)
        tail = file.read()
        end = tail.rfind(b"PK\x05\x06")
        if end < 0 or len(tail) - end < 22:
            return
        start = int.from_bytes(tail[end + 16 : end + 20], "little")
        locator = tail[max(0, end - 20) : end]
        if start == 0xFFFFFFFF and locator.startswith(b"PK\x06\x07"):
            file.seek(int.from_bytes(locator[8:16], "little"))
            start = int.from_bytes(file.read(56)[48:56], "little")
        if start > size:
            return
        file.seek(start)
        directory = file.read(limit)
    at = 0
    while directory[at : at + 4] == b"PK\x01\x02":
        lengths = [int.from_bytes(directory[at + i : at + i + 2], "little") for i in (28, 30, 32)]
        name = directory[at + 46 : at + 46 + lengths[0]]
        yield name.decode("utf-8", "replace")
        at += 46 + sum(lengths)


def names() -> tuple[str, ...]:
    return tuple(sorted(discovery.entry_points(GROUP)))


@cache
def get(name: str) -> Format:
    """The format called `name`."""
    target = discovery.entry_points(GROUP).get(name)
    if target is None:
        raise UsageError(f"unknown format {name!r}; known are {', '.join(names())}")
    try:
        found: Format = discovery.load(target)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"the format {name!r} is installed, but does not load: {error}") from error
    return found


def known() -> Iterator[Format]:
    """Every format that loads; one that does not is no reason to do without the others."""
    for name in names():
        with suppress(UsageError):
            yield get(name)


def detect(path: Path) -> Format:
    """The format of what lies at `path`, by content."""
    probe = Probe(path)
    found = [candidate for candidate in known() if candidate.recognize(probe)]
    if not found and not path.exists():
        raise InputError("no such file or directory", str(path))
    if not found:
        raise UnknownFormatError(
            f"no format recognizes this; known are {', '.join(names())}", str(path)
        )
    if len(found) > 1:
        fitting = ", ".join(candidate.name for candidate in found)
        raise AmbiguousError(f"several formats fit: {fitting}; choose one with --from", str(path))
    return found[0]


def for_target(path: Path) -> Format:
    """The format that the name of a target means."""
    found = [one for one in known() if any(map(path.name.endswith, one.suffixes))]
    if len(found) != 1:
        raise UsageError(
            f"the name {path.name!r} does not say which format to write; "
            f"choose one with --to ({', '.join(names())})"
        )
    return found[0]
