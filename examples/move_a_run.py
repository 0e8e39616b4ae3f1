"""Train a small model in PyTorch, go on in JAX from the moved run, and compare.

    python examples/move_a_run.py [DIRECTORY]

Weights, AdamW's moments, the schedule and the counters move; the ledger says what became of every
leaf, and its code builds the optimizer and the schedule in JAX. The same run goes on in PyTorch.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

BEFORE, AFTER = 30, 20


class Training:
    """A small classifier in PyTorch."""

    def __init__(self) -> None:
        import torch

        torch.manual_seed(0)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.LayerNorm(64), torch.nn.Linear(64, 4)
        )
        self.optimizer = torch.optim.AdamW(self.model.named_parameters(), lr=1e-2)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=100)
        self.inputs = torch.randn(256, 16)
        self.labels = self.inputs[:, :4].argmax(1)

    def step(self) -> float:
        import torch

        loss = torch.nn.functional.cross_entropy(self.model(self.inputs), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return float(loss)

    def save(self, path: Path) -> None:
        import torch

        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rng": torch.get_rng_state(),
            "step": BEFORE,
        }
        torch.save(state, path)


def go_on_in_jax(code: str, training: Training) -> list[float]:
    """The losses of the next steps, with what the ledger's code restores."""
    import jax
    import jax.numpy as jnp
    import optax

    restored: dict = {}
    exec(code, restored)  # ours, printed by `portackpt convert`
    params, tx, state = restored["params"], restored["tx"], restored["opt_state"]
    inputs, labels = jnp.asarray(training.inputs.numpy()), jnp.asarray(training.labels.numpy())

    def loss(p):
        x = jax.nn.relu(inputs @ p["0.weight"].T + p["0.bias"])
        x = (x - x.mean(1, keepdims=True)) / jnp.sqrt(x.var(1, keepdims=True) + 1e-5)
        logits = (x * p["2.weight"] + p["2.bias"]) @ p["3.weight"].T + p["3.bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    losses = []
    for _ in range(AFTER):
        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    return losses


def portackpt(*arguments: str) -> None:
    print("\n$ portackpt", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "portackpt", *arguments], check=True)


def main() -> None:
    from portackpt import convert

    place = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="portackpt-"))
    place.mkdir(parents=True, exist_ok=True)
    saved, orbax, tensorflow = place / "run.pt", place / "run.orbax", place / "tf" / "ckpt"
    training = Training()
    losses = [training.step() for _ in range(BEFORE)]
    print(f"trained {BEFORE} steps in PyTorch: loss {losses[-1]:.4f}")
    training.save(saved)
    portackpt("inspect", str(saved))
    portackpt("convert", str(saved), str(orbax), "--to", "orbax", "--overwrite")
    portackpt("convert", str(saved), str(tensorflow), "--to", "tensorflow", "--overwrite")

    ledger = convert(saved, orbax, to="orbax", dry_run=True)
    moved = go_on_in_jax(ledger.resume, training)
    stayed = [training.step() for _ in range(AFTER)]
    difference = max(abs(a - b) / a for a, b in zip(stayed, moved, strict=True))
    print(f"\n{AFTER} more steps: loss {stayed[-1]:.6f} in PyTorch, {moved[-1]:.6f} in JAX")
    print(f"largest relative difference of a loss: {difference:.1e}, float32's own")
    assert difference < 1e-3


if __name__ == "__main__":
    main()
