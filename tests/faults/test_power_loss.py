"""No power cut, at any system call and under any of four models of a disk, loses a save."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPLORER = ROOT / "../shared/tools/power_loss_explorer.py"
pytestmark = [
    pytest.mark.skipif(not EXPLORER.exists(), reason="no power-loss explorer beside the project"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
    pytest.mark.timeout(600),
]


@pytest.mark.parametrize(
    ("kind", "format"),
    [("steps", "portackpt"), ("replace", "portackpt"), ("replace", "tensorflow"),
     ("replace", "safetensors")],
)  # fmt: skip
def test_it_loses_no_acknowledged_save(kind: str, format: str, tmp_path: Path) -> None:
    here = Path(__file__).parent
    saver = [sys.executable, here / "saver.py", tmp_path / "out", kind, format]
    check = f"{sys.executable} {here / 'recover.py'} {{out}} {format}"
    child = subprocess.run(
        [sys.executable, EXPLORER, tmp_path / "out", "--", *saver],
        env={**os.environ, "ALICE_CHECK": check, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    print(child.stdout)
    assert child.returncode == 0, child.stderr[-2000:]
    assert re.search(r"VIOLATIONS 0\b", child.stdout), child.stdout
    assert int(re.findall(r"(\d+) distinct", child.stdout)[0]) > 8


def test_it_loses_no_managed_save(tmp_path: Path) -> None:
    managed = f"{sys.executable} {Path(__file__).with_name('managed.py')}"
    child = subprocess.run(
        [sys.executable, EXPLORER, tmp_path / "out", "--", *managed.split(), tmp_path / "out",
         "save"],
        env={**os.environ, "ALICE_CHECK": f"{managed} {{out}} recover",
             "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    print(child.stdout)
    assert child.returncode == 0, child.stderr[-2000:]
    assert re.search(r"VIOLATIONS 0\b", child.stdout), child.stdout
    assert int(re.findall(r"(\d+) distinct", child.stdout)[0]) > 8
