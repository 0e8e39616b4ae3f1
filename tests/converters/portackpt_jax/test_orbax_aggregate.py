"""The msgpack file of older checkpoints: what Flax and Orbax spell is read, damage is told."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portackpt.errors import DamagedError, InputError, RefusedError, UnsupportedError
from portackpt.tensor import Tensor
from portackpt_jax.orbax import FORMAT
from portackpt_jax.orbax.aggregate import read

msgpack = pytest.importorskip("msgpack")


def extension(code: int, *parts: Any) -> Any:
    return msgpack.ExtType(code, msgpack.packb(parts))


def ndarray(values: np.ndarray[Any, Any], code: int = 1) -> Any:
    return extension(code, values.shape, values.dtype.name, values.tobytes())


def stored(path: Path, value: Any) -> Path:
    path.write_bytes(value if isinstance(value, bytes) else msgpack.packb(value))
    return path


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False) | st.text(max_size=40) | st.binary(max_size=40),
    lambda below: st.lists(below, max_size=20)
    | st.dictionaries(st.text(max_size=4) | st.integers(0, 300), below, max_size=20),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(plain)
def test_it_reads_what_msgpack_wrote(tmp_path_factory: Any, value: Any) -> None:
    path = stored(tmp_path_factory.mktemp("a") / "checkpoint", msgpack.packb(value))
    assert read(path) == value


def test_it_reads_arrays_numbers_and_tuples(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.int16).reshape(2, 3)
    tree = read(stored(tmp_path / "a", {
        "array": ndarray(values), "0-d": ndarray(np.array(1.5)), "none": ndarray(np.zeros((0, 2))),
        "scalar": ndarray(np.array(3, np.int32), 3), "complex": extension(2, 1.0, 2.0),
        "tuple": extension(4, 1, [2]), "half": extension(1, (2,), "bfloat16", b"\x80\x3f\0\0"),
    }))  # fmt: skip
    assert tree["array"].read().tolist() == values.tolist()
    assert tree["0-d"].read() == 1.5
    assert tree["none"].shape == (0, 2)
    assert tree["scalar"].attributes == {"numpy.class": "numpy.scalar"}
    assert tree["complex"] == 1 + 2j
    assert tree["tuple"] == (1, [2])
    assert tree["half"].read().tolist() == [1, 0]


def test_it_joins_arrays_in_chunks(tmp_path: Path) -> None:
    values = np.arange(10, dtype=np.float32)
    parts = {str(i): ndarray(values[i * 4 : i * 4 + 4]) for i in range(3)}
    chunked = {"__msgpack_chunked_array__": True, "shape": {"0": 2, "1": 5}, "chunks": parts}
    tree = read(stored(tmp_path / "a", {"a": chunked}))
    assert tree["a"].read().tolist() == values.reshape(2, 5).tolist()


def test_it_reads_what_flax_wrote(tmp_path: Path) -> None:
    serialization = pytest.importorskip("flax.serialization")
    tree = {"a": np.arange(5), "b": [1, (2.5, "x")], "c": {"d": None, "e": True, "f": 1 + 2j}}
    found = read(stored(tmp_path / "a", serialization.to_bytes(tree)))
    assert isinstance(found["a"], Tensor)
    assert found["a"].read().tolist() == [0, 1, 2, 3, 4]
    assert found["b"] == {"0": 1, "1": {"0": 2.5, "1": "x"}}
    assert found["c"] == {"d": None, "e": True, "f": 1 + 2j}


BAD = {
    "nothing": (b"", DamagedError),
    "an unknown marker": (b"\xc1", DamagedError),
    "bytes after the end": (b"\x80\x80", DamagedError),
    "a map over the end": (b"\xdf\xff\xff\xff\xff", DamagedError),
    "an array over the end": (b"\xdd\xff\xff\xff\xff", DamagedError),
    "text over the end": (b"\xdb\xff\xff\xff\xff", DamagedError),
    "text that is none": (b"\xa1\xff", DamagedError),
    "a key twice": (b"\x82\xa1a\1\xa1a\2", DamagedError),
    "a key that is a list": (b"\x81\x90\1", DamagedError),
    "too deep": (b"\x91" * 1000 + b"\xc0", RefusedError),
    "an unknown extension": (extension(9), UnsupportedError),
    "a complex of one": (extension(2, 1.0), DamagedError),
    "a tuple of none": (msgpack.ExtType(4, b"\1"), DamagedError),
    "an array of two": (extension(1, (1,), "int8"), DamagedError),
    "an array of the wrong size": (extension(1, (3,), "int16", b"12345"), DamagedError),
    "an array of a negative shape": (extension(1, (-1, -2), "int8", b"12"), DamagedError),
    "an array of a huge shape": (extension(1, (1 << 62, 4), "int8", b""), DamagedError),
    "an array of a shape of text": (extension(1, ("a",), "int8", b""), DamagedError),
    "an array of bytes beyond": (msgpack.ExtType(1, b"\x93\x91\1\xa4int8\xc4\x05a"), DamagedError),
    "an array of objects": (extension(1, (1,), "object", b"12345678"), UnsupportedError),
    "chunks of nothing": ({"__msgpack_chunked_array__": True, "shape": {}, "chunks": {}},
                          DamagedError),
    "chunks of text": ({"__msgpack_chunked_array__": True, "shape": {"0": 1},
                        "chunks": {"0": "x"}}, DamagedError),
    "chunks out of order": ({"__msgpack_chunked_array__": True, "shape": {"0": 1},
                             "chunks": {"1": ndarray(np.zeros(1))}}, DamagedError),
    "chunks of a negative shape": ({"__msgpack_chunked_array__": True, "shape": {"0": -1},
                                    "chunks": {"0": ndarray(np.zeros(1))}}, DamagedError),
    "chunks of unequal size": ({"__msgpack_chunked_array__": True, "shape": {"0": 4}, "chunks": {
        "0": ndarray(np.zeros(1)), "1": ndarray(np.zeros(2)), "2": ndarray(np.zeros(1)),
    }}, DamagedError),
    "fewer chunks than the shape": ({"__msgpack_chunked_array__": True, "shape": {"0": 9},
                                     "chunks": {"0": ndarray(np.zeros(1))}}, DamagedError),
}  # fmt: skip


@pytest.mark.parametrize(("value", "error"), BAD.values(), ids=BAD)
def test_what_is_damaged_or_unknown_is_told(
    tmp_path: Path, value: Any, error: type[InputError]
) -> None:
    with pytest.raises(error):
        read(stored(tmp_path / "checkpoint", value))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_end_in_a_tree_or_an_error(tmp_path_factory: Any, data: bytes) -> None:
    with suppress(InputError):
        read(stored(tmp_path_factory.mktemp("a") / "checkpoint", data))


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "a/../../outside", "a//b", "a\0b", ".", "..", "a/./b"]
)
def test_a_placeholder_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/.zarray").write_text(
        '{"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|u1", "compressor": null}'
    )
    (tmp_path / "outside/0").write_bytes(b"x")
    (root / "inside").mkdir()
    for value in (
        f"PLACEHOLDER://{name}",
        {"driver": "zarr", "dtype": "uint8", "kvstore": {"driver": "file", "path": name},
         "metadata": {"shape": [1], "chunks": [1], "compressor": None}},
    ):  # fmt: skip
        stored(root / "checkpoint", {"a": value})
        with pytest.raises(InputError):
            FORMAT.open(root)


def test_a_placeholder_names_an_array_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.y").mkdir()
    (tmp_path / "x.y/.zarray").write_text(
        '{"zarr_format": 2, "shape": [2], "chunks": [2], "dtype": "|u1", "compressor": null}'
    )
    (tmp_path / "x.y/0").write_bytes(b"\1\2")
    stored(tmp_path / "checkpoint", {"a": ["PLACEHOLDER://x.y", "text"], "b": {"0": 1}})
    tree = FORMAT.open(tmp_path).tree
    assert tree["a"][0].read().tolist() == [1, 2]
    assert tree["a"][1] == "text"
    assert tree["b"] == {"0": 1}
