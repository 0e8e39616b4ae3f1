"""Three managed saves with retention: `python managed.py OUT save|recover`.

`save` prints `COMMITTED N` after each durable save, `recover` `RECOVERED N`, where the run resumes.
"""

import sys
from pathlib import Path

import numpy as np

import portackpt
from portackpt.manager import preservation


def main() -> None:
    root, verb = Path(sys.argv[1]) / "root", sys.argv[2]
    objects = {"w": np.zeros(3000, "f4"), "step": [0]}
    policy = preservation.LatestN(1)
    with portackpt.CheckpointManager(root, preservation=policy) as manager:
        if verb == "recover":
            resumed = manager.restore(objects)
            assert not resumed or not resumed.passed_over, "a damaged checkpoint was in sight"
            assert (objects["w"] == objects["step"][0]).all(), "values of two saves"
            print(f"RECOVERED {resumed.step if resumed else 0}")
            return
        Path(sys.argv[1]).mkdir(exist_ok=True)
        for step in (1, 2, 3):
            objects["w"][:] = step
            objects["step"][0] = step
            manager.save(step, objects)
            manager.wait()
            print(f"COMMITTED {step}", flush=True)


main()
