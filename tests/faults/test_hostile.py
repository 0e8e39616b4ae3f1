"""Every hostile file ends in data or in one of our errors, and nothing of it runs."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HOSTILE = ROOT / "../shared/data/hostile"
pytestmark = pytest.mark.skipif(not HOSTILE.exists(), reason="no hostile files beside the project")


def watched(paths: list[Path]) -> list[dict[str, Any]]:
    """Open `paths` in a child with an audit hook, 2 GiB of memory and 10 s a file."""
    child = subprocess.run(
        [sys.executable, Path(__file__).with_name("hostile.py"), ROOT / "tests" / "data"],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    found = [json.loads(line) for line in child.stdout.splitlines()]
    assert child.returncode == 0, f"died after {len(found)} of {len(paths)}: {child.stderr[-2000:]}"
    return found


FOLDERS = sorted(path.name for path in HOSTILE.glob("*/"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_it_survives_every_hostile_file(folder: str) -> None:
    paths = sorted(path for path in (HOSTILE / folder).rglob("*") if path.is_file())
    results = watched(paths)
    assert len(results) == len(paths)
    for result in results:
        assert not result["outcome"].startswith("ESCAPED"), result
        assert not result["events"], result
        assert result["seconds"] < 10, result
    print(
        folder,
        dict(Counter(result["outcome"].split(":")[0].rsplit(" ", 1)[0] for result in results)),
    )
