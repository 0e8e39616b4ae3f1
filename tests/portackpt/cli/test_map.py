"""`portackpt map`, as a person calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from portackpt.matching.files import read


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "portackpt", "map", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path]:
    """A PyTorch-like and a Flax-like checkpoint of one model."""
    source, like = tmp_path / "source.npz", tmp_path / "like.npz"
    np.savez(
        source,
        **{"h.0.fc.weight": np.ones((3, 4), "f4"), "h.0.fc.bias": np.ones(3, "f4"),
           "h.1.fc.weight": np.ones((3, 4), "f4"), "h.1.fc.bias": np.ones(3, "f4"),
           "ln.weight": np.ones(3, "f4"), "ln.bias": np.ones(3, "f4"),
           "exp_avg/ln.bias": np.ones(3, "f4")},
    )  # fmt: skip
    np.savez(
        like,
        **{"params/h_0/fc/kernel": np.ones((4, 3), "f4"), "params/h_0/fc/bias": np.ones(3, "f4"),
           "params/h_1/fc/kernel": np.ones((4, 3), "f4"), "params/h_1/fc/bias": np.ones(3, "f4"),
           "params/ln/scale": np.ones(3, "f4"), "params/ln/bias": np.ones(3, "f4"),
           "params/gate": np.ones(5, "f4")},
    )  # fmt: skip
    return source, like


def test_it_writes_a_file_to_read_and_edit(saved: tuple[Path, Path], tmp_path: Path) -> None:
    source, like = saved
    output = tmp_path / "map.toml"
    done = run(source, like, "-o", output)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ("portackpt: 2 rules; 1 leaves without a counterpart, named at the end\n")
    assert output.read_text() == (
        f"# {source} to {like}, a proposal: confidence and evidence of each line\n"
        'source = "torch"\n'
        'target = "flax"\n'
        "\n"
        "[layers]\n"
        '"h.{i}.fc" = { to = "params/h_{i}/fc", kind = "linear" }  '
        "# 0.99 the only layers of their shapes\n"
        '"ln" = { to = "params/ln", kind = "layer_norm" }          '
        "# 0.99 the only layers of their shapes\n"
        "\n"
        "# nothing found for the target's params/gate (5)\n"
    )
    assert len(read(output).rules) == 2


def test_it_prints_without_a_file(saved: tuple[Path, Path]) -> None:
    done = run(*saved)
    assert done.returncode == 0
    assert '"ln" = { to = "params/ln", kind = "layer_norm" }' in done.stdout


def test_it_does_not_replace_what_may_have_been_edited(
    saved: tuple[Path, Path], tmp_path: Path
) -> None:
    output = tmp_path / "map.toml"
    output.write_text("mine")
    done = run(*saved, "-o", output)
    assert done.returncode == 2
    assert done.stderr == (
        "portackpt: it exists, and may have been edited; replace it with --overwrite, "
        f"at {output}\n"
    )
    assert output.read_text() == "mine"
    assert run(*saved, "-o", output, "--overwrite").returncode == 0
    assert output.read_text() != "mine"


def test_it_says_that_there_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "empty.npz"
    np.savez(path, epoch=np.array(3))
    done = run(path, path)
    assert done.returncode == 2
    assert done.stderr == f"portackpt: no parameters of a model are found in it, at {path}\n"


def test_it_does_not_guess_whose_names_these_are(tmp_path: Path) -> None:
    path = tmp_path / "odd.npz"
    np.savez(path, odd=np.ones((2, 2), "f4"))
    done = run(path, path)
    assert done.returncode == 4
    assert done.stderr == (
        "portackpt: neither the format nor the names of its leaves tell which framework wrote it; "
        'write the mapping file by hand, beginning with source = "torch" or the like, and pass it '
        f"with --map, at {path}\n"
    )
