"""Signals and exceptions: the last save of a run that is stopped.

    with manager.guard(signal.SIGUSR1, grace=60) as guard:
        for step in …:
            with guard.update():            # what changes the state
                train(batch)
            manager.save(step, objects)     # or guard.check(step, objects): a step boundary

A signal is only noted. At the next step boundary the state is saved, and the program exits. Where
`update` tells when the state changes, it need not come that far: between a boundary and the next
update the state is as it was at the boundary, so a thread saves it at once, in the middle of an
evaluation or a compilation; and an exception there leaves a state that is worth saving.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

from portackpt.errors import PortackptError, UsageError

log = logging.getLogger("portackpt")
_STOP = b"\0"


class Preempted(SystemExit):
    """The exit of a run that a signal stopped; `saved` tells whether its state is durable."""

    def __init__(self, code: int, saved: bool) -> None:
        super().__init__(code)
        self.saved = saved


@dataclass(frozen=True, slots=True)
class Boundary:
    """A moment between two steps, at which `objects` are consistent."""

    step: int
    objects: Any
    metrics: Mapping[str, Any] | None


class Keeper(Protocol):
    """What a guard needs of a manager."""

    def preserve(self, boundary: Boundary, why: str, timeout: float | None) -> bool:
        """Save, or see that it is saved; True when it is durable within `timeout` seconds."""

    def interrupted(self, why: str, step: int | None, saved: bool) -> None:
        """Write to the journal that the run ends here."""


class Guard:
    """Notes signals, and saves before the program ends (see `CheckpointManager.guard`)."""

    def __init__(
        self,
        keeper: Keeper,
        signals: tuple[int, ...],
        grace: float,
        exit_code: int | None,
        attach: Callable[[Guard | None], None],
    ) -> None:
        self._keeper = keeper
        self._signals = signals
        self._grace = grace
        self._exit_code = exit_code
        self._attach = attach
        self._number: int | None = None  # of the first signal
        self._noted = 0.0
        self._wakeup = -1
        self._boundary: Boundary | None = None
        self._gate = threading.Lock()  # held by whoever changes the state, or saves it
        self._changing = self._declared = self._saved = False
        self._handlers: dict[int, Any] = {}
        self._watcher = threading.Thread(target=self._watch, name="portackpt-guard", daemon=True)

    # ---- what the training calls

    @property
    def caught(self) -> str | None:
        """The name of the signal that was received. Long work may look at it and stop."""
        return None if self._number is None else signal.Signals(self._number).name

    def check(self, step: int, objects: Any, *, metrics: Mapping[str, Any] | None = None) -> None:
        """A step boundary: `objects` are consistent. After a signal, save them and exit."""
        with self.boundary(Boundary(step, objects, metrics)):
            pass

    @contextmanager
    def update(self) -> Iterator[None]:
        """Around all that changes the state, up to the next boundary."""
        self._declared = True
        if not self._changing:
            self._gate.acquire()
            self._changing = True
        if self._number is not None and (self._saved or self._rest() <= 0):
            self._exit(self._saved)
        yield

    def wait(self, seconds: float) -> bool:
        """Sleep; True as soon as a signal was received."""
        end = time.monotonic() + seconds
        while self._number is None and (rest := end - time.monotonic()) > 0:
            time.sleep(min(rest, 0.1))
        return self._number is not None

    # ---- what the manager calls

    @contextmanager
    def boundary(self, reached: Boundary) -> Iterator[None]:
        """A step boundary, with a save inside that nothing else disturbs."""
        if not self._changing:
            self._gate.acquire()
            self._changing = True
        self._boundary = reached
        try:
            yield
            if self._number is not None:
                self._leave()
        finally:
            self._changing = False
            self._gate.release()

    def hurry(self) -> None:
        """While something long is waited for: exit when the grace period is over."""
        if self._number is not None and self._rest() <= 0:
            self._exit(False)

    # ---- entering and leaving

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            raise UsageError("signals are for the main thread: enter the guard there")
        self._attach(self)
        self._voice, self._ear = socket.socketpair()
        self._voice.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._voice.fileno(), warn_on_full_buffer=False)
        for number in self._signals:
            self._handlers[number] = signal.signal(number, self._handle)
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                if self._number is not None and self._boundary is not None:
                    self._leave()
            elif not isinstance(error, Preempted):
                self._save_after(error)
        finally:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        with suppress(OSError):
            self._voice.send(_STOP)
        self._watcher.join(self._rest() if self._number is not None else None)
        self._voice.close()
        self._ear.close()
        self._attach(None)

    # ---- what happens then

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._note(number)

    def _note(self, number: int) -> None:
        if self._number is None:
            self._noted = time.monotonic()
            self._number = number

    def _rest(self) -> float:
        return max(0.0, self._noted + self._grace - time.monotonic())

    def _watch(self) -> None:
        """Hear of signals while the main thread is busy, and save where the state is at rest."""
        while True:
            try:
                heard = self._ear.recv(64)
            except OSError:
                return
            if not heard or _STOP in heard:
                return
            number = next((number for number in heard if number in self._signals), None)
            if number is None or self._saved:
                continue
            self._note(number)
            if self._declared and self._gate.acquire(timeout=self._rest()):
                try:
                    self._saved = self._save(f"{self.caught} was received", self._rest())
                finally:
                    self._gate.release()

    def _save(self, why: str, timeout: float | None) -> bool:
        """Save the last boundary; a failure is told and not raised: the program ends anyway."""
        if self._boundary is None:
            return False
        try:
            return self._keeper.preserve(self._boundary, why, timeout)
        except (PortackptError, OSError) as error:
            log.error("the last save, of step %d, failed: %s", self._boundary.step, error)
            return False

    def _leave(self) -> None:
        why = f"{self.caught} was received"
        self._exit(self._saved or self._save(why, self._rest()))

    def _exit(self, saved: bool) -> None:
        assert self._number is not None
        step = None if self._boundary is None else self._boundary.step
        self._keeper.interrupted(f"{self.caught} was received", step, saved)
        code = 128 + self._number if self._exit_code is None else self._exit_code
        raise Preempted(code if saved else 1, saved)

    def _save_after(self, error: BaseException) -> None:
        """Save after an exception, where the state is known to be that of the last boundary."""
        why = f"{type(error).__name__}: {error}"
        known = self._boundary is not None and self._declared and not self._changing
        saved = known and self._save(why, None)
        step = None if self._boundary is None else self._boundary.step
        self._keeper.interrupted(why, step, saved)
