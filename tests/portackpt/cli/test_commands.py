"""The commands as a script sees them: exit status, standard output, standard error."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import portackpt
from portackpt.cli import text


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "portackpt", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def document(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.stderr == ""
    return json.loads(result.stdout)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run.npz"
    arrays = {
        "layer.0.weight": np.arange(6, dtype="f4").reshape(2, 3),
        "layer.0.bias": np.ones(2, "f4"),
        "running_mean": np.zeros(3, "f8"),
        "epoch": np.array(7),
    }
    np.savez(path, **arrays)
    return path


def test_it_inspects_as_json(saved: Path) -> None:
    found = document("inspect", saved)
    assert set(found) == {
        "format", "framework", "framework_version", "step", "nbytes", "tensors", "optimizers",
        "schedules", "randomness", "progress", "unrecognized",
    }  # fmt: skip
    assert found["format"] == "npz"
    assert found["nbytes"] == 24 + 8 + 24 + 8
    assert found["tensors"][0] == {
        "name": "layer.0.weight", "dtype": "float32", "shape": [2, 3], "nbytes": 24,
        "role": "parameter", "item": "layer.0.weight",
    }  # fmt: skip
    assert [t["role"] for t in found["tensors"]] == ["parameter", "parameter", "buffer", "other"]


def test_it_inspects_for_a_person(saved: Path) -> None:
    shown = run("inspect", saved).stdout
    assert "4 tensors, 64 B" in shown
    assert "layer.0.weight" in shown
    assert "float32" in shown


def test_it_lists_what_matches(saved: Path) -> None:
    shown = run("inspect", saved, "--match", "layer.*").stdout
    assert "layer.0.bias" in shown
    assert "running_mean" not in shown


def test_it_summarizes_many_tensors(tmp_path: Path) -> None:
    arrays = {f"layers.{i}.{name}": np.zeros(3, "f4") for i in range(300) for name in "abc"}
    np.savez(tmp_path / "many.npz", **arrays)
    shown = run("inspect", tmp_path / "many.npz").stdout
    assert "layers.*.b" in shown
    assert "300" in shown
    assert len(shown.splitlines()) < 20


def test_it_converts_and_shows_the_ledger(saved: Path, tmp_path: Path) -> None:
    found = document("convert", saved, tmp_path / "run", "--to", "portackpt")
    assert (found["ledger"], found["verdict"], found["counts"]) == (1, "exact", {"exact": 4})
    assert found["source"] == {"path": str(saved), "format": "npz", "framework": None}
    assert set(found["entries"][0]) == {
        "source", "target", "fate", "detail", "consequence", "tolerance", "assumption",
        "nbytes",
    }  # fmt: skip
    assert run("validate", tmp_path / "run").returncode == 0
    assert run("diff", saved, tmp_path / "run").returncode == 0


def test_it_writes_nothing_on_a_dry_run(saved: Path, tmp_path: Path) -> None:
    planned = document("convert", saved, tmp_path / "run", "--to", "portackpt", "--dry-run")
    assert not (tmp_path / "run").exists()
    assert planned == document("convert", saved, tmp_path / "run", "--to", "portackpt")


def test_it_diffs(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    arrays = dict(np.load(saved))
    arrays["layer.0.weight"][1, 2] += 0.5
    arrays["extra"] = arrays.pop("layer.0.bias")
    np.savez(other, **arrays)
    result = run("diff", saved, other, "--json")
    assert result.returncode == 1
    found = {
        difference["name"]: difference for difference in json.loads(result.stdout)["differences"]
    }
    assert found["layer.0.weight"]["max_abs"] == 0.5
    assert found["layer.0.weight"]["count"] == 1
    assert found["layer.0.bias"]["kind"] == "only in A"
    assert found["extra"]["kind"] == "only in B"
    shown = run("diff", saved, other)
    assert "1 of 6 elements differ" in shown.stdout
    np.savez(other, **{**dict(np.load(saved)), "epoch": np.array(7) + 1})
    assert run("diff", saved, other, "--atol", "1").returncode == 0


def test_it_lists_the_formats() -> None:
    assert {"portackpt", "npz"} <= {known["name"] for known in document("formats")}
    assert "NumPy" in run("formats").stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["inspect", "nowhere"], 3, "no such file or directory, at nowhere"),
        (["inspect", "{noise}"], 3, "no format recognizes this; known are "),
        (["inspect", "{saved}", "--from", "nonsense"], 2, "unknown format 'nonsense'; known are "),
        (["inspect", "{saved}", "--from", "safetensors"], 3, "portackpt: "),
        (
            ["convert", "{saved}", "x"],
            2,
            "does not say which format to write; choose one with --to",
        ),
        (["convert", "{saved}", "{saved}"], 2, "the target exists; use --overwrite to replace it"),
        (
            ["convert", "{saved}", "x.npz", "--report", "x.txt"],
            2,
            "a report is a .json, .md or .html file",
        ),
        (["convert", "{saved}", "x", "--to", "npz", "--step", "3"], 2, "--step is for a root"),
        (["inspect"], 2, "Missing argument 'PATH'"),
        (["inspect", "{saved}", "--set", "colour=red"], 2, "found 'colour=red'; known: optimizer"),
        (["inspect", "{saved}", "--set", "parameters=nowhere"], 2, "cannot read the names of the"),
        (["validate", "{saved}"], 3, "expected a directory, at "),
    ],
)
def test_it_says_what_is_wrong(
    arguments: list[str], status: int, message: str, saved: Path, tmp_path: Path
) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(b"\x00\x01 noise")
    result = run(*(a.format(saved=saved, noise=noise) for a in arguments))
    assert result.returncode == status, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("suffix", "start"), [("json", "{"), ("md", "# "), ("html", "<!DOCTYPE html>")]
)
def test_it_writes_a_report(saved: Path, tmp_path: Path, suffix: str, start: str) -> None:
    report = tmp_path / f"report.{suffix}"
    result = run("convert", saved, tmp_path / "run", "--to", "portackpt", "--report", report)
    assert "verdict: exact. The run goes on as if it had not moved" in result.stdout
    assert report.read_text().startswith(start)
    assert "layer.0.weight" in report.read_text()


def test_it_says_where_a_report_cannot_be_written(saved: Path, tmp_path: Path) -> None:
    report = tmp_path / "nowhere" / "report.html"
    result = run("convert", saved, tmp_path / "run", "--to", "portackpt", "--report", report)
    assert result.returncode == 1
    assert "cannot write: No such file or directory" in result.stderr


def test_it_writes_nothing_below_the_required_verdict(saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "run.npz2"
    tree = tmp_path / "tree"
    run("convert", saved, tree, "--to", "portackpt")
    result = run("convert", tree, target, "--to", "npz", "--require", "exact")
    assert result.returncode == 0
    assert target.exists()


def test_it_pours_into_a_template(saved: Path, tmp_path: Path) -> None:
    template = tmp_path / "init.npz"
    np.savez(template, **{"layer.0.weight": np.zeros((2, 3), "f8"), "step": np.array(0)})
    target = tmp_path / "poured.npz"
    found = document("convert", saved, target, "--like", template)
    assert found["counts"] == {"relayout": 1, "dropped": 3, "created": 1}
    with np.load(target) as poured:
        assert poured["layer.0.weight"].dtype == np.float64
        assert poured["layer.0.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_it_answers_help_without_heavy_imports() -> None:
    code = "import sys, portackpt.cli; print([m for m in ('numpy', 'rich') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("nbytes", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_490_000_000, "1.49 GB"), (999_600, "1 MB")],
)
def test_it_spells_sizes(nbytes: int, shown: str) -> None:
    assert text.size(nbytes) == shown


def test_it_has_a_front_door(saved: Path, tmp_path: Path) -> None:
    ledger = portackpt.convert(saved, tmp_path / "run", to="portackpt")
    assert ledger.verdict == "exact"
    assert portackpt.validate(tmp_path / "run") == ()
    assert portackpt.diff(saved, tmp_path / "run").equal
    assert portackpt.open(tmp_path / "run").tree["epoch"].read() == 7
    assert len(portackpt.inspect(saved).tensors) == 4
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = portackpt.nonsense
