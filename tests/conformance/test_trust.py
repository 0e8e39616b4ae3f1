"""Reading a checkpoint runs nothing, opens nothing else, and believes no length."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conformance.vectors import SPEC

WATCHED = Path(__file__).with_name("watched.py")


def run(mode: str) -> dict[str, list[str]]:
    """Every vector, opened, read and validated in a child that is watched."""
    command = [sys.executable, str(WATCHED), str(SPEC / "vectors"), mode]
    child = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert child.returncode == 0, child.stderr[-3000:]
    found: dict[str, list[str]] = json.loads(child.stdout)
    return found


def test_it_executes_nothing_and_opens_nothing_else() -> None:
    found = run("events")
    assert found["escaped"] == []
    assert found["events"] == []


def test_it_takes_no_memory_for_claimed_lengths() -> None:
    found = run("memory")
    assert found["escaped"] == []
    assert found["memory"] == []
