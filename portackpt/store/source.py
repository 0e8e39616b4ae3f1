"""Byte sources over shards: no byte is given out before the digest of its chunk was compared."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

from portackpt.bytesource import ByteSource
from portackpt.store import manifest as m
from portackpt.store.digest import Algorithm
from portackpt.store.fault import Fault, FaultError
from portackpt.store.reference import ReferencedFile


class ShardFile:
    """A shard, whose header is compared with its digest before its first byte is read."""

    __slots__ = ("_entry", "_file", "algorithm", "chunk_size", "header_compared", "last")

    def __init__(self, root: Path, entry: m.Shard, algorithm: Algorithm, chunk_size: int) -> None:
        self._file = ReferencedFile(root, entry.file, entry.size)
        self._entry = entry
        self.header_compared = False
        self.algorithm = algorithm
        self.chunk_size = chunk_size
        self.last: tuple[int, memoryview] | None = None
        """The chunk that was read last where only a part of it was asked for, and its offset."""

    @property
    def name(self) -> str:
        return self._entry.file

    @property
    def root(self) -> Path:
        return self._file.root

    def readinto(self, offset: int, out: memoryview) -> None:
        if not self.header_compared:
            self.header()
        self._file.readinto(offset, out)

    def header(self) -> bytes:
        """The bytes before the data. Raises a `Fault`'s error where the digest differs."""
        data = bytearray(self._entry.header_size)
        self._file.readinto(0, memoryview(data))
        found = self.algorithm.of(data)
        if found != self._entry.header_digest:
            raise Fault(
                "S-2",
                f"digest of the header does not match: expected {self._entry.header_digest}, "
                f"found {found}; the file was changed after it was written",
                self.name,
                0,
            ).error()
        self.header_compared = True
        return bytes(data)


class Chunks:
    """The bytes of one box, in chunks that each have a digest."""

    __slots__ = ("_box", "_nbytes", "_shard", "_tensor")

    def __init__(self, shard: ShardFile, tensor: str, box: m.Box, nbytes: int) -> None:
        self._shard = shard
        self._tensor = tensor
        self._box = box
        self._nbytes = nbytes

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def readinto(self, offset: int, out: memoryview) -> None:
        """Whole chunks are read into place; of others the wanted part is copied."""
        try:
            self._readinto(offset, out)
        except FaultError as error:
            error.places = (*error.places, str(self._shard.root))
            raise

    def _readinto(self, offset: int, out: memoryview) -> None:
        size = self._shard.chunk_size
        end = offset + out.nbytes
        done = offset
        while done < end:
            start = done - done % size
            stop = min(start + size, self._nbytes)
            if start == done and stop <= end:
                stop = end if end == self._nbytes else end - end % size
                piece = out[done - offset : stop - offset]
                self._shard.readinto(self._box.offset + done, piece)
                self._compare(done, piece)
            else:
                stop = min(stop, end)
                out[done - offset : stop - offset] = self._chunk(start)[done - start : stop - start]
            done = stop

    def verify(self) -> None:
        pass

    def _chunk(self, start: int) -> memoryview:
        """The whole chunk at `start`; the last one of the shard is remembered."""
        place = self._box.offset + start
        last = self._shard.last
        if last is not None and last[0] == place:
            return last[1]
        stop = min(start + self._shard.chunk_size, self._nbytes)
        data = memoryview(bytearray(stop - start))
        self._shard.readinto(place, data)
        self._compare(start, data)
        self._shard.last = (place, data)
        return data

    def _compare(self, start: int, data: memoryview) -> None:
        """Compare the digests of the chunks from `start` on."""
        size = self._shard.chunk_size
        known = self._shard.algorithm
        first = start // size * known.digits
        for at in range(0, data.nbytes, size):
            found = known.of(data[at : at + size])
            expected = self._box.digests[first : first + known.digits]
            if found != expected:
                raise Fault(
                    "T-8",
                    f"digest does not match: expected {expected}, found {found}; "
                    "the bytes were changed after they were written",
                    self._shard.name,
                    self._box.offset + start + at,
                    self._tensor,
                ).error()
            first += known.digits


class Joined:
    """Sources one after another."""

    __slots__ = ("_ends", "_sources")

    def __init__(self, sources: list[ByteSource]) -> None:
        self._sources = [source for source in sources if source.nbytes]
        self._ends = list(accumulate(source.nbytes for source in self._sources))

    @property
    def nbytes(self) -> int:
        return self._ends[-1] if self._ends else 0

    def readinto(self, offset: int, out: memoryview) -> None:
        place = bisect_right(self._ends, offset)
        done = 0
        while done < out.nbytes:
            source = self._sources[place]
            start = offset + done - (self._ends[place] - source.nbytes)
            count = min(source.nbytes - start, out.nbytes - done)
            source.readinto(start, out[done : done + count])
            done += count
            place += 1

    def verify(self) -> None:
        pass
