"""Zarr: every dtype, order, codec and division that TensorStore writes is read; nothing else is."""

import json
import zlib
from contextlib import suppress
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portackpt.box import Box
from portackpt.bytesource import ByteSource, InMemory
from portackpt.dtypes import TABLE
from portackpt.errors import DamagedError, InputError, RefusedError, UnsupportedError
from portackpt.tensor import Tensor
from portackpt_jax.orbax.directory import Directory
from portackpt_jax.zarr import ahead, chunks, grid, sources
from portackpt_jax.zarr.ahead import Ahead
from portackpt_jax.zarr.inflate import Inflated
from portackpt_jax.zarr.metadata import parse, spell_version_2

DTYPES = [dtype for dtype in TABLE if dtype.zarr]


class Memory(dict[str, bytes]):
    """A store in memory."""

    def source(self, key: str) -> ByteSource | None:
        value = self.get(key)
        return None if value is None else InMemory(value)

    def below(self, prefix: str) -> list[str]:
        return [key[len(prefix) :] for key in sorted(self) if key.startswith(prefix)]


def version_2(**changes: Any) -> dict[str, Any]:
    usual = {"zarr_format": 2, "shape": [4, 6], "chunks": [2, 3], "dtype": "<i4", "order": "C",
             "fill_value": None, "compressor": None, "filters": None}  # fmt: skip
    return usual | changes


