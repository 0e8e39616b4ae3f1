"""The manifest: strict JSON, a digest of itself, and what is kept."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import xxhash

from portackpt.errors import DamagedError, InputError
from portackpt.store import manifest as m
from portackpt.store import strictjson

SUITE = Path(__file__).parents[3] / "../shared/data/hostile/nst+JSONTestSuite"

MANIFEST = m.Manifest(
    portackpt=(1, 0),
    save_id="0" * 32,
    source=m.Source("test"),
    chunk_size=1 << 20,
    digest_algorithm="xxh3-128",
    state=m.StateFile("state.msgpack", 1, "0" * 32),
    shards=(),
    tensors=(),
    digest="",
)


def sealed(body: bytes) -> bytes:
    """`body`, an object without its last brace, with its digest."""
    tail = b',"digest":"xxh3-128:'
    digest = xxhash.xxh3_128_hexdigest(body + tail + b"0" * 32 + b'"}\n')
    return body + tail + digest.encode() + b'"}\n'


def test_it_writes_these_bytes() -> None:
    assert m.encode(MANIFEST) == (
        b'{"portackpt":[1,0],"save_id":"00000000000000000000000000000000",'
        b'"source":{"format":"test"},"chunk_size":1048576,"digest_algorithm":"xxh3-128",'
        b'"state":{"file":"state.msgpack","size":1,"digest":"00000000000000000000000000000000"},'
        b'"shards":[],"tensors":[],"digest":"xxh3-128:0933e075eb606d8d6b3db7bcbfaae3be"}\n'
    )


def test_it_keeps_members_that_it_does_not_know() -> None:
    tensor = m.Tensor("w", "uint8", (0,), ())
    kept = {"later": [1, {"x": None}], "tensors": {"w": {"color": "red"}}}
    manifest = msgspec.structs.replace(MANIFEST, tensors=(tensor,))
    data = m.encode(manifest, kept)
    decoded, extras = m.decode(data)
    assert (decoded.tensors, extras) == ((tensor,), kept)
    assert m.encode(decoded, extras) == data


@pytest.mark.skipif(not SUITE.exists(), reason="no hostile files beside the project")
def test_it_ends_in_data_or_an_error_for_every_json_file() -> None:
    files = sorted(path for path in SUITE.rglob("*.json") if path.is_file())
    assert len(files) == 318
    body = m.encode(MANIFEST)
    body = body[: body.rindex(b',"digest"')]
    for path in files:
        content = path.read_bytes()
        with pytest.raises(DamagedError):
            m.decode(content)
        try:
            _, extras = m.decode(sealed(body + b',"x":' + content))
        except InputError:
            assert not path.name.startswith("y_") or "duplicated" in path.name, path.name
        else:
            assert not path.name.startswith("n_"), path.name
            assert "x" in extras


def test_it_refuses_a_bomb_of_brackets_at_once() -> None:
    for bomb in (b"[" * 1_000_000, b'{"a":' * 200_000, b"[" * 500_000 + b"]" * 500_000):
        with pytest.raises(InputError):
            strictjson.parse(b'{"x":' + bomb + b"}", "manifest.json")
