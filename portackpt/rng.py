"""The random streams that a program draws from without naming them, as one object.

portackpt.save(path, {"model": model, "rng": portackpt.rng_state()})
portackpt.restore(path, {"model": model, "rng": portackpt.rng_state()})
"""

from __future__ import annotations

import random
import sys
from typing import Any

from portackpt.errors import UsageError


def rng_state() -> GlobalStreams:
    """The global generators of Python, numpy and torch: of those libraries that are imported.

    They are read when the object is saved, and set when it is restored. Generators that a program
    holds (`numpy.random.Generator`, `torch.Generator`, a JAX key) are objects of their own.
    """
    return GlobalStreams()


class GlobalStreams:
    """Reads and sets the global generators of what is imported."""

    def state_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"python": random.getstate()}
        if "numpy" in sys.modules:
            found["numpy"] = sys.modules["numpy"].random.get_state()
        torch = sys.modules.get("torch")
        if torch is not None:
            found["torch"] = torch.get_rng_state()
            if torch.cuda.is_available():
                found["torch_cuda"] = list(torch.cuda.get_rng_state_all())
        return found

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises `UsageError` where a library is not there: its stream would start anew."""
        absent = [name for name in ("numpy", "torch") if name in state and name not in sys.modules]
        if absent:
            raise UsageError(
                f"the checkpoint holds the random state of {' and '.join(absent)}: import "
                "it before restoring"
            )
        random.setstate(state["python"])
        if "numpy" in state:
            sys.modules["numpy"].random.set_state(state["numpy"])
        if "torch" in state:
            torch = sys.modules["torch"]
            torch.set_rng_state(state["torch"])
            cuda = state.get("torch_cuda", ())
            if len(cuda) > torch.cuda.device_count():
                raise UsageError(
                    f"the checkpoint holds the random states of {len(cuda)} CUDA devices, found "
                    f"{torch.cuda.device_count()} here"
                )
            for device, one in enumerate(cuda):
                torch.cuda.set_rng_state(one, device)
