"""Orbax: what lies at a path, which steps are complete, and what is not Orbax's at all."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from portackpt.checkpoint import Checkpoint
from portackpt.errors import DamagedError, InputError, UsageError
from portackpt.plugins import Probe
from portackpt_jax.orbax import FORMAT

STORED = Path(__file__).parents[3] / "tests/data/orbax"
SHARED = Path(__file__).parents[3] / "../shared/data/real"
COMPATIBLE = SHARED / "orbax/orbax_compat_checkpoints/v0_checkpoints/direct_checkpoint"


def write(tree: Any, path: Path, step: int | None = None) -> None:
    FORMAT.write(Checkpoint(tree, "x"), path, overwrite=True, step=step, progress=lambda _: None)


def metadata(path: Path, **changes: Any) -> None:
    file = path / "_CHECKPOINT_METADATA"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def recognized(path: Path) -> bool:
    return FORMAT.recognize(Probe(path))


@pytest.mark.parametrize("name", ["ocdbt", "plain", "sharded", "second_api", "root", "root/2"])
def test_it_recognizes_what_orbax_wrote(name: str) -> None:
    assert recognized(STORED / name)


@pytest.mark.parametrize("lost", ["_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt", "d"])
def test_it_recognizes_what_is_left_of_it(tmp_path: Path, lost: str) -> None:
    write({"a": 1}, tmp_path / "a")
    path = tmp_path / "a" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert recognized(tmp_path / "a")


def test_it_recognizes_what_was_not_finished(tmp_path: Path) -> None:
    (tmp_path / "3.orbax-checkpoint-tmp").mkdir()
    assert recognized(tmp_path)
    assert recognized(tmp_path / "3.orbax-checkpoint-tmp")


def test_it_recognizes_nothing_of_others(tmp_path: Path) -> None:
    assert not recognized(tmp_path)
    assert not recognized(tmp_path / "nothing")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-1"\n')
    (tmp_path / "ckpt-1.index").write_bytes(b"x")
    assert not recognized(tmp_path)  # TensorFlow's
    assert not recognized(tmp_path / "checkpoint")
    for name, file in (("checkpoint-5", "trainer_state.json"), ("5", "manifest.json"),
                       ("dcp", ".metadata"), ("saved", "saved_model.pb")):  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
        assert not recognized(tmp_path / name)
    assert not recognized(tmp_path)


def test_what_is_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DamagedError, match="not a directory"):
        FORMAT.open(tmp_path / "file")
    with pytest.raises(DamagedError, match="not a directory"):
        FORMAT.open(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DamagedError, match="nothing of Orbax"):
        FORMAT.open(tmp_path / "empty")


def test_only_complete_steps_count(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5):
        write({"step": step}, tmp_path / "root", step)
    root = tmp_path / "root"
    (root / "5").rename(root / "5.orbax-checkpoint-tmp")
    metadata(root / "4", commit_timestamp_nsecs=None)
    (root / "4/commit_success.txt").unlink()
    (root / "3/default").rename(root / "3/default.orbax-checkpoint-tmp-17")
    (root / "9").mkdir()
    (root / "notes").write_text("mine")
    assert FORMAT.steps(root) == (1, 2)
    opened = FORMAT.open(root)
    assert (opened.step, opened.tree) == (2, {"step": 2})
    for step in (3, 4, 5, 9):
        with pytest.raises(UsageError, match="no complete step"):
            FORMAT.open(root, step=step)
    for name in ("3", "4", "5.orbax-checkpoint-tmp"):
        with pytest.raises(DamagedError, match="not committed: saving was interrupted"):
            FORMAT.open(root / name)


def test_a_root_without_a_complete_step_is_told(tmp_path: Path) -> None:
    write({"step": 1}, tmp_path / "root", 1)
    (tmp_path / "root/1").rename(tmp_path / "root/1.orbax-checkpoint-tmp-1")
    with pytest.raises(DamagedError, match="no step is committed"):
        FORMAT.open(tmp_path / "root")


def test_steps_may_have_names_before_the_number(tmp_path: Path) -> None:
    write({"step": 1}, tmp_path / "checkpoint_20")
    write({"step": 2}, tmp_path / "checkpoint_3")
    assert FORMAT.steps(tmp_path) == (3, 20)
    assert FORMAT.open(tmp_path).tree == {"step": 1}


def test_items_without_checkpoint_metadata_are_found(tmp_path: Path) -> None:
    write({"a": 1}, tmp_path / "params")
    write({"b": 2}, tmp_path / "opt_state")
    for name in ("params", "opt_state"):
        (tmp_path / name / "_CHECKPOINT_METADATA").unlink()
        (tmp_path / name / "commit_success.txt").unlink()
    assert FORMAT.open(tmp_path).tree == {"opt_state": {"b": 2}, "params": {"a": 1}}


def test_no_item_is_opened_twice_through_a_loop(tmp_path: Path) -> None:
    write({"a": 1}, tmp_path / "a/params")
    (tmp_path / "a/loop").symlink_to(tmp_path / "a")
    with pytest.raises(InputError):
        FORMAT.open(tmp_path / "a")


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    write({"a": "b"}, tmp_path / "a")
    (tmp_path / "a/_strings.json").unlink()
    os.mkfifo(tmp_path / "a/_strings.json")
    with pytest.raises(InputError, match="not a regular file"):
        FORMAT.open(tmp_path / "a")


needs_real = pytest.mark.skipif(not SHARED.exists(), reason="no real files beside the project")


def compatible(kind: str) -> list[Path]:
    return sorted((COMPATIBLE / kind).iterdir()) if COMPATIBLE.exists() else []


@needs_real
@pytest.mark.parametrize(
    "path", compatible("critical_metadata_alterations"), ids=lambda path: path.name
)
def test_what_orbax_calls_critical_is_refused(path: Path) -> None:
    assert recognized(path)
    with pytest.raises(DamagedError, match="missing"):
        FORMAT.open(path)


@needs_real
@pytest.mark.parametrize(
    "path",
    [*compatible("non_critical_metadata_alterations"), *compatible("checkpoint_metadata_missing"),
     *compatible("checkpoint_metadata_present")],
    ids=lambda path: path.name,
)  # fmt: skip
def test_what_orbax_calls_not_critical_is_read(path: Path) -> None:
    pytest.importorskip("zstandard")
    opened = FORMAT.open(path)
    assert opened.tree["a"].read().tolist() == list(range(8))
    assert opened.tree["b"]["c"].read().tolist() == [1, 2, 3]


@needs_real
def test_it_reads_a_mesh_that_orbax_refuses_on_one_device() -> None:
    pytest.importorskip("zstandard")
    opened = FORMAT.open(SHARED / "orbax/tunix_sft_checkpoints")
    assert opened.step == 1
    kernel = opened.tree["model_params"]["w1"]["kernel"]["value"].read()
    assert kernel.shape == (2, 4)
    assert str(kernel[1, 3]) == "-0.7722851"


@needs_real
@pytest.mark.parametrize("name", ["aggregate_all", "aggregate_some"])
def test_it_reads_what_is_in_one_file_wholly_or_in_part(name: str) -> None:
    pytest.importorskip("zstandard")
    path = SHARED / f"orbax/orbax_testing_aggregate_old/{name}.checkpoint"
    tree = FORMAT.open(path).tree
    assert tree["a"].read().tolist() == list(range(8))
    assert tree["b"].read().tolist() == list(range(0, 32, 2))
    assert tree["c"]["a"].read().tolist() == [[0, 3, 6, 9], [12, 15, 18, 21]]
    assert tree["c"]["e"].shape == (4, 4)


@needs_real
def test_it_reads_what_t5x_describes_in_place() -> None:
    path = SHARED / "t5x/t5x_testdata/tiny_t5/checkpoint_1"
    states = FORMAT.open(path).tree["optimizer"]["state"]
    assert states["param_states"]["bias"].read().tolist() == [1] * 5
    assert states["param_states"]["kernel"].shape == (10, 5)
    assert states["step"].read() == 1


@needs_real
def test_what_lacks_its_array_metadata_is_told() -> None:
    with pytest.raises(DamagedError, match=r"missing.*param_states\.bias"):
        FORMAT.open(SHARED / "t5x/t5x_testdata/tiny_orbax")
