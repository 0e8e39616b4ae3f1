"""Headers: what the reference accepts and refuses, and where it is too kind."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from portackpt.bytesource import File
from portackpt.errors import DamagedError, InputError, RefusedError, UnsupportedError
from portackpt_safetensors.header import Entry, emit, placed, read

ZEROS = bytes(8)


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


def made(header: object, data: bytes = b"", count: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if count is None else count) + text + data


ONE = b'{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
ACCEPTED = {
    "one tensor": made({"a": entry()}, ZEROS),
    "no tensors": made({}),
    "zero size": made({"a": entry(shape=[0, 2**40], data_offsets=[0, 0])}),
    "two of zero size": made({n: entry(shape=[0], data_offsets=[0, 0]) for n in "ab"}),
    "rank 0": made({"a": entry(shape=[], data_offsets=[0, 4])}, ZEROS[:4]),
    "an unknown field": made({"a": entry(evil=1)}, ZEROS),
    "null metadata": made({"__metadata__": None, "a": entry()}, ZEROS),
    "an empty name": made({"": entry()}, ZEROS),
    "NUL in a name": made({"a\0b": entry()}, ZEROS),
    "a path as a name": made({"../../etc/passwd": entry()}, ZEROS),
    "names that look like fields": made({"dtype": entry()}, ZEROS),
    "leading spaces": made(b'  {"a":' + ONE + b"}", ZEROS),
    "trailing spaces": made(b'{"a":' + ONE + b"}    ", ZEROS),
    "a misaligned tensor": made(
        {"a": entry(dtype="U8", shape=[1], data_offsets=[0, 1]), "b": entry(data_offsets=[1, 9])},
        bytes(9),
    ),
    "any order of entries": made(
        {"b": entry(data_offsets=[8, 16]), "a": entry(data_offsets=[0, 8])}, bytes(16)
    ),
}
REFUSED = {
    "empty": b"",
    "seven bytes": bytes(7),
    "an empty header": made(b""),
    "a header longer than the file": made({"a": entry()}, ZEROS, 10_000),
    "a header of 2^63 bytes": made({"a": entry()}, ZEROS, 2**63),
    "a header of 100,000,001 bytes": made({"a": entry()}, ZEROS, 100_000_001),
    "an overlap": made({"a": entry(), "b": entry()}, ZEROS),
    "a partial overlap": made({"a": entry(), "b": entry(data_offsets=[4, 12])}, bytes(12)),
    "a hole": made({"a": entry(), "b": entry(data_offsets=[12, 20])}, bytes(20)),
    "a hole at the start": made({"a": entry(data_offsets=[4, 12])}, bytes(12)),
    "trailing bytes": made({"a": entry()}, ZEROS + b"POLYGLOT"),
    "bytes without a tensor": made({}, b"xx"),
    "a missing byte": made({"a": entry()}, ZEROS[:-1]),
    "reversed offsets": made({"a": entry(data_offsets=[8, 0])}, ZEROS),
    "a negative offset": made({"a": entry(data_offsets=[-4, 4])}, ZEROS),
    "an offset past the end": made({"a": entry(data_offsets=[0, 16], shape=[4])}, ZEROS),
    "a span that does not fit": made({"a": entry(shape=[3])}, ZEROS),
    "a shape that overflows": made({"a": entry(shape=[2, 2**63])}, ZEROS),
    "a negative shape": made({"a": entry(shape=[-2])}, ZEROS),
    "a float in a shape": made(b'{"a":' + ONE.replace(b"[2]", b"[2.0]") + b"}", ZEROS),
    "an exponent in a shape": made(b'{"a":' + ONE.replace(b"[2]", b"[2e0]") + b"}", ZEROS),
    "NaN in a shape": made(b'{"a":' + ONE.replace(b"[2]", b"[NaN]") + b"}", ZEROS),
    "text as a shape": made({"a": entry(shape="2")}, ZEROS),
    "an unknown dtype": made({"a": entry(dtype="F128")}, ZEROS),
    "a lower-case dtype": made({"a": entry(dtype="f32")}, ZEROS),
    "no dtype": made({"a": {"shape": [2], "data_offsets": [0, 8]}}, ZEROS),
    "an entry that is a list": made({"a": [2]}, ZEROS),
    "a number in the metadata": made({"__metadata__": {"k": 1}, "a": entry()}, ZEROS),
    "metadata that is a list": made({"__metadata__": [], "a": entry()}, ZEROS),
    "a field twice": made(b'{"a":' + ONE.replace(b'"shape"', b'"shape":[1],"shape"') + b"}", ZEROS),
    "a lone surrogate": made(b'{"\\ud800":' + ONE + b"}", ZEROS),
    "no UTF-8": made(b'{"\xff":1}', ZEROS),
    "a byte order mark": made(b'\xef\xbb\xbf{"a":' + ONE + b"}", ZEROS),
    "trailing NUL": made(b'{"a":' + ONE + b"}\0\0", ZEROS),
    "trailing JSON": made(b'{"a":' + ONE + b"}{}", ZEROS),
    "a list": made([]),
    "200,000 open brackets": made(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", ZEROS),
}
# accepted by the reference against its own README: values depend on the reader
TOO_KIND = {
    "a name twice": made(b'{"a":' + ONE + b',"a":' + ONE + b"}", ZEROS),
    "a name twice, once escaped": made(b'{"a":' + ONE + b',"\\u0061":' + ONE + b"}", ZEROS),
    "a name twice, with another dtype": made(
        b'{"a":' + ONE + b',"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}', ZEROS
    ),
    "a metadata key twice": made(b'{"__metadata__":{"k":"1","k":"2"},"a":' + ONE + b"}", ZEROS),
    "the metadata twice": made(
        b'{"__metadata__":{"k":"1"},"__metadata__":{"k":"2"},"a":' + ONE + b"}", ZEROS
    ),
    "a dimension of 2^63": made({"a": entry(shape=[0, 2**63, 4], data_offsets=[0, 0])}),
}


def parsed(path: Path, data: bytes) -> Any:
    path.write_bytes(data)
    return read(File(path))


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED)
def test_it_accepts_what_the_reference_accepts(tmp_path: Path, data: bytes) -> None:
    reference = pytest.importorskip("safetensors")
    entries = parsed(tmp_path / "x", data).entries
    found = {name: (list(e.shape), e.dtype) for name, e in entries.items()}
    assert found == {n: (e["shape"], e["dtype"]) for n, e in reference.deserialize(data)}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_it_refuses_what_the_reference_refuses(tmp_path: Path, data: bytes) -> None:
    reference = pytest.importorskip("safetensors")
    with pytest.raises(reference.SafetensorError):
        reference.deserialize(data)
    with pytest.raises(InputError):
        parsed(tmp_path / "x", data)


@pytest.mark.parametrize("data", TOO_KIND.values(), ids=TOO_KIND)
def test_it_refuses_what_readers_disagree_about(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(RefusedError):
        parsed(tmp_path / "x", data)


def test_it_says_what_is_wrong_and_where(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(DamagedError) as caught:
        parsed(path, made({"a": entry(), "b": entry(data_offsets=[12, 20])}, bytes(20)))
    assert str(caught.value) == (
        f"bytes 12 to 20 leave a hole: expected to begin at 8, at tensors['b'], in {path}"
    )
    with pytest.raises(DamagedError, match="it was cut short"):
        parsed(path, made({"a": entry()}, ZEROS, 10_000))
    with pytest.raises(UnsupportedError, match="F6_E2M3"):
        parsed(path, made({"a": entry(dtype="F6_E2M3", shape=[4], data_offsets=[0, 3])}, ZEROS[:3]))


def test_it_writes_the_bytes_that_the_reference_writes() -> None:
    from portackpt.dtypes import BY_NAME

    entries = placed([("b", BY_NAME["int64"], (1,), 8), ("a", BY_NAME["bool"], (2,), 2)])
    assert emit(entries, {"format": "pt"}) == (
        b'\x90\0\0\0\0\0\0\0{"__metadata__":{"format":"pt"},'
        b'"b":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},'
        b'"a":{"dtype":"BOOL","shape":[2],"data_offsets":[8,10]}}    '
    )


def test_it_places_wide_elements_first_and_keeps_the_order_of_names() -> None:
    from portackpt.dtypes import BY_NAME

    entries = placed([("a", BY_NAME["uint8"], (3,), 3), ("b", BY_NAME["float32"], (), 4)])
    assert entries == {"a": Entry("U8", (3,), (4, 7)), "b": Entry("F32", (), (0, 4))}
