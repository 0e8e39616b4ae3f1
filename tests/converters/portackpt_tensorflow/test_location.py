"""Where a checkpoint lies: every spelling of a path, and what is no checkpoint."""

import shutil
from pathlib import Path

import pytest

from portackpt.errors import (
    AmbiguousError,
    DamagedError,
    InputError,
    UnsupportedError,
    UsageError,
)
from portackpt.plugins import Probe
from portackpt.tree import tensors
from portackpt_tensorflow.tensorbundle import FORMAT

DATA = Path(__file__).parents[2] / "data/tensorflow"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / "objects", tmp_path / "run"))


def saves(path: Path, step: int | None = None) -> int:
    """How often the checkpoint at `path` had been saved."""
    return int(FORMAT.open(path, step=step).tree["save_counter"].read())


@pytest.mark.parametrize(
    "name",
    ["ckpt-1", "ckpt-1.index", "ckpt-1.data-00000-of-00001", ""],
)
def test_it_opens_a_prefix_and_each_of_its_files(folder: Path, name: str) -> None:
    assert FORMAT.recognize(Probe(folder / name))
    assert saves(folder / name) == (1 if name else 2)


def test_it_reads_the_checkpoint_that_the_text_names(folder: Path) -> None:
    assert saves(folder / "checkpoint") == saves(folder) == 2
    assert FORMAT.recognize(Probe(folder / "checkpoint"))
    checkpoint = FORMAT.open(folder)
    assert checkpoint.step == 2
    assert checkpoint.notes == (
        "the file `checkpoint` names '/home/someone/run/ckpt-2'; read 'ckpt-2' of this directory",
    )
    (folder / "checkpoint").write_text('model_checkpoint_path: "ckpt-1"\n')
    assert saves(folder) == 1
    assert FORMAT.open(folder).notes == ()


@pytest.mark.parametrize("text", ["../other/ckpt-7", "/etc/passwd", "..", "", "gone"])
def test_it_never_leaves_the_directory(folder: Path, text: str) -> None:
    other = folder.parent / "other"
    shutil.copytree(folder, other)
    for path in list(other.glob("ckpt-1.*")):
        path.rename(other / path.name.replace("ckpt-1", "ckpt-7"))
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{text}"\n')
    checkpoint = FORMAT.open(folder)
    assert checkpoint.step == 2
    assert checkpoint.notes == (
        f"the file `checkpoint` names {text!r}; read 'ckpt-2' of this directory",
    )


def test_it_picks_a_step(folder: Path) -> None:
    assert FORMAT.steps(folder) == FORMAT.steps(folder / "checkpoint") == (1, 2)
    assert [saves(folder, step=1), saves(folder, step=2)] == [1, 2]
    with pytest.raises(UsageError, match="no step 7 here; there are 1, 2"):
        FORMAT.open(folder, step=7)
    with pytest.raises(UsageError, match="directory of several"):
        FORMAT.open(folder / "ckpt-1", step=1)
    assert FORMAT.steps(folder / "ckpt-1") == ()
    assert FORMAT.steps(DATA / "saved_model") == FORMAT.steps(DATA / "names") == ()


def test_it_asks_where_the_names_leave_a_choice(folder: Path) -> None:
    (folder / "checkpoint").unlink()
    assert saves(folder) == 2
    for path in list(folder.glob("ckpt-1.*")):
        shutil.copy(path, folder / path.name.replace("ckpt-1", "best-2"))
    with pytest.raises(AmbiguousError, match="several checkpoints: best-2, ckpt-1, ckpt-2; give"):
        FORMAT.open(folder)
    with pytest.raises(AmbiguousError, match="several checkpoints of step 2: best-2, ckpt-2"):
        FORMAT.open(folder, step=2)


def test_it_reads_the_variables_of_a_saved_model(tmp_path: Path) -> None:
    assert FORMAT.recognize(Probe(DATA / "saved_model"))
    checkpoint = FORMAT.open(DATA / "saved_model")
    assert checkpoint.tree["weight"].read().tolist() == [1.0, 2.0]
    assert checkpoint.notes == ("the variables of a SavedModel are read; its program is not",)
    with pytest.raises(UsageError, match="directory of several"):
        FORMAT.open(DATA / "saved_model", step=1)
    program = tmp_path / "program"
    program.mkdir()
    (program / "saved_model.pb").write_bytes(b"")
    assert FORMAT.recognize(Probe(program))
    with pytest.raises(UnsupportedError, match="without variables: a program only"):
        FORMAT.open(program)
    (program / "variables").mkdir()
    (program / "variables" / "variables.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(DamagedError, match="index of the variables is missing"):
        FORMAT.open(program)


def test_it_reads_a_single_file_that_the_text_names() -> None:
    for path in (DATA / "v1", DATA / "v1/model.ckpt-3", DATA / "v1/checkpoint"):
        assert FORMAT.recognize(Probe(path))
        assert len(list(tensors(FORMAT.open(path).tree))) == 11
        assert FORMAT.open(path).step == 3


def test_it_tells_what_is_missing(folder: Path, tmp_path: Path) -> None:
    (folder / "ckpt-2.index").unlink()
    assert FORMAT.recognize(Probe(folder / "ckpt-2"))
    with pytest.raises(DamagedError, match="data without an index"):
        FORMAT.open(folder / "ckpt-2")
    (folder / "ckpt-1.index").unlink()
    assert FORMAT.recognize(Probe(folder))
    with pytest.raises(DamagedError, match="no index"):
        FORMAT.open(folder)
    with pytest.raises(InputError, match="no such checkpoint"):
        FORMAT.open(tmp_path / "nothing")
    with pytest.raises(InputError, match="no such checkpoint"):
        FORMAT.open(tmp_path / "nothing" / "nested")


def test_it_recognizes_damaged_files_as_its_own(tmp_path: Path) -> None:
    for name, cut in (("objects/ckpt-1.index", 300), ("v1/model.ckpt-3", 500)):
        path = tmp_path / Path(name).name
        path.write_bytes((DATA / name).read_bytes()[:cut])
        assert FORMAT.recognize(Probe(path)), name
        with pytest.raises(DamagedError):
            FORMAT.open(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pt", b"PK\x03\x04"),
        ("checkpoint", b"\x85\xa7version\x03"),
        ("a.index", b"faiss"),
        ("a", bytes(100)),
        ("a", b""),
        ("a.json", b"{}"),
        ("table.ldb", b"\0\3\1key" + bytes(60) + bytes.fromhex("57fb808b247547db")),
    ],
)
def test_it_leaves_other_files_alone(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert not FORMAT.recognize(Probe(tmp_path / name))
    assert not FORMAT.recognize(Probe(tmp_path))
    assert not FORMAT.recognize(Probe(tmp_path / "missing"))
