"""What a schedule counts: updates, epochs, micro-steps; told from the optimizer's own count."""

from __future__ import annotations

from dataclasses import dataclass

from portackpt.schedules.expression import Number
from portackpt.schedules.forms import require


@dataclass(frozen=True, slots=True)
class Clock:
    """How the count follows the optimizer's updates: (updates * ticks + shift) // per.

    One tick an update is (1, 1, 0), one an epoch of 500 updates (1, 500, 0), Accelerate on 8
    processes (8, 1, 0). `shift` absorbs ticks without an update (those a gradient scaler skipped).
    """

    ticks: int = 1
    per: int = 1
    shift: int = 0

    def __post_init__(self) -> None:
        require(self.ticks > 0 and self.per > 0, "a clock has ticks > 0 per updates > 0")

    def count(self, updates: int) -> int:
        return (updates * self.ticks + self.shift) // self.per


UPDATES = Clock()
"""One tick an update."""


def infer_clock(
    position: Number, updates: int, updates_per_epoch: int | None = None
) -> Clock | None:
    """The clock by which `updates` of the optimizer are `position` ticks; None where several fit.

    A whole number of ticks an update, or of updates a tick, is taken for the clock. Ticks that a
    gradient scaler's skipped steps left ahead (up to one in ten) are a shift. `updates_per_epoch`
    says that the schedule counts epochs.
    """
    if position != int(position) or position < 0 or updates < 0:
        return None
    ticks = int(position)
    if updates_per_epoch is not None:
        clock = Clock(1, updates_per_epoch)
        behind = ticks - clock.count(updates)
        return Clock(1, updates_per_epoch, behind * updates_per_epoch)
    if ticks == updates:
        return UPDATES
    if ticks == 0 or updates == 0:
        return None
    if ticks % updates == 0:
        return Clock(ticks // updates)
    if updates % ticks == 0:
        return Clock(1, updates // ticks)
    if updates < ticks <= updates * 1.1:
        return Clock(shift=ticks - updates)
    return None
