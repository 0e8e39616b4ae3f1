"""The public tool ckpt-chaos kills, tears and signals a training loop at every file operation."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = shutil.which("ckpt-chaos", path=str(Path(sys.executable).parent))
pytestmark = [
    pytest.mark.skipif(CHAOS is None, reason="ckpt-chaos is not installed"),
    pytest.mark.timeout(600),
]


def test_it_loses_no_work_to_chaos(tmp_path: Path) -> None:
    command = [
        str(CHAOS), "run", "--modes", "before,torn,term,unsynced", "--grace", "2",
        "--max-points", "60", "--checkpoint-glob", "{out}/ckpts/step-*",
        "--step-regex", r"resumed from step (\d+)", "--result-file", "{out}/final.json",
        "--fail-on", "HARD_FAIL,SILENT_DIVERGENCE,LOST_WORK", "--",
        sys.executable, str(Path(__file__).with_name("train.py")), "{out}",
    ]  # fmt: skip
    child = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PORTACKPT_SAVE_ID": "0" * 32},
        capture_output=True,
        text=True,
        check=False,
    )
    print(child.stdout[-3000:])
    assert child.returncode == 0, child.stdout[-3000:] + child.stderr[-1000:]
