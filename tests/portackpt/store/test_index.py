"""The index: names, owners and views."""

from __future__ import annotations

import pytest

from portackpt.bytesource import InMemory
from portackpt.dtypes import BY_NAME
from portackpt.errors import DamagedError
from portackpt.store.index import Index, Stored, View, index, named_tensors, safe_name
from portackpt.tensor import Strided, Tensor, Tiled, contiguous, from_strings
from portackpt.tree import Object

F32 = BY_NAME["float32"]
U8 = BY_NAME["uint8"]
SOURCE = InMemory(bytes(24))
WHOLE = contiguous(F32, (2, 3), SOURCE)
TURNED = Tensor(F32, (3, 2), Strided(SOURCE, 0, (4, 12)))
ROW = contiguous(F32, (3,), SOURCE, 12)
BYTES = contiguous(U8, (24,), SOURCE)


def made(*tensors: Tensor) -> Index:
    return index([(str(number), tensor) for number, tensor in enumerate(tensors)])


def test_it_makes_the_tensor_that_is_the_whole_storage_its_owner() -> None:
    assert made(ROW, WHOLE, TURNED, BYTES).entries == (
        View("0", F32, (3,), 1, 12, (4,)),
        Stored("1", WHOLE),
        View("2", F32, (3, 2), 1, 0, (4, 12)),
        View("3", U8, (24,), 1, 0, (1,)),
    )


def test_it_adds_the_storage_that_no_tensor_owns() -> None:
    first, second, storage = made(TURNED, ROW).entries
    assert first == View("0", F32, (3, 2), 2, 0, (4, 12))
    assert second == View("1", F32, (3,), 2, 12, (4,))
    assert isinstance(storage, Stored)
    assert (storage.name, storage.tensor.dtype, storage.tensor.shape) == ("~storage/0", F32, (6,))


def test_it_keeps_a_storage_of_mixed_views_as_bytes() -> None:
    half = contiguous(BY_NAME["float16"], (3,), SOURCE, 2)
    storage = made(TURNED, half).entries[2]
    assert isinstance(storage, Stored)
    assert (storage.tensor.dtype, storage.tensor.shape) == (U8, (24,))


def test_it_keeps_strings_and_views_of_their_bytes_together() -> None:
    strings = from_strings([b"a", b"bc"], (2,))
    assert isinstance(strings.layout, Strided)
    raw = contiguous(U8, (strings.nbytes,), strings.layout.source)
    again = Tensor(strings.dtype, (2,), strings.layout)
    assert made(strings, raw, again).entries == (
        Stored("0", strings),
        View("1", U8, (27,), 0, 0, (1,)),
        View("2", strings.dtype, (2,), 0, 0, ()),
    )


def test_it_sees_two_tensors_with_one_layout_as_one_storage() -> None:
    tiled = Tiled(())
    assert made(Tensor(F32, (2, 3), tiled), Tensor(F32, (2, 3), tiled)).entries[1] == View(
        "1", F32, (2, 3), 0, 0, (12, 4)
    )


def test_it_refuses_a_view_that_leaves_its_storage() -> None:
    with pytest.raises(DamagedError, match="needs bytes 0 to 28, found a storage of 24 bytes"):
        made(Tensor(F32, (2, 3), Strided(SOURCE, 0, (12, 6))))


def test_it_names_tensors_by_the_path_where_they_stand_first() -> None:
    inner = contiguous(U8, (1,), InMemory(b"x"))
    outer = contiguous(U8, (1,), InMemory(b"y"), attributes={"state": {"grad": inner}})
    tree = {"a/b": WHOLE, "c": [WHOLE, outer], "d": Object("x", state={"e": ROW})}
    assert [name for name, _ in named_tensors(("", tree), ("~details", {"f": TURNED}))] == [
        "a~1b",
        "c/1",
        "c/1/~@state/grad",
        "d/~.e",
        "~details/f",
    ]


def test_it_gives_distinct_names_to_equal_paths() -> None:
    trees = ("", {"k": WHOLE}), ("", {"k": ROW}), ("", {"k": TURNED}), ("", {"k": WHOLE})
    assert [name for name, _ in named_tensors(*trees)] == ["k", "k~#2", "k~#3"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("", "~"),
        ("__metadata__", "~__metadata__"),
        ("a\x00b\n", "a~u0000b~u000a"),
        ("\ud800", "~ud800"),
        ("größe 名前", "größe 名前"),
        ("../../etc/passwd", "../../etc/passwd"),
    ],
)
def test_it_spells_a_path_as_a_safetensors_key(path: str, name: str) -> None:
    assert safe_name(path) == name


def test_it_shortens_long_names_and_keeps_them_apart() -> None:
    first, second = safe_name("x" * 5000), safe_name("x" * 5001)
    assert len(first) == len(second) == 500
    assert first != second
