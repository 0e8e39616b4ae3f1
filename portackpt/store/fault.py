"""Faults: what breaks which numbered requirement of the spec, and where.

A reader raises the first one, a validator collects them all; both make them here.
"""

from __future__ import annotations

from dataclasses import dataclass

from portackpt.errors import DamagedError, InputError, RefusedError, UnsupportedError


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken requirement: `code` is its number in `spec/format.md` (`M-7`, `T-5`, …)."""

    code: str
    message: str
    file: str | None = None
    offset: int | None = None
    tensor: str | None = None

    @property
    def places(self) -> tuple[str, ...]:
        """The address of the fault, innermost first."""
        offset = () if self.offset is None else (f"offset {self.offset}",)
        tensor = () if self.tensor is None else (f"tensor {self.tensor!r}",)
        return (*offset, *tensor, *(() if self.file is None else (self.file,)))

    @property
    def place(self) -> str:
        """The address of the fault, outermost first; empty where it has none."""
        return ", ".join(reversed(self.places))

    def error(self) -> FaultError:
        """The fault as the exception that a reader raises."""
        if self.code.startswith("L-") or self.code in _REFUSED:
            return RefusedFaultError(self)
        return UnsupportedFaultError(self) if self.code in _UNSUPPORTED else DamagedFaultError(self)


class FaultError(InputError):
    """A fault, raised."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message, *fault.places)
        self.fault = fault


class DamagedFaultError(FaultError, DamagedError):
    pass


class RefusedFaultError(FaultError, RefusedError):
    pass


class UnsupportedFaultError(FaultError, UnsupportedError):
    pass


_REFUSED = frozenset(("D-3", "D-4", "D-5"))
"""Names and kinds of files that nobody writes by accident."""
_UNSUPPORTED = frozenset(("V-1", "G-1", "T-2"))
"""What a later version, or an extension, may know."""
