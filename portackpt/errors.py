"""The exception tree. Every error of ours says what was expected, what was found, and where.

PortackptError
├── UsageError          the call cannot be carried out as asked            (exit status 2)
├── InputError          the input cannot be read                           (exit status 3)
│   ├── UnknownFormatError    no format recognizes it
│   ├── UnsupportedError      recognized, but not a checkpoint that can be read (a program, say)
│   ├── DamagedError          truncated, inconsistent, or a digest that does not match
│   └── RefusedError          hostile, or beyond a stated limit
├── AmbiguousError      several readings fit; the message names the flag that settles it (4)
└── WriteError          the target could not be written; nothing was left behind (exit status 1)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class PortackptError(Exception):
    """Base of all errors of this package.

    `places` is the address of the fault, innermost first: `("tensors['w']", "model.pt")`.
    """

    exit_status = 1

    def __init__(self, message: str, *places: str) -> None:
        super().__init__(message)
        self.message = message
        self.places = places

    def __str__(self) -> str:
        return f"{self.message}, at {', in '.join(self.places)}" if self.places else self.message


class UsageError(PortackptError):
    exit_status = 2


class InputError(PortackptError):
    exit_status = 3


class UnknownFormatError(InputError):
    pass


class UnsupportedError(InputError):
    pass


class DamagedError(InputError):
    pass


class RefusedError(InputError):
    pass


class AmbiguousError(PortackptError):
    exit_status = 4


class WriteError(PortackptError):
    exit_status = 1


@contextmanager
def located(place: str) -> Iterator[None]:
    """Append `place` to the address of any error of ours that leaves the block."""
    try:
        yield
    except PortackptError as error:
        error.places = (*error.places, place)
        raise
