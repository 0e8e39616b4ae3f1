"""What a dialect makes of a schedule: code, and how exact it is."""

from __future__ import annotations

from dataclasses import dataclass

from portackpt.ledger import Fate


@dataclass(frozen=True, slots=True)
class Spelled:
    """Target-side code, and what becomes of the run that goes on with it.

    `code` runs as it stands and defines the name it was asked for; where a part is a function of
    the training program, a place is left for it and `detail` says so. `tolerance` is relative to
    the schedule's highest rate. `detail` says what was done, `consequence` what it means.
    """

    code: str
    fate: Fate
    tolerance: float | None = None
    detail: str = ""
    consequence: str = ""
