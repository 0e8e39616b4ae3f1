"""Orbax: whatever is in the files, opening and reading ends in data or in one of our errors."""

import json
import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portackpt.errors import DamagedError, InputError, RefusedError, UnsupportedError
from portackpt.tree import tensors
from portackpt_jax.orbax import FORMAT
from portackpt_jax.orbax.tree_metadata import EMPTY

pytest.importorskip("zstandard")
STORED = Path(__file__).parents[3] / "tests/data/orbax"
CASES = [
    (name, path.relative_to(STORED / name).as_posix())
    for name in ("ocdbt", "plain", "root/2", "second_api")
    for path in sorted((STORED / name).rglob("*"))
    if path.is_file() and path.stat().st_size and path.name not in ("_sharding",)
]


def consumed(path: Path) -> None:
    """Open, and read every byte."""
    for _, tensor in tensors(FORMAT.open(path).tree):
        for _ in tensor.pieces():
            pass


@pytest.mark.parametrize(("name", "inner"), CASES, ids=["/".join(case) for case in CASES])
def test_no_flip_and_no_cut_ends_in_anything_else(tmp_path: Path, name: str, inner: str) -> None:
    shutil.copytree(STORED / name, tmp_path / "a")
    path = tmp_path / "a" / inner
    whole = path.read_bytes()
    source = random.Random(inner)
    for at in source.sample(range(len(whole)), min(len(whole), 24)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << source.randrange(8)
        path.write_bytes(flipped)
        with suppress(InputError):
            consumed(tmp_path / "a")
        path.write_bytes(whole[:at])
        with suppress(InputError):
            consumed(tmp_path / "a")
    path.unlink()
    with suppress(InputError):
        consumed(tmp_path / "a")


def test_every_flip_in_the_index_of_arrays_is_found(tmp_path: Path) -> None:
    shutil.copytree(STORED / "ocdbt", tmp_path / "a")
    path = tmp_path / "a/manifest.ocdbt"
    whole = path.read_bytes()
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << (at % 8)
        path.write_bytes(flipped)
        with pytest.raises(InputError):
            FORMAT.open(tmp_path / "a")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below),
    max_leaves=6,
)
entries = st.fixed_dictionaries({
    "key_metadata": json_values
    | st.lists(st.fixed_dictionaries({
        "key": st.text(max_size=6) | json_values, "key_type": st.integers(0, 3) | json_values,
    }), max_size=3),
    "value_metadata": json_values
    | st.fixed_dictionaries({
        "value_type": st.sampled_from([*EMPTY, "jax.Array", "np.ndarray", "scalar", "string", "x"])
        | json_values,
        "skip_deserialize": st.booleans() | json_values,
    }),
})  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=4), entries, max_size=3), st.booleans() | json_values)
def test_any_metadata_end_in_a_tree_or_an_error(
    tmp_path_factory: Any, leaves: dict[str, Any], database: Any
) -> None:
    path = tmp_path_factory.mktemp("any")
    document = {"tree_metadata": leaves, "use_ocdbt": database}
    (path / "_METADATA").write_text(json.dumps(document))
    (path / "_strings.json").write_text(json.dumps(leaves))
    with suppress(InputError):
        consumed(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{", "null", '{"item_handlers": 3}', '{"custom_metadata": [1]}',
             "[" * 100_000, '{"item_handlers": {"a": 1}, "commit_timestamp_nsecs": "x"}']
)  # fmt: skip
@pytest.mark.parametrize(
    "name", ["_CHECKPOINT_METADATA", "_strings.json", "array_metadatas/process_0", "_sharding"]
)
def test_any_json_beside_ends_in_a_tree_or_an_error(tmp_path: Path, name: str, text: str) -> None:
    shutil.copytree(STORED / "ocdbt", tmp_path / "a")
    (tmp_path / "a" / name).write_text(text)
    with suppress(InputError):
        consumed(tmp_path / "a")


def array(path: Path, **metadata: Any) -> Path:
    """A checkpoint of one plain array."""
    (path / "a").mkdir(parents=True)
    usual = {"zarr_format": 2, "shape": [4], "chunks": [4], "dtype": "<f4", "compressor": None}
    (path / "a/.zarray").write_text(json.dumps(usual | metadata))
    (path / "a/0").write_bytes(bytes(16))
    entry = {
        "key_metadata": [{"key": "a", "key_type": 2}],
        "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
    }
    (path / "_METADATA").write_text(json.dumps({"tree_metadata": {"a": entry}}))
    return path


@pytest.mark.parametrize(
    ("metadata", "error", "told"),
    [
        ({"shape": [1 << 61]}, RefusedError, "2\\^62 bytes"),
        ({"shape": [1 << 40]}, RefusedError, "bytes of absent chunks"),
        ({"shape": [1 << 40], "chunks": [1 << 40]}, DamagedError, "a chunk takes 4398046511104"),
        ({"shape": [1 << 40], "chunks": [1]}, RefusedError, "bytes of absent chunks"),
        ({"compressor": {"id": "pickle"}}, UnsupportedError, "codec 'pickle'"),
        ({"filters": [{"id": "json2"}]}, UnsupportedError, "filters"),
        ({"dtype": "|O"}, UnsupportedError, "zarr dtype '|O'"),
    ],
)
def test_arrays_that_promise_too_much_are_told(
    tmp_path: Path, metadata: dict[str, Any], error: type[InputError], told: str
) -> None:
    path = array(tmp_path / "x", **metadata)
    with pytest.raises(error, match=told) as caught:
        consumed(path)
    assert "'a'" in str(caught.value)


def test_a_small_stream_of_a_large_chunk_costs_no_memory(tmp_path: Path) -> None:
    """16 GiB of zeros in half a megabyte: only what is asked for is decompressed."""
    import zstandard

    block = zstandard.ZstdCompressor().compress(bytes(1 << 24))
    path = array(tmp_path / "x", shape=[1 << 32], chunks=[1 << 32], compressor={"id": "zstd"})
    (path / "a/0").write_bytes(block * 1024)
    opened = FORMAT.open(path).tree["a"]
    assert opened.nbytes == 1 << 34
    assert bytes(next(opened.pieces(1 << 16))) == bytes(1 << 16)


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "."])
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    path = array(tmp_path / "x")
    document = (path / "_METADATA").read_text().replace('"key": "a"', f'"key": "{name}"')
    (path / "_METADATA").write_text(document)
    with pytest.raises(InputError):
        FORMAT.open(path)
