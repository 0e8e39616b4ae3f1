"""A writer of the format of its own: it shares nothing with the library but the spec."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
import xxhash

CHUNK = 4096
Document = dict[str, Any]
Files = dict[str, bytes]


def digest(data: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(data)


def seal(manifest: Document) -> bytes:
    """The bytes of a manifest, with its digest."""
    text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":"))
    return seal_text(text.encode()[:-1])


def seal_text(body: bytes) -> bytes:
    """`body` is a JSON object without its closing brace."""
    tail = b',"digest":"xxh3-128:'
    zeros = body + tail + b"0" * 32 + b'"}\n'
    return body + tail + digest(zeros).encode() + b'"}\n'


@dataclass
class T:
    """A tensor to be stored: its bytes, and how the header of its shard spells it."""

    name: str
    dtype: str
    shape: list[int]
    data: bytes
    code: str
    code_shape: list[int] | None = None
    members: Document = field(default_factory=dict)
    box: Document = field(default_factory=dict)


@dataclass
class V:
    """A view."""

    name: str
    dtype: str
    shape: list[int]
    of: int
    offset: int
    strides: list[int]


def f32(name: str, *values: float, shape: list[int] | None = None) -> T:
    data = struct.pack(f"<{len(values)}f", *values)
    return T(name, "float32", [len(values)] if shape is None else shape, data, "F32")


@dataclass
class Draft:
    """A checkpoint before its digests are computed; `edit…` change it on the way."""

    tensors: list[T | V] = field(default_factory=list)
    tree: Any = None
    details: Any = field(default_factory=lambda: ["dict"])
    members: Document = field(default_factory=dict)
    edit_header: Callable[[Document], None] = lambda header: None
    edit: Callable[[Document], None] = lambda manifest: None
    pad: int = 4096
    state: bytes | None = None

    def files(self) -> Files:
        stored = [tensor for tensor in self.tensors if isinstance(tensor, T)]
        stored.sort(key=lambda tensor: 0 if len(tensor.data) % 64 == 0 else 1)
        header: Document = {}
        offsets = {}
        end = 0
        for tensor in stored:
            offsets[tensor.name] = end
            key = tensor.box.get("key") or tensor.name
            shape = tensor.shape if tensor.code_shape is None else tensor.code_shape
            header[key] = {
                "dtype": tensor.code,
                "shape": shape,
                "data_offsets": [end, end + len(tensor.data)],
            }
            end += len(tensor.data)
        self.edit_header(header)
        head, data = shard_bytes(header, b"".join(tensor.data for tensor in stored), self.pad)
        state = self.state
        if state is None:
            state = msgpack.packb(["tuple", self.tree, self.details])
        manifest = self.manifest(state, head, data, offsets)
        self.edit(manifest)
        files = {"manifest.json": seal(manifest), "state.msgpack": state}
        if stored:
            files["shard-00000.safetensors"] = head + data
        return files

    def manifest(self, state: bytes, head: bytes, data: bytes, offsets: dict[str, int]) -> Document:
        shard = {
            "file": "shard-00000.safetensors",
            "size": len(head + data),
            "header_size": len(head),
            "header_digest": digest(head),
        }
        return {
            "portackpt": [1, 0],
            "save_id": "0123456789abcdef0123456789abcdef",
            "source": {"format": "portackpt"},
            **self.members,
            "chunk_size": CHUNK,
            "digest_algorithm": "xxh3-128",
            "state": {"file": "state.msgpack", "size": len(state), "digest": digest(state)},
            "shards": [shard] if offsets else [],
            "tensors": [entry(tensor, len(head), offsets) for tensor in self.tensors],
        }


def shard_bytes(header: Document, data: bytes, pad: int = 4096) -> tuple[bytes, bytes]:
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    size = -(-(8 + len(text)) // pad) * pad
    return struct.pack("<Q", size - 8) + text.ljust(size - 8), data


def chunk_digests(data: bytes, chunk: int = CHUNK) -> str:
    return "".join(digest(data[at : at + chunk]) for at in range(0, len(data), chunk))


def entry(tensor: T | V, base: int, offsets: dict[str, int]) -> Document:
    facts: Document = {"name": tensor.name, "dtype": tensor.dtype, "shape": tensor.shape}
    if isinstance(tensor, V):
        view = {"of": tensor.of, "offset": tensor.offset, "strides": tensor.strides}
        return {**facts, "view": view}
    box = {"shard": 0, "offset": base + offsets[tensor.name], "digests": chunk_digests(tensor.data)}
    if tensor.dtype == "string":
        box["nbytes"] = len(tensor.data)
    return {**facts, "boxes": [{**box, **tensor.box}], **tensor.members}


def strings(*values: bytes) -> bytes:
    ends = [sum(map(len, values[:n])) for n in range(len(values) + 1)]
    return struct.pack(f"<{len(ends)}Q", *ends) + b"".join(values)


# what a vector says


def means(
    requirements: str,
    tree: Any,
    tensors: list[tuple[str, list[int], bytes]] | None = None,
    shared: list[list[int]] | None = None,
    **more: Any,
) -> Document:
    """What a valid vector holds. `tree` is spelled as in a state file (see `spelled`)."""
    return {
        "requirements": requirements.split(),
        "tree": spelled(tree),
        "tensors": [
            {"dtype": dtype, "shape": shape, "bytes": data.hex()}
            for dtype, shape, data in tensors or []
        ],
        "shared": shared or [],
        **more,
    }


def spelled(node: Any) -> Any:
    """A node in JSON: floats as ["float", the hexadecimal digits of its big-endian bits], binary
    as ["bytes", hexadecimal digits], integers beyond 2^53 as ["int", digits]."""
    if isinstance(node, list):
        return [spelled(part) for part in node]
    if isinstance(node, float):
        return ["float", struct.pack(">d", node).hex()]
    if isinstance(node, bytes):
        return ["bytes", node.hex()]
    if isinstance(node, int) and not isinstance(node, bool) and abs(node) > 1 << 53:
        return ["int", str(node)]
    return node


def fault(codes: str, message: str, found: str = "open") -> Document:
    """What is wrong with an invalid vector: all faults, the text of the first one's error, and who
    finds it: a reader that opens it, one that reads all tensors, or only a validator."""
    return {"faults": codes.split(), "message": message, "found": found}


Vector = tuple[Files, Document]


def one(tree: Any, requirements: str, **more: Any) -> Vector:
    """A valid vector of a tree without tensors."""
    return Draft(tree=tree).files(), means(requirements, tree, **more)


def of(tensors: list[T | V], requirements: str, tree: Any = None, **more: Any) -> Vector:
    """A valid vector of tensors that stand in a list (if there is no other tree)."""
    tree = ["list", *(["tensor", n] for n in range(len(tensors)))] if tree is None else tree
    draft = Draft(tensors, tree, members=more.pop("members", {}))
    shared = more.pop("shared", None)
    facts = [(t.dtype, t.shape, values(tensors, t)) for t in tensors]
    return draft.files(), means(requirements, tree, facts, shared, **more)


def values(tensors: list[T | V], tensor: T | V) -> bytes:
    """The elements of a tensor in C order (the stored form, for strings)."""
    if isinstance(tensor, T):
        return tensor.data
    base = tensors[tensor.of]
    assert isinstance(base, T)
    size = {"float32": 4, "float16": 2, "uint8": 1, "bool": 1, "string": 0}[tensor.dtype]
    if not size:
        return base.data
    places = [tensor.offset]
    for n, stride in zip(tensor.shape, tensor.strides, strict=True):
        places = [place + i * stride for place in places for i in range(n)]
    return b"".join(base.data[place : place + size] for place in places)
