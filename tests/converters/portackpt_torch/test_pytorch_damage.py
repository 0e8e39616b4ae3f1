"""Damaged, hostile and odd torch files: where torch itself gives wrong values, we give an error."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portackpt.bytesource import InMemory
from portackpt.checkpoint import Checkpoint
from portackpt.errors import DamagedError, InputError, RefusedError, UnsupportedError
from portackpt.plugins import Probe
from portackpt.tensor import from_array
from portackpt.tree import tensors
from portackpt_torch.legacy import MAGIC
from portackpt_torch.pytorch import FORMAT
from portackpt_torch.reading import read

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def good(tmp_path: Path) -> bytes:
    path = tmp_path / "good.pt"
    tree = {"a": from_array(VALUES), "b": [1, "x"]}
    FORMAT.write(Checkpoint(tree, "npz"), path, overwrite=True, step=None,
                 progress=lambda count: None)  # fmt: skip
    return path.read_bytes()


def values(data: bytes) -> dict[str, Any]:
    """Every tensor of a file, read to the end."""
    tree = read(InMemory(data), "here").tree
    return {path: tensor.read() for path, tensor in tensors(tree)}


def rezipped(
    data: bytes,
    change: Callable[[str, bytes], tuple[str, bytes] | None],
    method: int = zipfile.ZIP_STORED,
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", method) as new:
        for name in old.namelist():
            changed = change(name, old.read(name))
            if changed is not None:
                new.writestr(*changed)
    return buffer.getvalue()


def replaced(data: bytes, end: str, content: bytes | None) -> bytes:
    """The archive with other content in the record whose name ends so; None takes it away."""

    def change(name: str, old: bytes) -> tuple[str, bytes] | None:
        if not name.endswith(end):
            return name, old
        return None if content is None else (name, content)

    return rezipped(data, change)


def test_it_reads_the_good_file(good: bytes) -> None:
    assert np.array_equal(values(good)["a"], VALUES)
    assert np.array_equal(values(rezipped(good, lambda *record: record))["a"], VALUES)
    compressed = rezipped(good, lambda *record: record, zipfile.ZIP_DEFLATED)
    assert np.array_equal(values(compressed)["a"], VALUES)


def test_it_finds_every_flipped_bit_of_a_tensor(good: bytes) -> None:
    start = good.index(VALUES.tobytes())
    for at in range(start, start + VALUES.nbytes):
        for bit in range(8):
            changed = bytearray(good)
            changed[at] ^= 1 << bit
            with pytest.raises(DamagedError, match="checksum does not match"):
                values(bytes(changed))


def test_no_flipped_byte_gives_another_value(good: bytes) -> None:
    for at in range(len(good)):
        changed = bytearray(good)
        changed[at] ^= 0xFF
        with suppress(InputError):
            assert np.array_equal(values(bytes(changed))["a"], VALUES)


def test_it_never_reads_a_file_that_was_cut_short(good: bytes) -> None:
    for end in range(0, len(good), 3):
        with pytest.raises(InputError):
            values(good[:end])
        zeroed = good[:end] + bytes(len(good) - end)
        if zeroed != good:
            with pytest.raises(InputError):
                values(zeroed)


def test_a_flipped_bit_is_found_in_a_part_that_is_read(good: bytes) -> None:
    from portackpt.box import Box

    changed = bytearray(good)
    changed[good.index(VALUES.tobytes())] ^= 1
    tensor = read(InMemory(bytes(changed)), "here").tree["a"]
    with pytest.raises(DamagedError, match="record 'archive/data/0', in here"):
        tensor.read(Box((1, 2), (1, 1)))


def doubled(data: bytes, end: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
            if name.endswith(end):
                new.writestr(name.replace("archive", "archivE"), b"")
    return buffer.getvalue().replace(b"archivE", b"archive")


def moved(data: bytes, prefix: str) -> bytes:
    return rezipped(data, lambda name, old: (name.replace("archive/", prefix, 1), old))


ARCHIVES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a record 4 bytes short": (lambda d: replaced(d, "data/0", bytes(20)), "needs 24 bytes"),
    "a record 4 bytes long": (lambda d: replaced(d, "data/0", bytes(28)), "needs 24 bytes"),
    "two pickles": (lambda d: doubled(d, "data.pkl"), "two records"),
    "two storages of one name": (lambda d: doubled(d, "data/0"), "two records"),
    "a storage that is not there": (lambda d: replaced(d, "data/0", None), "has no record"),
    "no pickle": (lambda d: replaced(d, "data.pkl", None), "without the record"),
    "no version": (lambda d: replaced(d, "version", None), "without the record"),
    "version 0": (lambda d: replaced(d, "/version", b"0\n"), "known are 1 to 10"),
    "version 99": (lambda d: replaced(d, "/version", b"99\n"), "known are 1 to 10"),
    "version x": (lambda d: replaced(d, "/version", b"x"), "known are 1 to 10"),
    "byte order": (lambda d: replaced(d, "byteorder", b"pdp"), "known are little and big"),
    "no folder": (lambda d: moved(d, ""), "stand in one folder"),
    "a folder outside": (lambda d: moved(d, "../../x/"), "stand in one folder"),
    "two folders": (
        lambda d: rezipped(d, lambda n, o: (n.replace("archive", "b") if "data/0" in n else n, o)),
        "stand in one folder",
    ),
    "an empty archive": (lambda d: rezipped(d, lambda *record: None), "found no records"),
    "something behind the pickle": (
        lambda d: rezipped(d, lambda n, o: (n, o + b"x" if n.endswith("data.pkl") else o)),
        "the pickle ends at byte",
    ),
}


@pytest.mark.parametrize(("change", "told"), ARCHIVES.values(), ids=ARCHIVES.keys())
def test_it_says_what_is_wrong_with_an_archive(
    change: Callable[[bytes], bytes], told: str, good: bytes
) -> None:
    with pytest.raises(InputError, match=told) as caught:
        values(change(good))
    assert "here" in caught.value.places


def test_any_folder_name_will_do(good: bytes) -> None:
    assert np.array_equal(values(moved(good, "größe x/"))["a"], VALUES)


PROGRAMS = {
    "archive/constants.pkl": "TorchScript",
    "archive/code/__torch__.py": "TorchScript",
    "archive/.data/extern_modules": "torch.package",
    "archive/archive_format": "torch.export",
}


@pytest.mark.parametrize(("name", "told"), PROGRAMS.items())
def test_it_says_of_a_program_that_it_is_one(
    name: str, told: str, good: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(good)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, b"")
    assert FORMAT.recognize(Probe(path))
    with pytest.raises(UnsupportedError, match=f"{told}.*a program, not a checkpoint"):
        FORMAT.open(path)


def tensor_pickle(pid: bytes, rest: bytes) -> bytes:
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage" + pid + b"tQ" + rest
        + b"\x89ccollections\nOrderedDict\n)RtR."
    )  # fmt: skip


FLOATS = b"ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06"
FITTING = b"K\x00K\x02K\x03\x86K\x03K\x01\x86"


def number(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


TENSORS: dict[str, tuple[bytes, str]] = {
    "past the end": (
        tensor_pickle(FLOATS, b"K\x01K\x02K\x03\x86K\x03K\x01\x86"),
        "reaches byte 28",
    ),
    "strides past the end": (tensor_pickle(FLOATS, b"K\x00K\x02\x85K\x07\x85"), "reaches byte 32"),
    "a negative offset": (
        tensor_pickle(FLOATS, b"J\xff\xff\xff\xffK\x01\x85K\x01\x85"),
        "offset -1",
    ),
    "a negative stride": (
        tensor_pickle(FLOATS, b"K\x03K\x02\x85J\xff\xff\xff\xff\x85"),
        "no shape",
    ),
    "a negative size": (tensor_pickle(FLOATS, b"K\x00J\xff\xff\xff\xff\x85K\x01\x85"), "no shape"),
    "a huge size": (
        tensor_pickle(FLOATS, b"K\x00" + number(1 << 63) + b"\x85K\x00\x85"),
        "no shape",
    ),
    "fewer strides": (
        tensor_pickle(FLOATS, b"K\x00K\x01K\x01\x86K\x01\x85"),
        "has offset 0, shape",
    ),
    "65 dimensions": (
        tensor_pickle(FLOATS, b"K\x00(" + b"K\x01" * 65 + b"t(" + b"K\x01" * 65 + b"t"),
        "no shape",
    ),
    "size is text": (tensor_pickle(FLOATS, b"K\x00X\x01\0\0\0aK\x01\x85"), "no shape"),
    "offset is a flag": (tensor_pickle(FLOATS, b"\x88K\x01\x85K\x01\x85"), "offset True"),
    "repeated a million times": (
        tensor_pickle(FLOATS, b"K\x00" + number(1 << 40) + b"\x85K\x00\x85"),
        "more than 4096 times",
    ),
    "numel that wraps": (
        tensor_pickle(FLOATS[:-2] + number(1 << 62), FITTING),
        "needs 18446744073709551616 bytes",
    ),
    "numel below zero": (
        tensor_pickle(FLOATS[:-2] + b"J\xff\xff\xff\xff", FITTING),
        "no usable location and size",
    ),
    "numel too large": (
        tensor_pickle(FLOATS[:-2] + number(1 << 63), FITTING),
        "no usable location",
    ),
    "numel too small": (tensor_pickle(FLOATS[:-2] + b"K\x05", FITTING), "reaches byte 24"),
    "a key that is a path": (
        tensor_pickle(FLOATS.replace(b"X\x01\0\0\x000", b"X\x07\0\0\x00../../x"), FITTING),
        "no key of a storage: '../../x'",
    ),
    "a storage of no type": (
        tensor_pickle(FLOATS.replace(b"torch\nFloatStorage", b"os\nsystem"), FITTING),
        "os.system is no type of a storage",
    ),
    "no storage": (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00))\x89NtR.",
        "instead of a storage",
    ),
    "an item in a tensor": (
        tensor_pickle(FLOATS, FITTING)[:-1] + b"K\x00K\x01s.",
        "put into it",
    ),
    "state for a tensor": (tensor_pickle(FLOATS, FITTING)[:-1] + b"}b.", "put into it"),
    "too few arguments": (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "takes 6 to 7"),
    "an unknown dtype": (
        tensor_pickle(FLOATS, FITTING)
        .replace(b"_v2", b"_v3")
        .replace(b"OrderedDict\n)R", b"OrderedDict\n)Rcos\nsystem\n"),
        "no dtype of a tensor",
    ),
    "a device that is not there": (
        tensor_pickle(FLOATS.replace(b"\x03\0\0\0cpu", b"\x08\0\0\0cuda:999"), FITTING),
        "",
    ),
}


@pytest.mark.parametrize(("data", "told"), TENSORS.values(), ids=TENSORS.keys())
def test_it_says_what_is_wrong_with_a_tensor(data: bytes, told: str, good: bytes) -> None:
    if not told:
        assert np.array_equal(values(replaced(good, "data.pkl", data))[""], VALUES)
        return
    with pytest.raises(InputError, match=told):
        values(replaced(good, "data.pkl", data))


def test_a_bomb_of_names_is_refused_before_anything_is_made_of_it(good: bytes) -> None:
    bomb = (
        b"\x80\x02" + b"N" + b"".join(b"q%c0h%ch%c\x86" % (n, n, n) for n in range(1, 200)) + b"."
    )
    with pytest.raises(RefusedError, match="leaves"):
        values(replaced(good, "data.pkl", bomb))


# legacy streams


def stream(value: bytes, keys: list[str], storages: list[bytes], protocol: int = 1001) -> bytes:
    head = b"".join(pickle.dumps(part, 2) for part in (MAGIC, protocol, {"little_endian": True}))
    body = b"".join(struct.pack("<q", len(data) // 4) + data for data in storages)
    return head + value + pickle.dumps(keys, 2) + body


FLAT = VALUES.tobytes()
OLD = tensor_pickle(FLOATS + b"N", FITTING)
VIEW = tensor_pickle(FLOATS + b"X\x01\0\0\x001K\x02K\x03\x87", b"K\x01K\x02\x85K\x01\x85")


def test_it_reads_a_legacy_stream() -> None:
    assert np.array_equal(values(stream(OLD, ["0"], [FLAT]))[""], VALUES)


def test_it_reads_a_view_of_a_legacy_storage() -> None:
    assert values(stream(VIEW, ["0"], [FLAT]))[""].tolist() == [3, 4]
    beyond = VIEW.replace(b"K\x01K\x02\x85", b"K\x02K\x02\x85")
    with pytest.raises(DamagedError, match="reaches byte 16"):
        values(stream(beyond, ["0"], [FLAT]))


STREAMS: dict[str, tuple[bytes, str]] = {
    "cut short": (stream(OLD, ["0"], [FLAT])[:-1], "cut short"),
    "longer": (stream(OLD, ["0"], [FLAT]) + b"x", "follow the end"),
    "another size": (stream(OLD, ["0"], [FLAT + bytes(4)]), "should have 24 bytes"),
    "an unknown key": (stream(OLD, ["0", "1"], [FLAT, FLAT]), "belongs to no tensor"),
    "a key twice": (stream(OLD, ["0", "0"], [FLAT, FLAT]), "stands twice"),
    "a storage missing": (stream(OLD, [], []), "not among those"),
    "another protocol": (stream(OLD, ["0"], [FLAT], 1002), "known is 1001"),
    "keys that are no text": (
        stream(OLD, [0], [FLAT]),
        "no list of text",  # type: ignore[list-item]
    ),
    "a size of 2^62": (
        stream(OLD, ["0"], [])[:] + struct.pack("<q", 1 << 62),
        "cut short",
    ),
    "a size below zero": (stream(OLD, ["0"], []) + struct.pack("<q", -1), "cut short"),
}


@pytest.mark.parametrize(("data", "told"), STREAMS.values(), ids=STREAMS.keys())
def test_it_says_what_is_wrong_with_a_stream(data: bytes, told: str) -> None:
    with pytest.raises(InputError, match=told):
        values(data)


def test_it_names_a_tar_file_of_old(tmp_path: Path) -> None:
    import tarfile

    path = tmp_path / "a.pt"
    with tarfile.open(path, "w") as file:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            file.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert FORMAT.recognize(Probe(path))
    with pytest.raises(UnsupportedError, match=r"tar file of torch 0\.1"):
        FORMAT.open(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x05\x06" + bytes(18),
        b"\x80",
        b"\x80\x01.",
        b"\x89HDF\r\n\x1a\n",
        b"{}",
        bytes(600),
    ],
)
def test_it_recognizes_nothing_else(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    assert not FORMAT.recognize(Probe(tmp_path / "a"))
    assert not FORMAT.recognize(Probe(tmp_path))
    with pytest.raises(InputError):
        FORMAT.open(tmp_path / "a")


def test_it_recognizes_an_archive_that_was_cut_short(good: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(good[: len(good) // 2])
    assert FORMAT.recognize(Probe(tmp_path / "a"))
    with pytest.raises(DamagedError, match="cut short or damaged"):
        FORMAT.open(tmp_path / "a")
    with pytest.raises(InputError, match="not a file"):
        FORMAT.open(tmp_path / "missing")
