"""Moving the bytes of many tensors: reading runs ahead of writing, in a fixed amount of memory.

One thread reads (and checks) into a ring of buffers while the caller writes the ones before.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from portackpt.tensor import PIECE, Scratch, Tensor

Piece: TypeAlias = tuple[int, memoryview]
_DEPTH = 4


def read_ahead(tensors: Iterable[Tensor]) -> Iterator[Piece]:
    """The bytes of `tensors`, in order: (index of the tensor, its next bytes).

    A tensor without bytes comes as one empty piece. A piece is valid until the next is asked for.
    """
    free: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
    full: queue.SimpleQueue[tuple[list[Piece], memoryview] | BaseException | None] = (
        queue.SimpleQueue()
    )
    for _ in range(_DEPTH):
        free.put(memoryview(bytearray(PIECE)))
    stopped = threading.Event()

    def produce() -> None:
        try:
            _fill(tensors, free, full, stopped)
            full.put(None)
        except BaseException as error:
            full.put(error)

    reader = threading.Thread(target=produce, name="portackpt-read-ahead", daemon=True)
    reader.start()
    try:
        while (batch := full.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            pieces, buffer = batch
            yield from pieces
            free.put(buffer)
    finally:
        stopped.set()
        free.put(None)
        reader.join()


def _fill(
    tensors: Iterable[Tensor],
    free: queue.SimpleQueue[memoryview | None],
    full: queue.SimpleQueue[tuple[list[Piece], memoryview] | BaseException | None],
    stopped: threading.Event,
) -> None:
    """Fill buffer after buffer with the bytes of the tensors; small ones share a buffer."""
    scratch = Scratch()
    buffer: memoryview | None = None
    used = 0
    batch: list[Piece] = []
    for index, tensor in enumerate(tensors):
        take = tensor.reader(scratch)
        rest = tensor.nbytes
        while True:
            if buffer is None:
                buffer, used, batch = free.get(), 0, []
                if buffer is None or stopped.is_set():
                    return
            target = buffer[used : used + min(rest, PIECE - used)]
            if rest:
                take(target)
            batch.append((index, target))
            used += target.nbytes
            rest -= target.nbytes
            if used == PIECE:
                full.put((batch, buffer))
                buffer = None
            if not rest:
                break
    if buffer is not None:
        full.put((batch, buffer))
