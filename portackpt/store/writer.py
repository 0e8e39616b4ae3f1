"""Writing a checkpoint into an empty directory: shards and state first, the manifest last.

The bytes of every tensor pass once: they are written and their chunks are hashed at the same time,
while the next ones are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from portackpt.checkpoint import Checkpoint
from portackpt.collector import paused_collector
from portackpt.plugins import Progress
from portackpt.storage.local import Writer, save_id, write_file
from portackpt.store import manifest as m
from portackpt.store import shard as shards
from portackpt.store.digest import XXH3, Algorithm, algorithm
from portackpt.store.index import Entry, Stored, View, index, named_tensors
from portackpt.store.shard import Part
from portackpt.store.state import pack
from portackpt.streaming import Piece, read_ahead
from portackpt.tree import MAX_DEPTH, Object, children, is_leaf

CHUNK: Final = 1 << 20
STATE_NAME: Final = "state.msgpack"


def write_checkpoint(
    directory: Path,
    checkpoint: Checkpoint,
    *,
    step: int | None,
    progress: Progress,
    shard_size: int = shards.SIZE,
) -> None:
    """Write `checkpoint` into `directory`; each file is synced, the manifest comes last."""
    identity = save_id()
    known = algorithm(XXH3)
    details = {name: value for name, value in checkpoint.details.items() if name != "portackpt"}
    with paused_collector():
        found = index(named_tensors(("", checkpoint.tree), ("~details", details)))
        stored = [(n, e) for n, e in enumerate(found.entries) if isinstance(e, Stored)]
        layout = shards.distribute(stored, shard_size)
    written = _write_shards(directory, layout, found.entries, identity, known, progress)
    with paused_collector():
        state = pack((checkpoint.tree, details), found.numbers, MAX_DEPTH + 1)
        boxes = _boxes(layout, written)
        tensors = [_tensor(entry, boxes.get(n, ())) for n, entry in enumerate(found.entries)]
        own = _own(checkpoint)
        manifest = m.Manifest(
            portackpt=m.VERSION,
            save_id=identity,
            source=m.Source(own.source, checkpoint.framework, checkpoint.framework_version),
            step=checkpoint.step if step is None else step,
            notes=_notes(checkpoint),
            chunk_size=CHUNK,
            digest_algorithm=known.name,
            state=m.StateFile(STATE_NAME, len(state), known.of(state)),
            shards=tuple([shard.entry for shard in written]),
            sections=_sections(checkpoint, own.kinds),
            tensors=tuple(tensors),
            digest="",
        )
        data = m.encode(manifest, own.members)
    write_file(directory / STATE_NAME, state)
    write_file(directory / m.NAME, data)


class _Written:
    """A shard that was written: its entry, and the digests of each of its parts."""

    __slots__ = ("digests", "entry")

    def __init__(self, entry: m.Shard, digests: list[str]) -> None:
        self.entry = entry
        self.digests = digests


def _write_shards(
    directory: Path,
    layout: list[list[Part]],
    entries: tuple[Entry, ...],
    identity: str,
    known: Algorithm,
    progress: Progress,
) -> list[_Written]:
    tensors = []
    last = -1
    for parts in layout:
        for part in parts:
            if part.number != last:  # the parts of a tensor that was cut follow each other
                stored = entries[part.number]
                assert isinstance(stored, Stored)
                tensors.append(stored.tensor)
            last = part.number
    written = []
    with closing(read_ahead(tensors)) as pieces:  # type: ignore[type-var]
        stream = _Stream(pieces)
        for place, parts in enumerate(layout):
            name = f"shard-{place:05}.safetensors"
            head = shards.header(parts, identity)
            with Writer(directory / name) as file:
                file.write(head)
                digests = [_copy(stream, part.nbytes, file, known, progress) for part in parts]
            entry = m.Shard(name, file.position, len(head), known.of(head))
            written.append(_Written(entry, digests))
    return written


class _Stream:
    """Pieces of the tensors in order, given out in the sizes asked for."""

    __slots__ = ("_pieces", "_rest")

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self._rest: memoryview | None = None

    def take(self, limit: int) -> memoryview:
        """The next bytes of the tensor, at most `limit` of them."""
        piece = next(self._pieces)[1] if self._rest is None else self._rest
        self._rest = piece[limit:] if piece.nbytes > limit else None
        return piece[:limit] if piece.nbytes > limit else piece


def _copy(stream: _Stream, nbytes: int, file: Writer, known: Algorithm, progress: Progress) -> str:
    """Copy the next `nbytes` to `file`; the digests of their chunks, joined."""
    digests = []
    rest = nbytes
    while True:
        size = min(rest, CHUNK)
        piece = stream.take(size)
        if piece.nbytes == size:
            digest = known.of(piece) if size else ""
            file.write(piece)
        else:
            running = known.new()
            missing = size
            while True:
                running.update(piece)
                file.write(piece)
                missing -= piece.nbytes
                if not missing:
                    break
                piece = stream.take(missing)
            digest = running.hexdigest()
        progress(size)
        digests.append(digest)
        rest -= size
        if not rest:
            return "".join(digests)


def _boxes(layout: list[list[Part]], written: list[_Written]) -> dict[int, tuple[m.Box, ...]]:
    boxes: dict[int, tuple[m.Box, ...]] = {}
    for place, (parts, shard) in enumerate(zip(layout, written, strict=True)):
        base = shard.entry.header_size
        for part, digests in zip(parts, shard.digests, strict=True):
            nbytes = part.nbytes if part.dtype.itemsize == 0 else None
            box = m.Box(place, base + part.offset, digests, nbytes=nbytes)
            if part.box is not None:
                box = m.Box(place, base + part.offset, digests, part.box.start, part.box.shape,
                            part.key)  # fmt: skip
            boxes[part.number] = (*boxes.get(part.number, ()), box)
    return boxes


def _tensor(entry: Entry, boxes: tuple[m.Box, ...]) -> m.Tensor:
    if isinstance(entry, View):
        view = m.View(entry.of, entry.offset, entry.strides)
        return m.Tensor(entry.name, entry.dtype.name, entry.shape, view=view)
    return m.Tensor(entry.name, entry.tensor.dtype.name, entry.tensor.shape, boxes)


@dataclass(frozen=True, slots=True)
class _Own:
    """What a neutral checkpoint knew beyond its tree: it is kept when it is written again."""

    source: str
    kinds: Mapping[str, str]
    members: Mapping[str, Any]


def _own(checkpoint: Checkpoint) -> _Own:
    found = checkpoint.details.get("portackpt") if checkpoint.format == "portackpt" else None
    if found is None:
        return _Own(checkpoint.format, {}, {})
    return _Own(found["source"], found["kinds"], found["members"])


def _notes(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Notes about another format keep its name."""
    if checkpoint.format == "portackpt":
        return checkpoint.notes
    return tuple([f"{checkpoint.format}: {note}" for note in checkpoint.notes])


def _sections(checkpoint: Checkpoint, kinds: Mapping[str, str]) -> tuple[m.Section, ...]:
    """The containers at the top of the tree."""
    tree = checkpoint.tree
    if not isinstance(tree, (dict, Object)):
        return ()
    return tuple(
        [m.Section(name, kinds.get(name)) for name, part in children(tree) if not is_leaf(part)]
    )
