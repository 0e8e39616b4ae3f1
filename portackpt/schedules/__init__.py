"""Learning-rate schedules by their meaning: canonical forms, closed forms in float64, positions.

`Schedule` says what a schedule is and where it stands; `value` what rate it gives; `edits` whether
the rates found in a checkpoint agree; `continued` what the source would go on with. Dialects lift
schedules from a framework's data and spell them as its code.
"""

from portackpt.schedules.clock import UPDATES, Clock, infer_clock
from portackpt.schedules.curves import (
    After,
    Cosine,
    Interpolated,
    InverseSqrt,
    InverseTime,
    WarmRestarts,
)
from portackpt.schedules.cycles import Cyclic, Momentum, OneCycle
from portackpt.schedules.declared import declare, hugging_face
from portackpt.schedules.edits import Edit, continued, edits
from portackpt.schedules.expression import evaluate
from portackpt.schedules.forms import (
    Constant,
    Exponential,
    Form,
    Held,
    Linear,
    MultiStep,
    Piecewise,
    Polynomial,
    Step,
)
from portackpt.schedules.plateau import Plateau, PlateauState, observe
from portackpt.schedules.rates import at, value
from portackpt.schedules.schedule import (
    Chain,
    Code,
    Piece,
    Schedule,
    Sequence,
    expression,
    momentum,
    unknown,
)
from portackpt.schedules.spelled import Spelled

__all__ = [
    "UPDATES",
    "After",
    "Chain",
    "Clock",
    "Code",
    "Constant",
    "Cosine",
    "Cyclic",
    "Edit",
    "Exponential",
    "Form",
    "Held",
    "Interpolated",
    "InverseSqrt",
    "InverseTime",
    "Linear",
    "Momentum",
    "MultiStep",
    "OneCycle",
    "Piece",
    "Piecewise",
    "Plateau",
    "PlateauState",
    "Polynomial",
    "Schedule",
    "Sequence",
    "Spelled",
    "Step",
    "WarmRestarts",
    "at",
    "continued",
    "declare",
    "edits",
    "evaluate",
    "expression",
    "hugging_face",
    "infer_clock",
    "momentum",
    "observe",
    "unknown",
    "value",
]
