"""A training loop that saves every step and resumes from the newest: `python train.py OUT`."""

import json
import sys
from pathlib import Path

import numpy as np

from portackpt import plugins
from portackpt.checkpoint import Checkpoint
from portackpt.tensor import from_array

STEPS = 5


def unheard(count: int) -> None:
    pass


def main() -> None:
    out = Path(sys.argv[1])
    root = out / "ckpts"
    store = plugins.get("portackpt")
    weights, velocity, first = np.ones(1000), np.zeros(1000), 0
    steps = store.steps(root) if root.exists() else ()
    if steps:
        tree = store.open(root, step=steps[-1]).tree
        weights, velocity, first = tree["w"].read(), tree["v"].read(), tree["step"]
        print(f"resumed from step {first}", flush=True)
    for step in range(first + 1, STEPS + 1):
        velocity = 0.9 * velocity + np.sin(weights * step)
        weights = weights - 0.01 * velocity
        tree = {"w": from_array(weights), "v": from_array(velocity), "step": step}
        store.write(
            Checkpoint(tree, "portackpt"), root, overwrite=False, step=step, progress=unheard
        )
    (out / "final.json").write_text(json.dumps({"w": weights.tolist()}))


main()
