"""`portackpt ls` and `portackpt prune` as a script sees them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import portackpt
from portackpt.cli.ls import chart
from portackpt.manager import Record


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "portackpt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with portackpt.CheckpointManager(tmp_path / "run", run="gpt") as manager:
        for step, loss in enumerate([3.0, 1.0, 2.0]):
            manager.save(step, {"w": np.ones(9)}, metrics={"loss": loss})
    return tmp_path / "run"


def test_it_lists_as_json(root: Path) -> None:
    shown = run("ls", root, "--json")
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert [(one["step"], one["metrics"], one["complete"]) for one in document["steps"]] == [
        (0, {"loss": 3.0}, True), (1, {"loss": 1.0}, True), (2, {"loss": 2.0}, True),
    ]  # fmt: skip
    assert [one["event"] for one in document["events"]][:3] == ["created", "started", "saved"]


def test_it_lists_for_a_person(root: Path) -> None:
    (root / "step-1" / "manifest.json").write_bytes(b"{}")
    shown = run("ls", root).stdout
    assert "every step" in shown
    assert "DAMAGED" in shown
    assert "finished" in shown


def test_it_prunes_only_when_told(root: Path) -> None:
    shown = run("prune", root, "--policy", "latest:1", "--policy", "best:loss:min")
    assert shown.stdout.startswith("would delete 1 checkpoint (")
    assert shown.stdout.endswith("): 0\n")
    assert (root / "step-0").exists()
    assert run("prune", root, "--policy", "latest:1", "--yes").stdout.endswith("): 0, 1\n")
    assert sorted(path.name for path in root.iterdir()) == ["journal.jsonl", "step-2"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(("ls", "nowhere"), 3), (("prune", "nowhere", "--policy", "latest:1"), 3),
     (("prune", ".", "--policy", "newest"), 2), (("prune", "."), 2)],
)  # fmt: skip
def test_it_tells_bad_use(arguments: tuple[str, ...], status: int) -> None:
    assert run(*arguments).returncode == status


def test_it_draws_a_chart() -> None:
    losses = [3.0, float("nan"), 1.0, 2.0]
    records = [Record(step=n, time=0, metrics={"loss": loss}) for n, loss in enumerate(losses)]
    assert chart(records, "loss") == "█ ▁▅  1 to 3"
    assert chart(records, "other") == ""
