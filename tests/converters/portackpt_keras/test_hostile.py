"""HDF5 files made to break readers: data or an error of ours, soon, and nothing else happens."""

import io
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from portackpt.errors import DamagedError, InputError, RefusedError
from portackpt.tree import tensors
from portackpt_keras import hdf5
from portackpt_keras.frames import DONE, write_frame
from portackpt_keras.hdf5 import Hdf5
from portackpt_keras.keras import FORMAT

pytest.importorskip("h5py")
CORPUS = Path(__file__).parents[3] / "../shared/data/hostile/HDFGroup+cve_hdf5/cvefiles"
DATA = Path(__file__).parents[2] / "data/keras"
_watched: list[tuple[str, Any]] | None = None


def _watch(event: str, details: Any) -> None:
    if _watched is not None and event in ("import", "open", "socket.connect", "exec", "os.system"):
        _watched.append((event, details))


sys.addaudithook(_watch)


def read_all(path: Path) -> None:
    for _, tensor in tensors(FORMAT.open(path).tree):
        for _ in tensor.pieces():
            pass


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of hostile HDF5 files is not here")
def test_it_survives_published_exploits() -> None:
    """A sample, with one that crashes HDF5; `tests/faults` opens all of them under watch."""
    paths = sorted(CORPUS.iterdir())[::8]
    for path in [*paths, CORPUS / "cve-2025-6269-1.h5"]:
        begun = time.monotonic()
        with suppress(InputError):
            read_all(path)
        assert time.monotonic() - begun < 10, path.name


def test_it_touches_nothing_but_the_file(tmp_path: Path) -> None:
    """Nothing is imported, executed, opened for writing or connected to here for a file's sake."""
    global _watched
    path = tmp_path / "a.h5"
    whole = bytearray((DATA / "legacy.h5").read_bytes())
    whole[3000:3100] = b"\xff" * 100
    path.write_bytes(whole)
    read_all(DATA / "legacy.h5")
    with suppress(InputError):
        read_all(path)
    _watched = []
    try:
        read_all(DATA / "legacy.h5")
        with suppress(InputError):
            read_all(path)
        seen = _watched
    finally:
        _watched = None
    # pipes to the child are opened by number
    files = [details for event, details in seen if event == "open"]
    assert {str(name) for name, *_ in files if not isinstance(name, int)} <= {
        str(path),
        str(DATA / "legacy.h5"),
    }
    assert {event for event, _ in seen} <= {"open"}


def test_it_ends_in_data_or_in_an_error(tmp_path: Path) -> None:
    random = Random(5)
    whole = (DATA / "legacy.h5").read_bytes()
    path = tmp_path / "a.h5"
    for _ in range(12):
        bent = bytearray(whole)
        for _ in range(3):
            bent[random.randrange(8, len(bent))] ^= 1 << random.randrange(8)
        path.write_bytes(bent)
        with suppress(InputError):
            read_all(path)


class _Answers:
    """A child that answers what it likes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
        real = subprocess.Popen
        monkeypatch.setattr(
            subprocess,
            "Popen",
            lambda command, **options: real([command[0], "-c", code], **options),
        )


def test_it_reports_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    _Answers(monkeypatch, "import os; os.kill(os.getpid(), 11)")
    with pytest.raises(DamagedError, match=r"crashed \(SIGSEGV\).*legacy\.h5"):
        FORMAT.open(DATA / "legacy.h5")


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "_SECONDS", 0.5)
    _Answers(monkeypatch, "import time; time.sleep(60)")
    begun = time.monotonic()
    with pytest.raises(RefusedError, match="takes longer"):
        FORMAT.open(DATA / "legacy.h5")
    assert time.monotonic() - begun < 5


NONSENSE = [
    b"I" + b"\xff\xff\xff\xff",
    b"Q" + b"\0\0\0\0",
    b"I" + b"\1\0\0\0" + b"\xc1",
    b"I" + b"\1\0\0\0" + b"\x01",
    b"I" + b"\2\0\0\0" + b"\x91\x90",
    b"E" + b"\1\0\0\0" + b"\x90",
    b"." + b"\0\0\0\0",
]


@pytest.mark.parametrize("answer", NONSENSE)
def test_it_does_not_trust_the_child(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    done = b".\0\0\0\0"
    code = f"import sys; sys.stdout.buffer.write({done + answer + done!r}); sys.stdin.buffer.read()"
    _Answers(monkeypatch, code)
    with pytest.raises(DamagedError, match=r"legacy\.h5"):
        FORMAT.open(DATA / "legacy.h5")


@pytest.mark.parametrize(
    "dataset",
    [
        {"offset": 1 << 40},
        {"offset": -1},
        {"nbytes": 12},
        {"shape": [-1]},
        {"shape": [1 << 62]},
        {"type": "no such"},
        {"type": None},
    ],
)
def test_it_checks_every_range(monkeypatch: pytest.MonkeyPatch, dataset: dict[str, Any]) -> None:
    sound = {"type": "float32", "size": 4, "big": False, "shape": [1], "nbytes": 4, "offset": 0}
    records = [["g", -1, b"", []], ["d", 0, b"w", [], sound | dataset]]
    monkeypatch.setattr(Hdf5, "records", lambda self: iter(records))
    with pytest.raises(DamagedError):
        FORMAT.open(DATA / "legacy.h5")


def test_it_frames_what_it_says() -> None:
    stream = io.BytesIO()
    write_frame(stream, b"D", b"abc")
    write_frame(stream, DONE)
    assert stream.getvalue() == b"D\3\0\0\0abc.\0\0\0\0"
