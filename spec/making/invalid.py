"""Invalid vectors of files and manifests."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from making.draft import Document, Draft, Files, T, V, Vector, f32, fault, seal, seal_text

TREE = ["tensor", 0]


def vectors() -> dict[str, Vector]:
    return {**_files(), **_references(), **_texts(), **_members()}


def made(edit: Callable[[Document], Any], *rest: T | V, **more: Any) -> Files:
    """A checkpoint of one tensor `w` whose manifest was changed before it was sealed."""
    return Draft([f32("w", 1.0), *rest], TREE, edit=lambda m: edit(m) and None, **more).files()


def put(place: str, value: Any) -> Callable[[Document], None]:
    """An edit: the member at a slash-joined place gets a value (or is gone, for `GONE`)."""

    def edit(manifest: Document) -> None:
        *above, last = [int(part) if part.isdigit() else part for part in place.split("/")]
        node: Any = manifest
        for part in above:
            node = node[part]
        if value is GONE:
            del node[last]
        else:
            node[last] = value

    return edit


GONE: Any = object()


def _files() -> dict[str, Vector]:
    plain = made(lambda m: None)
    shard = plain["shard-00000.safetensors"]

    def changed(**files: bytes | None) -> Files:
        names = {"manifest": "manifest.json", "state": "state.msgpack",
                 "shard": "shard-00000.safetensors"}  # fmt: skip
        new = {names[key]: data for key, data in files.items()}
        return {k: v for k, v in {**plain, **new}.items() if v is not None}

    flipped = bytearray(shard)
    flipped[4097] ^= 1
    header = bytearray(shard)
    header[100] ^= 1
    state = bytearray(plain["state.msgpack"])
    state[-1] ^= 1
    steps = {f"{folder}/{name}": data for folder in ("step-1", "step-01")
             for name, data in Draft(tree=1).files().items()}  # fmt: skip
    uncommitted = {f"step-1/{k}": v for k, v in plain.items() if k != "manifest.json"}
    return {
        "no-manifest": (changed(manifest=None), fault("D-2", "it has no manifest.json")),
        "an-empty-manifest": (changed(manifest=b""), fault("M-1", "first member")),
        "half-a-manifest": (
            changed(manifest=plain["manifest.json"][:200]), fault("M-6", "expected the file to"),
        ),
        "no-state-file": (
            changed(state=None), fault("D-6", "the file is missing, at state.msgpack"),
        ),
        "no-shard": (changed(shard=None), fault("D-6", "missing, at shard-00000.safetensors")),
        "a-shard-that-is-cut": (
            changed(shard=shard[:-1]), fault("D-7", "expected 4100 bytes, found 4099"),
        ),
        "a-shard-that-has-grown": (
            changed(shard=shard + b"\0"), fault("D-7", "expected 4100 bytes, found 4101"),
        ),
        "a-state-file-that-is-cut": (changed(state=b""), fault("D-7", "bytes, found 0")),
        "a-flipped-bit-in-a-tensor": (
            changed(shard=bytes(flipped)),
            fault("T-8", "at offset 4096, in tensor 'w', in shard-00000.safetensors", "read"),
        ),
        "a-flipped-bit-in-a-shard-header": (
            changed(shard=bytes(header)), fault("S-2", "digest of the header", "read"),
        ),
        "a-flipped-bit-in-the-state": (
            changed(state=bytes(state)), fault("N-10", "digest does not match"),
        ),
        "a-step-that-is-there-twice": (steps, {**fault("D-9", "is there twice"), "ask": 1}),
        "a-root-without-a-complete-step": (uncommitted, fault("D-2", "no step of this root")),
    }  # fmt: skip


def _references() -> dict[str, Vector]:
    names = {
        "a-reference-to-a-folder-above": "../state.msgpack",
        "an-absolute-reference": "/etc/passwd",
        "a-reference-with-an-empty-component": "a//state.msgpack",
        "a-reference-with-a-dot-component": "./state.msgpack",
        "a-reference-with-a-backslash": "a\\state.msgpack",
        "a-reference-to-a-device": "CON.msgpack",
        "a-reference-that-ends-in-a-dot": "state.msgpack.",
        "a-reference-that-begins-with-a-dot": ".state.msgpack",
        "a-reference-that-begins-with-a-dash": "-state.msgpack",
        "a-reference-with-a-space": "state .msgpack",
        "a-reference-that-is-empty": "",
        "a-reference-with-a-nul": "state\x00.msgpack",
        "a-reference-of-201-letters": "a" * 201,
        "a-reference-to-another-place": "s3://bucket/state.msgpack",
    }
    found = {
        name: (made(put("state/file", reference)), fault("D-3", "no file name"))
        for name, reference in names.items()
    }
    found["a-reference-beyond-1000-letters"] = (
        made(put("shards/0/file", "/".join(["a" * 100] * 10))), fault("D-3", "no file name"),
    )  # fmt: skip
    same = made(put("state/file", "SHARD-00000.safetensors"))
    found["two-references-that-differ-by-letter-case"] = (same, fault("D-4 D-6", "is named twice"))
    found["a-reference-to-the-manifest"] = (
        made(put("state/file", "Manifest.json")), fault("D-4 D-6", "is named twice"),
    )  # fmt: skip
    return found


def _texts() -> dict[str, Vector]:
    """Manifests that are wrong as text."""
    plain = made(lambda m: None)
    whole = plain["manifest.json"]
    body = whole[: whole.rindex(b',"digest"')]

    def text(data: bytes) -> Files:
        return {**plain, "manifest.json": data}

    def inner(more: bytes) -> Files:
        return text(seal_text(body + b"," + more))

    deep = b'"x":' + b"[" * 64 + b"]" * 64
    first = json.loads(whole)
    del first["digest"]
    swapped = {"save_id": first.pop("save_id"), **first}
    upper = whole[:-35] + whole[-35:-3].upper() + whole[-3:]
    return {
        "a-manifest-that-is-a-list": (text(b"[]"), fault("M-1", "first member")),
        "a-manifest-with-a-byte-order-mark": (
            text(b"\xef\xbb\xbf" + whole), fault("M-1", "first member"),
        ),
        "a-manifest-in-utf-16": (
            text(whole.decode().encode("utf-16-le")), fault("M-1", "first member"),
        ),
        "a-version-that-is-not-first": (text(seal(swapped)), fault("M-1", "first member")),
        "a-version-that-is-text": (made(put("portackpt", "1.0")), fault("M-1", "first member")),
        "a-manifest-with-a-comma-too-many": (inner(b'"x":[1,]'), fault("M-2", "not valid JSON")),
        "a-manifest-with-nan": (inner(b'"x":NaN'), fault("M-2", "not valid JSON")),
        "a-manifest-with-infinity": (inner(b'"x":-Infinity'), fault("M-2", "not valid JSON")),
        "a-number-beyond-binary64": (inner(b'"x":1e400'), fault("M-2", "not valid JSON")),
        "a-manifest-with-a-lone-surrogate": (
            inner(b'"x":"\\ud800"'), fault("M-2", "not valid JSON"),
        ),
        "a-manifest-with-a-control-character": (
            inner(b'"x":"\n"'), fault("M-2", "not valid JSON"),
        ),
        "a-manifest-that-is-not-utf-8": (inner(b'"x":"\xff"'), fault("M-2", "expected UTF-8")),
        "a-manifest-with-a-comment": (inner(b'/**/"x":1'), fault("M-2", "not valid JSON")),
        "a-member-twice": (inner(b'"save_id":"0"'), fault("M-3", "'save_id' stands twice")),
        "a-member-twice-inside": (inner(b'"x":{"a":1,"a":1}'), fault("M-3", "'a' stands twice")),
        "a-member-twice-once-escaped": (
            inner(b'"x":{"a":1,"\\u0061":2}'), fault("M-3", "'a' stands twice"),
        ),
        "an-integer-beyond-64-bits": (
            inner(b'"x":18446744073709551616'), fault("M-4", "beyond 64 bits"),
        ),
        "nested-deeper-than-64-levels": (inner(deep), fault("L-2", "nested deeper than 64")),
        "a-digest-that-is-not-last": (
            text(whole[:-2] + b',"x":1}\n'), fault("M-6", "expected the file to end"),
        ),
        "a-manifest-without-a-line-feed": (
            text(whole[:-1]), fault("M-6", "expected the file to end"),
        ),
        "bytes-after-the-manifest": (text(whole + b" "), fault("M-6", "expected the file to end")),
        "a-digest-after-a-space": (
            text(whole.replace(b'"digest":"xxh3', b'"digest": "xxh3')),
            fault("M-6", "expected the file to end"),
        ),
        "a-digest-in-upper-case": (text(upper), fault("M-6", "expected the file to end")),
        "a-digest-that-is-too-short": (
            text(whole[:-5] + whole[-3:]), fault("M-6", "expected 32 digits, found 30"),
        ),
        "a-changed-byte-in-the-manifest": (
            text(whole.replace(b'"w"', b'"v"')), fault("M-7", "digest does not match"),
        ),
        "a-manifest-digest-by-an-unknown-algorithm": (
            text(whole.replace(b'"digest":"xxh3-128:', b'"digest":"crc32:')),
            fault("G-1", "unknown digest algorithm 'crc32'"),
        ),
    }  # fmt: skip


def _members() -> dict[str, Vector]:
    def wrong(place: str, value: Any, told: str = "") -> Vector:
        return made(put(place, value)), fault("M-8", told or f"$.{place.partition('/')[0]}")

    return {
        "a-later-major-version": (
            made(put("portackpt", [2, 0])),
            fault("V-1", "format version 2.0 needs portackpt >= 2"),
        ),
        "no-save-id": wrong("save_id", GONE, "`save_id`"),
        "a-save-id-of-31-digits": wrong("save_id", "0" * 31),
        "a-save-id-in-upper-case": wrong("save_id", "A" * 32),
        "no-tensors": wrong("tensors", GONE, "`tensors`"),
        "no-source": wrong("source", GONE, "`source`"),
        "tensors-that-are-no-array": wrong("tensors", {}),
        "a-size-that-is-a-float": wrong("state/size", 5.0),
        "a-size-that-is-text": wrong("state/size", "5"),
        "a-size-that-is-negative": wrong("shards/0/size", -1),
        "a-size-beyond-63-bits": wrong("shards/0/size", 1 << 63),
        "a-size-that-is-true": wrong("shards/0/size", True),
        "a-name-that-is-null": wrong("tensors/0/name", None),
        "a-shape-that-is-text": wrong("tensors/0/shape", "1"),
        "a-dimension-that-is-negative": wrong("tensors/0/shape", [-1]),
        "a-role-that-is-a-number": wrong("tensors/0/role", 1),
        "a-step-that-is-negative": wrong("step", -1),
        "notes-that-are-text": wrong("notes", "x"),
        "a-version-of-three-numbers": (
            made(put("portackpt", [1, 0, 0])), fault("M-1", "first member"),
        ),
        "an-unknown-digest-algorithm": (
            made(put("digest_algorithm", "md5")), fault("G-1", "unknown digest algorithm 'md5'"),
        ),
        "a-chunk-size-that-is-no-power-of-two": (
            made(put("chunk_size", 5000)), fault("G-2", "chunk size 5000"),
        ),
        "a-chunk-size-that-is-too-small": (
            made(put("chunk_size", 2048)), fault("G-2", "chunk size 2048"),
        ),
        "a-chunk-size-that-is-too-large": (
            made(put("chunk_size", 1 << 25)), fault("G-2", "chunk size 33554432"),
        ),
        "a-state-digest-of-31-digits": (
            made(put("state/digest", "0" * 31)), fault("G-3", "expected a digest of 32 digits"),
        ),
        "a-header-digest-in-upper-case": (
            made(put("shards/0/header_digest", "A" * 32)), fault("G-3", "a digest of 32 digits"),
        ),
    }  # fmt: skip
