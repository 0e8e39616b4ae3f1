"""Public exploits and bombs: each ends in data or in an error of ours, and does nothing."""

from __future__ import annotations

import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from portackpt.errors import InputError, PortackptError, RefusedError
from portackpt.plugins import Probe
from portackpt.tree import tensors, walk
from portackpt_torch.archive import crc32
from portackpt_torch.legacy import LegacyStorages
from portackpt_torch.pickle_reader import read_pickle
from portackpt_torch.pytorch import FORMAT
from portackpt_torch.reading import KNOWN
from portackpt_torch.values import Builder

ROOT = (Path(__file__).parents[3] / "../shared/data/hostile").resolve()
FOLDERS = ("mmaitre314+picklescan", "coldwaterq+pickle_injector", "nih-at+libzip")
FILES = [
    path.relative_to(ROOT).as_posix()
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*"))
    if path.is_file()
]
BOMBS = [name for name in FILES if "aughs" in name]
pytestmark = pytest.mark.skipif(not FILES, reason="the public corpora are not here")

WATCHED = ("import", "exec", "compile", "subprocess", "os.system", "socket", "ctypes", "open",
           "os.exec", "os.spawn", "os.remove", "os.rename", "os.mkdir", "shutil", "marshal",
           "pickle.find_class")  # fmt: skip


class Watch:
    """What the interpreter was asked to do while something ran."""

    def __init__(self) -> None:
        self.active = False
        self.events: list[tuple[str, Any]] = []
        sys.addaudithook(self.hear)

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.active or not event.startswith(WATCHED):
            return
        reading = event == "open" and args[1] in ("r", "rb", None) and str(args[0]).startswith("/")
        if not reading:
            self.events.append((event, args))


@pytest.fixture(scope="module")
def watch() -> Watch:
    """A watch that is set once everything of ours, and Python's codecs, are imported."""
    assert b"x".decode("cp437") == str(b"x", "raw-unicode-escape")
    assert crc32()(b"", 0) == 0
    with pytest.raises(PortackptError):
        _read(ROOT / "missing")
    return Watch()


def _read(path: Path) -> int:
    FORMAT.recognize(Probe(path))
    tree = FORMAT.open(path).tree
    for _, tensor in tensors(tree):
        tensor.read()
    return sum(1 for _ in walk(tree))


@pytest.mark.parametrize("name", FILES)
def test_it_ends_in_data_or_in_an_error_of_ours(name: str, watch: Watch) -> None:
    start = time.perf_counter()
    watch.events.clear()
    watch.active = True
    try:
        _read(ROOT / name)
    except InputError as error:
        assert str(error)
    finally:
        watch.active = False
    assert watch.events == []
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("name", BOMBS)
def test_it_refuses_bombs_in_little_memory(name: str) -> None:
    data = (ROOT / name).read_bytes()
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError):
            Builder(KNOWN, LegacyStorages({}), len(data)).tree(read_pickle(data))
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()
