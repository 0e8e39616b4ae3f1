"""The contract of a live adapter, and how adapters are found.

An adapter knows the objects of one framework. It is named by an entry point in the group
`portackpt.live`, called as `Checkpoint.framework` is: `pytorch = "package.module:LIVE"`. Importing
that module must be cheap, and import no framework: who has such an object has imported it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Protocol

from portackpt import discovery
from portackpt.errors import UsageError
from portackpt.tensor import Tensor
from portackpt.tree import Node, Object

if TYPE_CHECKING:
    from portackpt.live.capturing import Capture
    from portackpt.live.restoring import Restoring

GROUP = "portackpt.live"


class Live(Protocol):
    """How the objects of one framework become a tree, and are filled from one."""

    framework: str | None

    def handles(self, value: object) -> bool:
        """Whether `value` is an object of this framework; the same for all values of its type."""

    def capture(self, value: object, scene: Capture, path: str) -> Node:
        """What `value` holds, over its own memory. What cannot be saved goes to `scene.fault`."""

    def compare(self, value: object, node: Node, scene: Restoring, path: str) -> None:
        """Tell `scene` of every leaf in which `node` does not fit `value`. Nothing is changed."""

    def restore(self, value: object, node: Node, scene: Restoring, path: str) -> object:
        """`value`, filled from a node that fits; another object where it cannot be changed."""

    def make(self, node: Tensor | Object) -> object:
        """A new value of this framework. Raises `UnsupportedError`."""


def adapter_of(value: object) -> Live | None:
    """The adapter that handles `value`: a framework's, else one of the built-in protocols."""
    kind = type(value)
    if kind not in _KNOWN:
        _KNOWN[kind] = next((one for one in _adapters() if one.handles(value)), None)
    return _KNOWN[kind]


_KNOWN: dict[type, Live | None] = {}


@cache
def named(framework: str) -> Live | None:
    """The adapter of `framework`; None where none is installed."""
    target = discovery.entry_points(GROUP).get(framework)
    if target is None:
        return None
    try:
        found: Live = discovery.load(target)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"the live adapter of {framework} is installed, but does not load: {error}"
        ) from error
    return found


def _adapters() -> Iterator[Live]:
    from portackpt.live.builtin import ADAPTERS

    yield from filter(None, map(named, sorted(discovery.entry_points(GROUP))))
    yield from ADAPTERS
