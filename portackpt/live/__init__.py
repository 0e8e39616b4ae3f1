"""Live objects: a program's model, optimizer and the rest as a checkpoint, and back.

`capture` makes a `Checkpoint` whose tensors lie over the memory of the objects; `apply` fills the
objects from one, of the same framework or, through the meaning layer, of another. What a kind of
object is made of is known by adapters (`adapters.Live`).
"""

from portackpt.live.adapters import Live
from portackpt.live.capturing import Capture, capture
from portackpt.live.restoring import Restored, Restoring, apply

__all__ = ["Capture", "Live", "Restored", "Restoring", "apply", "capture"]
