"""The manifest: the index of a checkpoint, and its commit point (`spec/format.md`, Manifest).

    {"portackpt":[1,0], "save_id":…, …, "tensors":[…], …, "digest":"xxh3-128:HEX"}\\n

The first member is the version, the last one the digest of the file's own bytes with its
hexadecimal digits replaced by zeros, so that any changed byte is found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from portackpt.store import strictjson
from portackpt.store.digest import XXH3, algorithm
from portackpt.store.fault import Fault

NAME: Final = "manifest.json"
VERSION: Final = (1, 0)
MAX_SIZE: Final = 1 << 30
"""Bytes of a manifest; readers refuse larger ones."""

Natural = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Natural32 = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]
Shape = tuple[Natural, ...]


class _Struct(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    pass


class Source(_Struct, frozen=True):
    """What the checkpoint was made from."""

    format: str
    framework: str | None = None
    framework_version: str | None = None


class StateFile(_Struct, frozen=True):
    """The file of the tree."""

    file: str
    size: Natural
    digest: str


class Shard(_Struct, frozen=True):
    """A safetensors file; its header is the first `header_size` bytes, length field included."""

    file: str
    size: Natural
    header_size: Natural
    header_digest: str


class Section(_Struct, frozen=True):
    """A part of the run: one name at the top of the tree, and what it is for."""

    item: str
    kind: str | None = None


class Box(_Struct, frozen=True):
    """Where a region of a tensor lies; by default the whole tensor, under the tensor's name.

    `offset` counts from the start of the shard. `digests` are those of all chunks, joined.
    `nbytes` is there for dtype `string` only, where the shape does not tell it.
    """

    shard: Natural32
    offset: Natural
    digests: str
    start: Shape | None = None
    shape: Shape | None = None
    key: str | None = None
    nbytes: Natural | None = None


class View(_Struct, frozen=True):
    """A tensor over the bytes of tensor number `of`; `offset` and `strides` in bytes."""

    of: Natural32
    offset: Natural
    strides: Shape


class Tensor(_Struct, frozen=True):
    """One tensor: `boxes` that hold its bytes, or a `view` of another's."""

    name: str
    dtype: str
    shape: Shape
    boxes: tuple[Box, ...] | None = None
    view: View | None = None
    role: str | None = None


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """All of it, in the order of the file."""

    portackpt: tuple[Natural32, Natural32]
    save_id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    source: Source
    chunk_size: Natural
    digest_algorithm: str
    state: StateFile
    shards: tuple[Shard, ...]
    tensors: tuple[Tensor, ...]
    digest: str
    step: Natural | None = None
    notes: tuple[str, ...] | None = None
    sections: tuple[Section, ...] | None = None


Extras = Mapping[str, Any]
"""What a program that writes the checkpoint again must keep, beyond what it writes itself: members
of the manifest by name, members of tensors by the tensor's name under `TENSORS`."""
TENSORS: Final = "tensors"

_ORDER = ("portackpt", "save_id", "source", "step", "notes", "chunk_size", "digest_algorithm",
          "state", "shards", "sections", "tensors")  # fmt: skip
_KNOWN = frozenset((*_ORDER, "digest"))
_KNOWN_OF_TENSOR = frozenset(Tensor.__struct_fields__)
_HEAD = re.compile(rb'\s*\{\s*"portackpt"\s*:\s*\[\s*(\d{1,9})\s*,\s*(\d{1,9})\s*\]')
_TAIL = re.compile(rb'"digest":"([a-z0-9-]{1,32}):([0-9a-f]{1,128})"\}\n')
_TAIL_LENGTH = 200


def is_manifest(head: bytes) -> bool:
    """True when a file that begins like this is meant to be a manifest, of whatever version."""
    return _HEAD.match(head) is not None


def encode(manifest: Manifest, extras: Extras | None = None) -> bytes:
    """The bytes of a manifest; its `digest` is computed here."""
    fields = msgspec.structs.asdict(manifest)
    members = {
        name: fields[name]
        for name in _ORDER
        if name in ("shards", "tensors") or fields[name] not in (None, ())
    }
    for name, value in (extras or {}).items():
        if name != TENSORS:
            members.setdefault(name, value)
    of_tensors: Mapping[str, Any] = (extras or {}).get(TENSORS, {})
    if of_tensors:
        members["tensors"] = [
            {**of_tensors[tensor.name], **msgspec.to_builtins(tensor)}
            if tensor.name in of_tensors
            else tensor
            for tensor in manifest.tensors
        ]
    known = algorithm(manifest.digest_algorithm)
    body = msgspec.json.encode(members)[:-1]
    tail = f',"digest":"{known.name}:'.encode()
    zeros = body + tail + b"0" * known.digits + b'"}\n'
    return body + tail + known.of(zeros).encode() + b'"}\n'


def decode(data: bytes) -> tuple[Manifest, Extras]:
    """The manifest that `data` spells, and what it holds beyond. Raises a `Fault`'s error."""
    check_version(data)
    check_digest(data)
    try:
        manifest = _DECODER.decode(data)
        if encode(manifest) == data:  # then it has no member twice, and none that is unknown
            return manifest, _extras(manifest, {})
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # the strict parser finds out what is wrong
    document = strictjson.parse(data, NAME)
    try:
        return (manifest := _DECODER.decode(data)), _extras(manifest, document)
    except msgspec.DecodeError as error:
        raise _fault("M-8", str(error)).error() from None


def check_version(data: bytes) -> None:
    """Refuse what is no manifest, and what a later program wrote, by name."""
    head = _HEAD.match(data)
    if head is None:
        raise _fault(
            "M-1", 'expected a JSON object whose first member is "portackpt": [major, minor]'
        ).error()
    major = int(head[1])
    if major != VERSION[0]:
        raise _fault(
            "V-1", f"format version {major}.{int(head[2])} needs portackpt >= {major}"
        ).error()


def check_digest(data: bytes) -> None:
    """Compare the digest that a manifest has of itself."""
    tail = _TAIL.search(data, max(0, len(data) - _TAIL_LENGTH))
    if tail is None or tail.end() != len(data):
        raise _fault(
            "M-6", 'expected the file to end in "digest":"ALGORITHM:HEX"} and a newline'
        ).error()
    known = algorithm(tail[1].decode())
    if len(tail[2]) != known.digits:
        raise _fault("M-6", f"expected {known.digits} digits, found {len(tail[2])}").error()
    computed = known.new()
    computed.update(memoryview(data)[: tail.start(2)])
    computed.update(b"0" * known.digits + data[tail.end(2) :])
    if computed.hexdigest() != tail[2].decode():
        raise _fault(
            "M-7",
            f"digest does not match: expected {tail[2].decode()}, found {computed.hexdigest()}; "
            "the manifest was changed after it was written",
        ).error()


def _extras(manifest: Manifest, document: dict[str, Any]) -> Extras:
    extras = {name: value for name, value in document.items() if name not in _KNOWN}
    of_tensors = {t.name: {"role": t.role} for t in manifest.tensors if t.role is not None}
    for tensor in document.get(TENSORS, ()):
        unknown = {name: value for name, value in tensor.items() if name not in _KNOWN_OF_TENSOR}
        if unknown:
            of_tensors[tensor["name"]] = {**of_tensors.get(tensor["name"], {}), **unknown}
    return {**extras, TENSORS: of_tensors} if of_tensors else extras


def _fault(code: str, message: str) -> Fault:
    return Fault(code, message, NAME)


_DECODER = msgspec.json.Decoder(Manifest)
DEFAULT_ALGORITHM: Final = XXH3
