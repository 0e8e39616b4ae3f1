"""Generated trees, tensors and vocabularies for property tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from portackpt.bytesource import InMemory
from portackpt.dtypes import STRING, TABLE, DType
from portackpt.tensor import Strided, Tensor, c_strides, contiguous, from_strings
from portackpt.tree import Object

names = st.one_of(
    st.sampled_from(["", "a", "a/b", "a.b", "~", "~1", "0", "layers.0.weight", "größe", "名前"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12),
)  # fmt: skip
shapes = st.one_of(
    st.just(()),
    st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple),
    st.just((1, 2, 1, 1, 2, 1, 1, 1, 2, 1)),
)
fixed_dtypes = st.sampled_from([dtype for dtype in TABLE if dtype is not STRING])


def legal(dtype: DType, data: bytes) -> bytes:
    """`data` with each element a value that the dtype has (bool is 0 or 1, int4 one nibble)."""
    if dtype.name == "bool":
        return bytes(b & 1 for b in data)
    if dtype.name in ("int4", "uint4", "int2", "uint2", "float4_e2m1fn", "float6_e2m3fn",
                      "float6_e3m2fn"):  # fmt: skip
        values = np.frombuffer(data, "i1").astype(np.float32) % 2
        return values.astype(dtype.to_numpy()).tobytes()
    return data


@st.composite
def tensors(draw: st.DrawFn, dtypes: st.SearchStrategy[DType] = fixed_dtypes) -> Tensor:
    """A C-ordered tensor of any bits."""
    dtype = draw(dtypes)
    shape = draw(shapes)
    count = int(np.prod(shape, dtype=int)) * dtype.itemsize
    data = draw(st.binary(min_size=count, max_size=count))
    return contiguous(dtype, shape, InMemory(legal(dtype, data)))


@st.composite
def strings(draw: st.DrawFn) -> Tensor:
    shape = draw(shapes)
    count = int(np.prod(shape, dtype=int))
    return from_strings(
        draw(st.lists(st.binary(max_size=6), min_size=count, max_size=count)), shape
    )


@st.composite
def tied(draw: st.DrawFn) -> list[Tensor]:
    """Tensors over one storage: the whole, a transposed view, a slice."""
    dtype = draw(fixed_dtypes)
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    count = rows * columns * dtype.itemsize
    source = InMemory(legal(dtype, draw(st.binary(min_size=count, max_size=count))))
    whole = contiguous(dtype, (rows, columns), source)
    step = c_strides((rows, columns), dtype.itemsize)
    turned = Tensor(dtype, (columns, rows), Strided(source, 0, (step[1], step[0])))
    row = Tensor(dtype, (columns,), Strided(source, (rows - 1) * step[0], (step[1],)))
    return draw(st.lists(st.sampled_from([whole, turned, row]), min_size=1, max_size=4))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    names,
    st.binary(max_size=8),
)
keys = st.one_of(names, st.integers(-3, 3), st.tuples(st.integers(0, 2)), st.none(), st.booleans())


def objects(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Object]:
    return st.builds(
        Object,
        type=st.sampled_from(["collections.OrderedDict", "builtins.set", "my.Thing", "torch.Size"]),
        args=st.lists(children, max_size=2).map(tuple),
        items=st.none() | st.lists(children, max_size=2),
        entries=st.none() | st.dictionaries(keys, children, max_size=2),
        state=st.none() | st.dictionaries(names, children, max_size=2) | scalars,
    )


def trees(leaves: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Any]:
    """Trees of everything a checkpoint may hold."""
    return st.recursive(
        leaves if leaves is not None else scalars | tensors() | strings(),
        lambda children: st.one_of(
            st.lists(children, max_size=3),
            st.lists(children, max_size=3).map(tuple),
            st.dictionaries(keys, children, max_size=3),
            objects(children),
        ),
        max_leaves=12,
    )
