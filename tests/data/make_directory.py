"""Makes the files of tests/data/directory with torch: `python tests/data/make_directory.py`."""

import tarfile
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).parent / "directory"


def main() -> None:
    torch.manual_seed(7)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    trainer = FOLDER / "run" / "checkpoint-5"
    trainer.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), trainer / "model.safetensors", {"format": "pt"})
    torch.save(optimizer.state_dict(), trainer / "optimizer.pt")
    (trainer / "trainer_state.json").write_text('{"epoch": 1.0, "global_step": 5}\n')
    policy = FOLDER / "policy.pth"
    torch.save(model.state_dict(), policy)
    with zipfile.ZipFile(FOLDER / "policy.zip", "w") as file:
        file.writestr("data", '{"num_timesteps": 64}')
        file.write(policy, "policy.pth")
        file.writestr("_stable_baselines3_version", "2.4.0")
    with tarfile.open(FOLDER / "ep1.tar.gz", "w:gz") as archive:
        archive.add(policy, "composer_states.pt")
    policy.unlink()


if __name__ == "__main__":
    main()
