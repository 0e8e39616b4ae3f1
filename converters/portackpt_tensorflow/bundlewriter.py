"""Writing a bundle: data first, then the index, whose name makes it a checkpoint.

Data shards get names that the old index does not use: a checkpoint with one shard is replaced by
one with two, the second of them empty, and the other way round. So the old index and its data stay
whole until the new index takes its place, in one step; only then does the old data go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import NamedTuple

from portackpt.bytesource import File
from portackpt.dtypes import STRING
from portackpt.errors import InputError, UsageError, WriteError
from portackpt.plugins import Progress
from portackpt.storage.local import Writer, staged_file, sync_directory, write_file
from portackpt.streaming import read_ahead
from portackpt.tensor import Tensor
from portackpt_tensorflow import statefile, variant
from portackpt_tensorflow.encoding import Encoder, Values
from portackpt_tensorflow.entry import Header, encode_entry, encode_header, parse_header
from portackpt_tensorflow.shards import NAME as SHARD_NAME
from portackpt_tensorflow.shards import index_path, shard_path
from portackpt_tensorflow.statefile import State
from portackpt_tensorflow.stringtensor import StringEncoder
from portackpt_tensorflow.table import read_items
from portackpt_tensorflow.tablewriter import TableWriter


class Leaf(NamedTuple):
    """A tensor under its key in the index."""

    key: bytes
    tensor: Tensor


def write_bundle(
    leaves: Sequence[Leaf], prefix: Path, *, overwrite: bool, progress: Progress
) -> None:
    """Write `leaves` as the bundle `prefix`, and name it in the file `checkpoint` beside it."""
    state = prefix.with_name(statefile.NAME)
    if state.exists() and statefile.read_state(prefix.parent) is None:
        raise UsageError("this file is in the way: it is no list of checkpoints", str(state))
    with (
        staged_file(state, overwrite=True) as new_state,
        staged_file(index_path(prefix), overwrite=overwrite) as new_index,
    ):
        write_file(new_state, _encode_state(prefix))
        with _new_shards(prefix, overwrite) as count:
            entries = _write_data(shard_path(prefix, 0, count), leaves, progress)
            for shard in range(1, count):
                write_file(shard_path(prefix, shard, count), b"")
            _write_index(new_index, count, entries)
            sync_directory(prefix.parent)
    if overwrite:
        _remove(path for path, number in _shards(prefix) if number != count)


@contextmanager
def _new_shards(prefix: Path, overwrite: bool) -> Iterator[int]:
    """A count of shards whose names are free; what failed leaves no shards of it."""
    taken = {count for _, count in _shards(prefix)}
    used = _shards_in_use(prefix) if overwrite else None
    if used is not None:
        taken = {used}  # the others are left over from writes that were cut short
    count = next(number for number in range(1, len(taken) + 2) if number not in taken)

    def clear() -> None:
        _remove(path for path, number in _shards(prefix) if number == count)

    clear()
    try:
        yield count
    except BaseException:
        clear()
        raise


def _shards_in_use(prefix: Path) -> int | None:
    """How many shards the present index names; None where there is none that can be read."""
    try:
        items = next(read_items(File(index_path(prefix))))
        return parse_header(items[0][1]).shards
    except (InputError, OSError, StopIteration):
        return None


def _shards(prefix: Path) -> list[tuple[Path, int]]:
    """The data files of a prefix, and how many each says there are."""
    matches = ((path, SHARD_NAME.fullmatch(path.name)) for path in prefix.parent.iterdir())
    return [(path, int(m[3])) for path, m in matches if m is not None and m[1] == prefix.name]


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()


def _encode_state(prefix: Path) -> bytes:
    """The list of checkpoints beside `prefix` that are still there, this one newest."""
    old = statefile.read_state(prefix.parent)
    names = dict.fromkeys(statefile.last_component(text) for text in (old.known if old else ()))
    names.pop("", None)
    names.pop(prefix.name, None)
    kept = [name for name in names if index_path(prefix.with_name(name)).is_file()]
    return statefile.encode_state(State(prefix.name, (*kept, prefix.name)))


def _write_data(path: Path, leaves: Sequence[Leaf], progress: Progress) -> dict[bytes, bytes]:
    """Write the bytes of all leaves; returns the entry of each for the index."""
    entries: dict[bytes, bytes] = {}
    with Writer(path) as file:
        run: _Run | None = None
        current = -1
        for index, piece in read_ahead([leaf.tensor for leaf in leaves]):
            if index != current:
                if run is not None:
                    entries[leaves[current].key] = run.entry(file.position)
                run, current = _start(leaves[index], file.position), index
            assert run is not None
            for part in run.encoder.encode(piece):
                file.write(part)
            progress(piece.nbytes)
        if run is not None:
            entries[leaves[current].key] = run.entry(file.position)
    if len(entries) < len(leaves):
        twice = next(
            key for key, count in Counter(leaf.key for leaf in leaves).items() if count > 1
        )
        raise WriteError("two tensors have this name", twice.decode())
    return entries


class _Run(NamedTuple):
    """One tensor on its way into the shard."""

    encoder: Encoder
    dtype: int
    shape: tuple[int, ...]
    start: int

    def entry(self, stop: int) -> bytes:
        crc = self.encoder.finish()
        return encode_entry(self.dtype, self.shape, self.start, stop - self.start, crc)


def _start(leaf: Leaf, position: int) -> _Run:
    tensor = leaf.tensor
    number = tensor.dtype.tensorflow
    if number is None:
        raise WriteError(f"a bundle cannot hold the dtype {tensor.dtype}", leaf.key.decode())
    if tensor.dtype is STRING:
        return _Run(StringEncoder(tensor.size), number, tensor.shape, position)
    if tensor.attributes and variant.is_variant(tensor):
        shape = tuple(tensor.attributes[variant.SHAPE])
        return _Run(variant.RecordEncoder(prod(shape)), variant.DTYPE, shape, position)
    return _Run(Values(), number, tensor.shape, position)


def _write_index(path: Path, count: int, entries: Mapping[bytes, bytes]) -> None:
    with Writer(path) as file:
        table = TableWriter(file)
        table.add(b"", encode_header(Header(count, big_endian=False)))
        for key in sorted(entries):
            table.add(key, entries[key])
        table.finish()
