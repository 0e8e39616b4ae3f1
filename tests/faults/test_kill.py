"""A conversion that is killed, or runs out of disk, leaves the old target as it was."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import portackpt
from portackpt import plugins
from portackpt.checkpoint import Checkpoint
from portackpt.tensor import from_array

TARGETS = ["portackpt", "pytorch", "safetensors", "dcp", "orbax", "tensorflow", "npz"]


def source(path: Path, value: float, count: int = 6_000_000) -> Path:
    """A checkpoint of `count` equal numbers: 24 MB."""
    tree = {"a": from_array(np.full(count, value, "<f4")), "b": from_array(np.full(9, value))}
    plugins.get("npz").write(
        Checkpoint(tree, "npz"), path, overwrite=True, step=None, progress=lambda _: None
    )
    return path


def value(target: Path, format: str) -> float:
    """The one number that all of `target` holds."""
    tree = portackpt.open(target, format=format).tree
    a, b = tree["a"].read(), tree["b"].read()
    assert (a == a[0]).all()
    assert (b == a[0]).all()
    return float(a[0])


@pytest.mark.parametrize("format", TARGETS)
def test_it_survives_a_kill_at_any_moment(format: str, tmp_path: Path) -> None:
    old, new = source(tmp_path / "old.npz", 1.0), source(tmp_path / "new.npz", 2.0)
    target = tmp_path / "out" / "target"
    portackpt.convert(old, target, to=format)
    random.seed(format)
    command = [sys.executable, "-m", "portackpt", "convert", str(new), str(target), "--to", format]
    started = time.monotonic()
    subprocess.run([*command, "--overwrite"], check=True, stdout=subprocess.DEVNULL)
    whole = time.monotonic() - started
    for _ in range(5):
        portackpt.convert(old, target, to=format, overwrite=True)
        child = subprocess.Popen([*command, "--overwrite"], stdout=subprocess.DEVNULL)
        time.sleep(random.uniform(0.3, 1.0) * whole)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert value(target, format) in (1.0, 2.0)


@pytest.fixture
def small_disk(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A file system of 40 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small file system here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("format", TARGETS)
def test_it_survives_a_full_disk(format: str, tmp_path: Path, small_disk: Path) -> None:
    old, new = source(tmp_path / "old.npz", 1.0), source(tmp_path / "new.npz", 2.0)
    target = small_disk / "target"
    portackpt.convert(old, target, to=format)
    before = sorted(path for path in small_disk.rglob("*"))
    child = subprocess.run(
        [sys.executable, "-m", "portackpt", "convert", str(new), str(target), "--to", format,
         "--overwrite"], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.returncode == 1, child.stderr
    assert child.stderr.startswith("portackpt: cannot write: No space left on device")
    assert "Traceback" not in child.stderr
    assert sorted(path for path in small_disk.rglob("*")) == before
    assert value(target, format) == 1.0
