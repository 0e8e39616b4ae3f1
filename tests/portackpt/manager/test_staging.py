"""Snapshots keep values, ties and shared storage, and use their memory again."""

from typing import Any

import numpy as np

from portackpt.box import Box
from portackpt.bytesource import InMemory
from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import BY_NAME
from portackpt.manager.staging import Staging
from portackpt.tensor import Strided, Tensor, Tiled, contiguous, from_array, from_strings
from portackpt.tree import Object

FLOAT32 = BY_NAME["float32"]


def live(array: Any, cls: type[InMemory] = InMemory) -> Tensor:
    source = cls(memoryview(array).cast("B"))
    return contiguous(FLOAT32, array.shape, source)


def test_it_copies_values() -> None:
    array = np.arange(6, dtype="f4").reshape(2, 3)
    tree = {"w": live(array), 3: [1, ("x", b"y")], "s": from_strings([b"a", b"bc"], (2,))}
    copy = Staging().snapshot(Checkpoint(tree, "portackpt", step=4)).tree
    array[:] = -1
    assert copy["w"].read().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert copy["s"].read().tolist() == [b"a", b"bc"]
    assert copy[3] == [1, ("x", b"y")]


def test_it_copies_containers() -> None:
    inner = {"n": 1}
    tree = Object("a.B", (inner,), [inner], {"k": inner}, {"s": inner})
    copy = Staging().snapshot(Checkpoint(tree, "portackpt")).tree
    inner["n"] = 2
    assert (copy.args, copy.items, copy.entries, copy.state) == (
        ({"n": 1},), [{"n": 1}], {"k": {"n": 1}}, {"s": {"n": 1}},
    )  # fmt: skip


def test_it_keeps_ties_views_and_attributes() -> None:
    array = np.arange(6, dtype="f4")
    whole = live(array)
    assert isinstance(whole.layout, Strided)
    view = Tensor(FLOAT32, (2,), Strided(whole.layout.source, 4, (12,)), {"grad": whole})
    copy = Staging().snapshot(Checkpoint({"a": whole, "b": whole, "v": view}, "portackpt")).tree
    array[:] = 9
    assert copy["a"] is copy["b"] is copy["v"].attributes["grad"]
    assert copy["v"].layout.source is copy["a"].layout.source
    assert copy["v"].read().tolist() == [1, 4]


def test_it_copies_layouts_that_are_not_strided() -> None:
    left, right = np.ones((2, 1), "f4"), np.zeros((2, 2), "f4")
    tiles = Tiled(((Box((0, 0), (2, 1)), live(left)), (Box((0, 1), (2, 2)), live(right))))
    tensor = Tensor(FLOAT32, (2, 3), tiles)
    copy = Staging().snapshot(Checkpoint([tensor, tensor], "portackpt")).tree
    left[:] = right[:] = 5
    assert copy[0] is copy[1]
    assert copy[0].read().tolist() == [[1, 0, 0], [1, 0, 0]]


def test_it_does_not_copy_what_is_frozen() -> None:
    class Frozen(InMemory):
        frozen = True

    tensor = live(np.ones(3, "f4"), Frozen)
    staging = Staging()
    copy = staging.snapshot(Checkpoint([tensor], "portackpt")).tree
    assert copy[0].layout.source is tensor.layout.source  # type: ignore[union-attr]
    assert staging.nbytes == 0


def test_it_uses_its_memory_again() -> None:
    staging = Staging()
    staging.snapshot(Checkpoint([from_array(np.ones(1000))], "portackpt"))
    assert staging.nbytes == 2 << 20
    memory = staging._memory
    for size in (0, 10, 2000):
        copy = staging.snapshot(Checkpoint([from_array(np.full(size, 2.0))], "portackpt")).tree
        assert (copy[0].read() == 2).all()
        assert staging._memory is memory
    staging.snapshot(Checkpoint([from_array(np.ones(300_000))], "portackpt"))
    assert staging.nbytes == 4 << 20
