"""CheckpointManager: when to save, what to keep, where to resume, and what happened.

`decisions` are reasons to save, `preservation` reasons to keep:

    from portackpt.manager import CheckpointManager, decisions, preservation

    manager = CheckpointManager(
        "runs/7",
        save_decision=decisions.EveryTMinutes(10) | decisions.OnMetric("loss", "min"),
        preservation=preservation.LatestN(3) | preservation.BestK("loss", "min"),
    )
"""

from portackpt.manager import decisions, preservation
from portackpt.manager.guard import Preempted
from portackpt.manager.manager import CheckpointManager, WhenBusy
from portackpt.manager.record import Record
from portackpt.manager.resuming import PassedOver, Resumed

__all__ = [
    "CheckpointManager",
    "PassedOver",
    "Preempted",
    "Record",
    "Resumed",
    "WhenBusy",
    "decisions",
    "preservation",
]