def version_3(**changes: Any) -> dict[str, Any]:
    usual = {
        "zarr_format": 3, "node_type": "array", "shape": [4, 6], "data_type": "int32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 3]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    }  # fmt: skip
    return usual | changes


def encoded(metadata: dict[str, Any]) -> bytes:
    return json.dumps(metadata).encode()


def opened(
    metadata: dict[str, Any], store: chunks.Store, *, may_lack: bool = False, prefix: str = ""
) -> Tensor:
    array = parse(encoded(metadata), metadata["zarr_format"])
    return chunks.tensor(
        array, store, prefix, {}, may_lack=may_lack, ahead=Ahead(), where="here"
    )[0]  # fmt: skip


def check(tensor: Tensor, values: np.ndarray[Any, Any]) -> None:
    """The tensor has these values: at once, in pieces, and box by box in any order."""
    assert tensor.shape == values.shape
    assert tensor.read().tobytes() == values.tobytes()
    assert b"".join(bytes(piece) for piece in tensor.pieces(64)) == values.tobytes()
    assert b"".join(bytes(piece) for piece in tensor.pieces()) == values.tobytes()
    for box in boxes(values.shape):
        assert tensor.read(box).tobytes() == values[box.slices()].tobytes()


def boxes(shape: tuple[int, ...]) -> list[Box]:
    corners = [sorted({0, n // 3, n // 2}) for n in shape]
    return [
        Box(start, tuple([max(1, (n - a) // 2) for n, a in zip(shape, start, strict=True)]))
        for start in list(product(*corners))[::-1]
        if prod(shape)
    ]


def stored(path: Path, driver: str, metadata: dict[str, Any], values: np.ndarray[Any, Any]) -> Any:
    """Let TensorStore write an array; its metadata."""
    ts = pytest.importorskip("tensorstore")
    store = ts.open(
        {"driver": driver, "kvstore": f"file://{path}/", "metadata": metadata,
         "store_data_equal_to_fill_value": True},
        create=True, dtype=values.dtype, shape=values.shape,
    ).result()  # fmt: skip
    store.write(values).result()
    name = ".zarray" if driver == "zarr" else "zarr.json"
    return json.loads((path / name).read_bytes())


def numbered(shape: tuple[int, ...], dtype: Any = "<i4") -> np.ndarray[Any, Any]:
    return np.arange(prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("driver", ["zarr", "zarr3"])
def test_every_dtype_is_read(tmp_path: Path, driver: str, dtype: Any) -> None:
    values = (numbered((3, 5), "f4") % 2).astype(dtype.to_numpy())
    plain: dict[str, Any] = {"compressor": None} if driver == "zarr" else {}
    metadata = stored(tmp_path, driver, plain, values)
    array = parse(encoded(metadata), 2 if driver == "zarr" else 3)
    assert array.dtype is dtype
    if driver == "zarr":
        assert json.loads(spell_version_2(dtype, (3, 5), (3, 5)))["dtype"] == metadata["dtype"]
    check(opened(metadata, Directory(tmp_path)), values)


VERSION_2: dict[str, dict[str, Any]] = {
    "one chunk": {"chunks": [4, 6]},
    "a chunk larger than the array": {"chunks": [7, 9]},
    "chunks in order": {"chunks": [2, 6]},
    "the last chunk sticks out": {"chunks": [3, 6]},
    "a grid": {"chunks": [2, 3]},
    "a grid that sticks out": {"chunks": [3, 4]},
    "a chunk an element": {"chunks": [1, 1]},
    "rows in parts": {"chunks": [1, 3]},
    "rows in parts that stick out": {"chunks": [1, 4]},
    "Fortran order": {"chunks": [4, 6], "order": "F"},
    "Fortran order in a grid": {"chunks": [3, 4], "order": "F"},
    "slashes": {"chunks": [2, 3], "dimension_separator": "/"},
}
COMPRESSORS: list[Any] = [None, {"id": "zstd", "level": 1}, {"id": "gzip", "level": 1},
                          {"id": "zlib", "level": 1}]  # fmt: skip


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=lambda c: c and c["id"])
@pytest.mark.parametrize("metadata", VERSION_2.values(), ids=VERSION_2)
def test_it_reads_version_2(tmp_path: Path, metadata: dict[str, Any], compressor: Any) -> None:
    values = numbered((4, 6))
    found = stored(tmp_path, "zarr", {**metadata, "compressor": compressor}, values)
    check(opened(found, Directory(tmp_path)), values)


def codecs(*names: str, endian: str = "little") -> list[dict[str, Any]]:
    """Codecs of version 3; transpose reverses two axes."""
    known: dict[str, dict[str, Any]] = {
        "bytes": {"endian": endian}, "zstd": {"level": 1}, "gzip": {"level": 1}, "crc32c": {},
        "transpose": {"order": [1, 0]},
    }  # fmt: skip
    return [{"name": name, "configuration": known[name]} for name in names]


def sharded(chunk: list[int], *names: str, location: str = "end") -> list[dict[str, Any]]:
    return [{"name": "sharding_indexed", "configuration": {
        "chunk_shape": chunk, "codecs": codecs(*names), "index_location": location,
        "index_codecs": codecs("bytes", "crc32c"),
    }}]  # fmt: skip


CODECS = {
    "plain": codecs("bytes"),
    "big-endian": codecs("bytes", endian="big"),
    "zstd": codecs("bytes", "zstd"),
    "gzip": codecs("bytes", "gzip"),
    "crc32c": codecs("bytes", "crc32c"),
    "zstd and crc32c": codecs("bytes", "zstd", "crc32c"),
    "crc32c within zstd": codecs("bytes", "crc32c", "zstd"),
    "transposed": codecs("transpose", "bytes"),
    "transposed, zstd": codecs("transpose", "bytes", "zstd"),
    "one inner chunk": sharded([2, 4], "bytes", "zstd"),
    "inner chunks": sharded([1, 2], "bytes", "zstd"),
    "inner chunks, index first": sharded([2, 2], "bytes", "zstd", "crc32c", location="start"),
    "inner chunks, transposed": sharded([2, 2], "transpose", "bytes"),
}


@pytest.mark.parametrize("shape", [(4, 8), (5, 7), (2, 4)])
@pytest.mark.parametrize("chain", CODECS.values(), ids=CODECS)
def test_it_reads_version_3(tmp_path: Path, chain: Any, shape: tuple[int, int]) -> None:
    values = numbered(shape)
    grid = {"name": "regular", "configuration": {"chunk_shape": [2, 4]}}
    found = stored(tmp_path, "zarr3", {"chunk_grid": grid, "codecs": chain}, values)
    check(opened(found, Directory(tmp_path)), values)


@pytest.mark.parametrize("driver", ["zarr", "zarr3"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (1, 2, 1, 1, 2, 1, 1, 1, 2, 1)], ids=str)
def test_every_rank_is_read(tmp_path: Path, driver: str, shape: tuple[int, ...]) -> None:
    metadata = {"compressor": None} if driver == "zarr" else {}
    values = numbered(shape)
    check(opened(stored(tmp_path, driver, metadata, values), Directory(tmp_path)), values)


@pytest.mark.parametrize("dtype", [">i2", ">f8", ">c8", ">c16"])
def test_big_endian_elements_are_read(dtype: str) -> None:
    values = (numbered((2, 3), "f8") * (1 - 2j if "c" in dtype else 1)).astype(dtype)
    metadata = version_2(shape=[2, 3], chunks=[2, 3], dtype=dtype)
    found = opened(metadata, Memory({"0.0": values.tobytes()}))
    check(found, values.astype(values.dtype.newbyteorder("<")))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_division_gives_the_array(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), max_size=4)))
    chunk = tuple([data.draw(st.integers(1, 6)) for _ in shape])
    separator = data.draw(st.sampled_from("./"))
    values = numbered(shape)
    metadata = version_2(shape=shape, chunks=chunk, dimension_separator=separator)
    array = parse(encoded(metadata), 2)
    store = Memory()
    for index in product(*map(range, array.grid)):
        padded = np.zeros(chunk, "<i4")
        box = Box(tuple([i * n for i, n in zip(index, chunk, strict=True)]), chunk)
        part = values[box.slices()]
        padded[tuple([slice(0, n) for n in part.shape])] = part
        store["a/" + array.key(index)] = padded.tobytes()
    check(opened(metadata, store, prefix="a/"), values)


@pytest.mark.parametrize("chunk", [[8, 1], [3, 2], [1, 3]])
def test_more_chunks_side_by_side_than_fit_go_through_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: list[int]
) -> None:
    monkeypatch.setattr(grid, "LARGEST_KEPT", 40)
    values = numbered((8, 9))
    metadata = {"chunks": chunk, "compressor": {"id": "zstd"}}
    found = opened(stored(tmp_path, "zarr", metadata, values), Directory(tmp_path))
    check(found, values)
    columns = [found.read(Box((0, column), (8, 1))) for column in range(9)]
    assert np.hstack(columns).tolist() == values.tolist()


def test_more_chunks_than_are_looked_up_one_by_one_are_found() -> None:
    metadata = version_2(shape=[20, 10], chunks=[1, 1])
    values = numbered((20, 10))
    store = Memory({f"{i}.{j}": values[i, j].tobytes() for i in range(20) for j in range(10)})
    store.update({".zarray": b"", "20.0": b"", "0.0.0": b"", "x": b"", "00.1": b"", "-1.0": b""})
    check(opened(metadata, store), values)


FILLS = [("<i4", None, 0), ("<i4", 7, 7), ("<f4", "NaN", np.nan), ("<f8", "-Infinity", -np.inf),
         ("<f4", 0.5, 0.5), ("<c8", [1, 2.5], 1 + 2.5j), ("|b1", True, True),
         ("bfloat16", 2, 2)]  # fmt: skip


@pytest.mark.parametrize(("dtype", "fill", "value"), FILLS)
def test_an_absent_chunk_is_the_fill_value_where_that_is_allowed(
    dtype: str, fill: Any, value: Any
) -> None:
    metadata = version_2(dtype=dtype, fill_value=fill)
    kind = parse(encoded(metadata), 2).dtype.to_numpy()
    values = np.full((4, 6), value).astype(kind)
    check(opened(metadata, Memory(), may_lack=True), values)
    values[:2, 3:] = np.ones((2, 3), kind)
    check(opened(metadata, Memory({"0.1": values[:2, 3:].tobytes()}), may_lack=True), values)
    with pytest.raises(DamagedError, match="4 of 4 chunks are missing"):
        opened(metadata, Memory())


def test_an_absent_inner_chunk_is_the_fill_value(tmp_path: Path) -> None:
    grid = {"name": "regular", "configuration": {"chunk_shape": [4, 8]}}
    values = np.zeros((4, 8), "<i4")
    values[0, 0] = 1
    found = stored(
        tmp_path, "zarr3", {"chunk_grid": grid, "codecs": sharded([2, 4], "bytes")}, values
    )
    check(opened(found, Directory(tmp_path)), values)


def test_a_grid_larger_than_the_store_is_not_walked() -> None:
    metadata = version_2(shape=[1 << 28, 1 << 28], chunks=[1, 1])
    with pytest.raises(DamagedError, match="chunks are missing"):
        opened(metadata, Memory({"0.0": bytes(4)}))
    with pytest.raises(RefusedError, match="bytes of absent chunks"):
        opened(metadata, Memory({"0.0": bytes(4)}), may_lack=True)


BAD = {
    "no JSON": (b"{", DamagedError),
    "not UTF-8": (b'{"zarr_format": 2, "shape": "\xff"}', DamagedError),
    "too deep": (b'{"zarr_format": ' + b"[" * 100_000, DamagedError),
    "another version": (encoded(version_2(zarr_format=1)), DamagedError),
    "a list": (b"[2]", DamagedError),
    "a shape of text": (encoded(version_2(shape="ab")), DamagedError),
    "a shape of floats": (encoded(version_2(shape=[1.5, 2])), DamagedError),
    "a negative shape": (encoded(version_2(shape=[-1, 2])), RefusedError),
    "a shape beyond 64 bits": (encoded(version_2(shape=[1 << 63, 2])), RefusedError),
    "a shape whose product is": (encoded(version_2(shape=[1 << 40, 1 << 40])), RefusedError),
    "chunks beyond memory": (encoded(version_2(chunks=[1 << 40, 1 << 40])), RefusedError),
    "chunks of nothing": (encoded(version_2(chunks=[0, 2])), RefusedError),
    "chunks of another rank": (encoded(version_2(chunks=[2])), DamagedError),
    "too many dimensions": (encoded(version_2(shape=[1] * 65, chunks=[1] * 65)), RefusedError),
    "objects": (encoded(version_2(dtype="|O")), UnsupportedError),
    "strings": (encoded(version_2(dtype="|S8")), UnsupportedError),
    "records": (encoded(version_2(dtype=[["a", "<i4"]])), UnsupportedError),
    "a dtype that is none": (encoded(version_2(dtype="<f3")), UnsupportedError),
    "a boolean of two bytes": (encoded(version_2(dtype="|b2")), UnsupportedError),
    "filters": (encoded(version_2(filters=[{"id": "pickle"}])), UnsupportedError),
    "pickles": (encoded(version_2(compressor={"id": "pickle"})), UnsupportedError),
    "blosc": (encoded(version_2(compressor={"id": "blosc"})), UnsupportedError),
    "a compressor named by a list": (encoded(version_2(compressor={"id": []})), UnsupportedError),
    "a compressor that is a name": (encoded(version_2(compressor="zstd")), UnsupportedError),
    "an unknown order": (encoded(version_2(order="K")), DamagedError),
    "an unknown separator": (encoded(version_2(dimension_separator="..")), DamagedError),
    "a fill value of text": (encoded(version_2(fill_value="x")), DamagedError),
    "a fill value of lists": (encoded(version_2(fill_value=[[1]])), DamagedError),
}
BAD_3: dict[str, tuple[dict[str, Any], type[InputError]]] = {
    "no array": ({"node_type": "group"}, UnsupportedError),
    "another grid": ({"chunk_grid": {"name": "rectilinear"}}, UnsupportedError),
    "no chunk shape": ({"chunk_grid": {"name": "regular"}}, DamagedError),
    "strings": ({"data_type": "string"}, UnsupportedError),
    "transformers": ({"storage_transformers": [{}]}, UnsupportedError),
    "another key encoding": ({"chunk_key_encoding": {"name": "x"}}, UnsupportedError),
    "no codecs": ({"codecs": []}, DamagedError),
    "codecs of text": ({"codecs": "bytes"}, DamagedError),
    "a codec without a name": ({"codecs": [{}]}, DamagedError),
    "a codec configured by text": (
        {"codecs": [{"name": "bytes", "configuration": "x"}]}, DamagedError,
    ),
    "an unknown codec": (
        {"codecs": [*codecs("bytes"), {"name": "numcodecs.pickle"}]}, UnsupportedError,
    ),
    "two compressors": ({"codecs": codecs("bytes", "zstd", "gzip")}, UnsupportedError),
    "a compressor first": ({"codecs": codecs("zstd", "bytes")}, UnsupportedError),
    "an order of other axes": (
        {"codecs": [{"name": "transpose", "configuration": {"order": [0, 0]}}, *codecs("bytes")]},
        DamagedError,
    ),
    "inner chunks that do not divide": ({"codecs": sharded([2, 2], "bytes")}, DamagedError),
    "an inner chunk of another rank": ({"codecs": sharded([2], "bytes")}, DamagedError),
    "shards in shards": (
        {"codecs": [{"name": "sharding_indexed", "configuration": {
            "chunk_shape": [1, 3], "codecs": sharded([1, 1], "bytes"),
            "index_codecs": codecs("bytes"),
        }}]},
        UnsupportedError,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "error"), BAD.values(), ids=BAD)
def test_bad_metadata_of_version_2_is_told(data: bytes, error: type[InputError]) -> None:
    with pytest.raises(error):
        parse(data, 2)


@pytest.mark.parametrize(("changes", "error"), BAD_3.values(), ids=BAD_3)
def test_bad_metadata_of_version_3_is_told(
    changes: dict[str, Any], error: type[InputError]
) -> None:
    with pytest.raises(error):
        parse(encoded(version_3(**changes)), 3)


def test_an_unknown_codec_is_named_with_what_to_do() -> None:
    with pytest.raises(UnsupportedError) as caught:
        parse(encoded(version_2(compressor={"id": "blosc"})), 2)
    assert caught.value.message == (
        "codec 'blosc' is not read here; known are zstd, gzip, zlib, crc32c, transpose and "
        "sharding_indexed. Restore the checkpoint with Orbax and save it again without that codec"
    )


@settings(max_examples=60, deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda below: st.lists(below, max_size=3)
    | st.dictionaries(
        st.sampled_from(["name", "id", "configuration", "chunk_shape", "codecs"]), below
    ),
), st.sampled_from([*version_2(), *version_3()]), st.sampled_from([2, 3]))  # fmt: skip
def test_metadata_of_any_value_ends_in_an_array_or_an_error(
    value: Any, key: str, version: int
) -> None:
    usual = version_2() if version == 2 else version_3()
    with suppress(InputError):
        parse(json.dumps(usual | {key: value}).encode(), version)


def zstd(data: bytes, **how: Any) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    found: bytes = zstandard.ZstdCompressor(**how).compress(data)
    return found


def deflated(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=31)
    return made.compress(data) + made.flush()


COMPRESSED = {
    "zstd": zstd,
    "gzip": deflated,
    "zlib": zlib.compress,
}


@pytest.mark.parametrize("method", COMPRESSED)
def test_a_stream_must_come_to_its_size(method: str) -> None:
    data = bytes(range(256)) * 40
    whole = COMPRESSED[method](data)

    def inflate(encoded: bytes, nbytes: int) -> bytes:
        out = bytearray(nbytes)
        Inflated(InMemory(encoded), method, nbytes, "here").readinto(0, memoryview(out))
        return bytes(out)

    assert inflate(whole, len(data)) == data
    for nbytes in (len(data) - 1, len(data) + 1, 1):
        with pytest.raises(DamagedError, match="decompresses to"):
            inflate(whole, nbytes)
    for size in range(0, len(whole), 7):
        with pytest.raises(DamagedError):
            inflate(whole[:size], len(data))
    for at in range(0, len(whole), 3):  # a flip is found or changes values, and nothing else
        flipped = bytearray(whole)
        flipped[at] ^= 16
        with suppress(DamagedError):
            inflate(bytes(flipped), len(data))


def test_a_gzip_stream_may_have_several_members() -> None:
    inflated = Inflated(InMemory(deflated(b"abc") + deflated(b"defg")), "gzip", 7, "here")
    out = bytearray(7)
    inflated.readinto(0, memoryview(out))
    assert bytes(out) == b"abcdefg"


def test_a_frame_that_checks_itself_is_checked() -> None:
    data = zstd(bytes(range(256)) * 40, write_checksum=True)
    flipped = data[:-1] + bytes((data[-1] ^ 1,))
    with pytest.raises(DamagedError, match="does not decompress"):
        Inflated(InMemory(flipped), "zstd", 256 * 40, "here").readinto(
            0, memoryview(bytearray(256 * 40))
        )


def test_a_frame_that_promises_a_window_beyond_the_limit_is_told() -> None:
    zstandard = pytest.importorskip("zstandard")
    wide = zstandard.ZstdCompressionParameters(window_log=28)
    compressor = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    data = compressor.compress(bytes(1000)) + compressor.flush()
    with pytest.raises(DamagedError):
        Inflated(InMemory(data), "zstd", 1000, "here").readinto(0, memoryview(bytearray(1000)))


def test_a_flip_in_a_checked_chunk_is_found() -> None:
    data = numbered((2, 3)).tobytes()
    metadata = version_3(shape=[2, 3], codecs=codecs("bytes", "crc32c"))
    from google_crc32c import value

    whole = data + value(data).to_bytes(4, "little")
    check(opened(metadata, Memory({"c/0/0": whole})), numbered((2, 3)))
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1
        with pytest.raises(DamagedError, match="checksum does not match"):
            opened(metadata, Memory({"c/0/0": bytes(flipped)})).read()
    for size in range(len(whole)):
        with pytest.raises(DamagedError):
            opened(metadata, Memory({"c/0/0": whole[:size]})).read()


def test_a_flip_in_a_shard_index_is_found() -> None:
    from google_crc32c import value

    data = numbered((2, 3)).tobytes()
    index = np.array([[0, 12], [12, 12]], "<u8").tobytes()
    tail = index + value(index).to_bytes(4, "little")
    metadata = version_3(shape=[2, 3], codecs=sharded([1, 3], "bytes"))
    check(opened(metadata, Memory({"c/0/0": data + tail})), numbered((2, 3)))
    for at in range(len(tail)):
        flipped = bytearray(data + tail)
        flipped[len(data) + at] ^= 4
        with pytest.raises(DamagedError, match="checksum of a shard index"):
            opened(metadata, Memory({"c/0/0": bytes(flipped)})).read()


@pytest.mark.parametrize("place", [(20, 12), (1 << 63, 12), ((1 << 64) - 2, 4), (0, 11), (0, 13)])
def test_an_inner_chunk_outside_its_shard_is_told(place: tuple[int, int]) -> None:
    from google_crc32c import value

    index = np.array([[0, 12], place], "<u8").tobytes()
    shard = numbered((2, 3)).tobytes() + index + value(index).to_bytes(4, "little")
    metadata = version_3(shape=[2, 3], codecs=sharded([1, 3], "bytes"))
    with pytest.raises(DamagedError):
        opened(metadata, Memory({"c/0/0": shard})).read()


@pytest.mark.parametrize("size", [0, 11, 25])
def test_a_chunk_of_another_size_is_told(size: int) -> None:
    with pytest.raises(DamagedError, match=f"a chunk takes 24 bytes, found {size}"):
        opened(version_2(shape=[2, 3]), Memory({"0.0": bytes(size)})).read()


def test_large_chunks_are_decompressed_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values, order and errors are those of reading without it, however it is read."""
    monkeypatch.setattr(ahead, "SMALLEST", 1)
    monkeypatch.setattr(ahead, "HEAD", 1500)
    datas = [bytes((number,)) * size for number, size in enumerate([3000, 1000, 2000, 1500, 4000])]
    together = Ahead()
    found = [
        together.add(Inflated(InMemory(zstd(data)), "zstd", len(data), "here")) for data in datas
    ]

    def whole(number: int, step: int) -> bytes:
        out = bytearray(len(datas[number]))
        for start in range(0, len(out), step):
            found[number].readinto(start, memoryview(out)[start : start + step])
        return bytes(out)

    for step in (700, 10_000):
        for number in (0, 1, 2, 3, 4, 2, 3, 1, 1, 4, 0, 1, 2, 4):
            assert whole(number, step) == datas[number]
        part = memoryview(bytearray(10))
        found[3].readinto(900, part)
        assert bytes(part) == datas[3][900:910]


def test_an_error_ahead_is_that_of_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "SMALLEST", 1)
    together = Ahead()
    good = [together.add(Inflated(InMemory(zstd(b"a" * 99)), "zstd", 99, "good")) for _ in range(3)]
    bad = together.add(Inflated(InMemory(b"x" * 9), "zstd", 99, "bad"))
    for source in good:
        source.readinto(0, memoryview(bytearray(99)))
    for _ in range(2):
        with pytest.raises(DamagedError, match="at bad"):
            bad.readinto(0, memoryview(bytearray(99)))


def test_sources_are_joined_and_filled() -> None:
    joined = sources.Joined([InMemory(b"abc"), InMemory(b"def"), InMemory(b"g")])
    for start in range(7):
        for stop in range(start, 8):
            out = bytearray(stop - start)
            joined.readinto(start, memoryview(out))
            assert bytes(out) == b"abcdefg"[start:stop]
    filled = sources.Filled(b"xyz", 200_000)
    out = bytearray(199_000)
    filled.readinto(1000, memoryview(out))
    assert bytes(out) == (b"xyz" * 70_000)[1000:200_000]
