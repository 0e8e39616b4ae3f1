"""Three acknowledged saves: `python saver.py OUT KIND FORMAT`.

KIND `steps` writes steps 1 to 3 of a root; `replace` converts three sources, one after another, to
one target with `overwrite`. Prints `COMMITTED N` after each.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import portackpt
from portackpt import plugins
from portackpt.checkpoint import Checkpoint
from portackpt.tensor import from_array


def checkpoint(step: int) -> Checkpoint:
    weights = from_array(np.full(3000, step, "<f4"))
    return Checkpoint({"step": from_array(np.array(step)), "w": weights}, "npz")


def unheard(count: int) -> None:
    pass


def main() -> None:
    out, kind, format = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    out.mkdir(exist_ok=True)
    if kind == "steps":
        for step in (1, 2, 3):
            plugins.get(format).write(
                checkpoint(step), out / "root", overwrite=False, step=step, progress=unheard
            )
            print(f"COMMITTED {step}", flush=True)
        return
    with tempfile.TemporaryDirectory() as place:
        for step in (1, 2, 3):
            source = Path(place) / f"{step}.npz"
            plugins.get("npz").write(
                checkpoint(step), source, overwrite=False, step=None, progress=unheard
            )
            portackpt.convert(source, out / "target", to=format, overwrite=True)
            print(f"COMMITTED {step}", flush=True)


main()
