"""One save at a time: here, while the caller waits, or in the background, from a snapshot."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from portackpt.checkpoint import Checkpoint
from portackpt.errors import WriteError
from portackpt.manager import root as disk
from portackpt.manager.record import Record
from portackpt.manager.staging import Staging


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint that was committed: `stall` is how long the training waited for it, `seconds`
    how long it took until it was durable, `nbytes` what was written of tensors."""

    record: Record
    stall: float
    seconds: float
    nbytes: int


class GivenUpError(WriteError):
    """The save took longer than it was given; nothing of it stays."""


class Saver:
    """Writes checkpoints into one root. `done` is called, by the thread that wrote, after each."""

    def __init__(self, root: Path, done: Callable[[Saved], None]) -> None:
        self._root = root
        self._done = done
        self._staging = Staging()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._given_up = threading.Event()
        self.step: int | None = None
        """The step in flight."""

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def write(self, checkpoint: Checkpoint, told: Record) -> None:
        """Save while the caller waits."""
        self._given_up.clear()
        self._commit(checkpoint, told, time.monotonic(), None)

    def snapshot(self, checkpoint: Checkpoint) -> Checkpoint:
        """A copy of `checkpoint` that stays as it is while it is written."""
        assert not self.busy
        return self._staging.snapshot(checkpoint)

    def start(self, checkpoint: Checkpoint, told: Record, began: float) -> None:
        """Save in the background. What fails is kept for `failure`."""
        assert not self.busy
        self._given_up.clear()
        self.step = told.step
        stall = time.monotonic() - began

        def work() -> None:
            try:
                self._commit(checkpoint, told, began, stall)
            except BaseException as error:
                error.add_note(f"this was the save of step {told.step}, in the background")
                self._failure = error

        self._thread = threading.Thread(target=work, name="portackpt-save", daemon=True)
        self._thread.start()

    def _commit(
        self, checkpoint: Checkpoint, told: Record, began: float, stall: float | None
    ) -> None:
        written = 0

        def progress(count: int) -> None:
            nonlocal written
            written += count
            if self._given_up.is_set():
                raise GivenUpError(f"the save of step {told.step} was given up", str(self._root))

        disk.commit(self._root, checkpoint, told, progress)
        seconds = time.monotonic() - began
        self._done(Saved(told, seconds if stall is None else stall, seconds, written))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the save in flight; False when it still is after `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                return False
            self._thread = None
        self.step = None
        return True

    def give_up(self) -> None:
        """Let the save in flight fail at its next step, unless it is committed before."""
        self._given_up.set()

    def failure(self) -> BaseException | None:
        """What the last save in the background failed with, once."""
        found, self._failure = self._failure, None
        return found
