"""The contract of a dialect, and how dialects are found.

A dialect knows what the trees of one framework mean, whatever format they were read from. It is
named by an entry point in the group `portackpt.dialects`, called as `Checkpoint.framework` is:
`pytorch = "package.module:DIALECT"`. Importing that module must be cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Protocol

from portackpt import discovery
from portackpt.checkpoint import Checkpoint
from portackpt.errors import UsageError
from portackpt.run import Run

if TYPE_CHECKING:
    from portackpt.moved import Lowered, MovedRun, Template

GROUP = "portackpt.dialects"


class Dialect(Protocol):
    """How one framework spells a training run."""

    def lift(self, checkpoint: Checkpoint, settings: Mapping[str, str]) -> Run:
        """What the checkpoint means, as far as it tells; no tensor but single numbers is read.

        What it leaves open is said in words, and settled by `settings`: `optimizer` (an algorithm's
        name), `parameters` (names in the optimizer's order, one a line). Content that is wrong is
        unrecognized, never an error.
        """

    def lower(self, run: MovedRun, like: Template | None) -> Lowered:
        """The run as this framework spells it: in the places of a template, or by default.

        Raises `AmbiguousError` where the run does not say what the target has to know.
        """


@cache
def get(framework: str) -> Dialect | None:
    """The dialect of `framework`; None where none is installed."""
    target = discovery.entry_points(GROUP).get(framework)
    if target is None:
        return None
    try:
        found: Dialect = discovery.load(target)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"the dialect of {framework} is installed, but does not load: {error}"
        ) from error
    return found
