"""Train a small model in PyTorch, move the run to Orbax and to TensorFlow, and load it there.

    python examples/move_a_run.py [DIRECTORY]

Everything that PyTorch saved (weights, Adam's moments and steps, hyperparameters, the schedule, the
random state) is converted; the ledger says what became of it, and the frameworks read it back.
"""

import subprocess
import sys
import tempfile
from pathlib import Path


def train(path: Path) -> None:
    """Thirty steps of a small classifier; the whole run is saved."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.LayerNorm(64), torch.nn.Linear(64, 4)
    )
    optimizer = torch.optim.AdamW(model.named_parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)
    inputs = torch.randn(256, 16)
    labels = inputs[:, :4].argmax(1)
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    print(f"trained 30 steps in PyTorch: loss {loss.item():.4f}")
    torch.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "rng": torch.get_rng_state(),
            "step": 30,
        },
        path,
    )


def portackpt(*arguments: str) -> None:
    print("\n$ portackpt", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "portackpt", *arguments], check=True)


def compare(saved: Path, orbax: Path, tensorflow: Path) -> None:
    """What the frameworks' own readers return, against what PyTorch saved."""
    import numpy as np
    import orbax.checkpoint as ocp
    import tensorflow as tf
    import torch

    weight = torch.load(saved, weights_only=True)["optimizer"]["state"][0]["exp_avg"].numpy()
    restored = ocp.StandardCheckpointer().restore(orbax.absolute())
    there = restored["optimizer"]["state"]["0"]["exp_avg"]
    reader = tf.train.load_checkpoint(str(tensorflow))
    here = reader.get_tensor("optimizer/state/0/exp_avg/.ATTRIBUTES/VARIABLE_VALUE")
    assert np.array_equal(weight, there)
    assert np.array_equal(weight, here)
    print("\nAdam's first moment, read by Orbax and by TensorFlow: equal to PyTorch's, bit for bit")


def main() -> None:
    place = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="portackpt-"))
    place.mkdir(parents=True, exist_ok=True)
    saved, orbax, tensorflow = place / "run.pt", place / "run.orbax", place / "tf" / "ckpt"
    train(saved)
    portackpt("inspect", str(saved))
    portackpt("convert", str(saved), str(orbax), "--to", "orbax", "--overwrite")
    portackpt("convert", str(saved), str(tensorflow), "--to", "tensorflow", "--overwrite")
    portackpt("diff", str(orbax), str(tensorflow))
    compare(saved, orbax, tensorflow)


if __name__ == "__main__":
    main()
