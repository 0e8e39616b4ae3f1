"""Invalid vectors of files, manifests, tensors and shards."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from making.draft import (
    Document,
    Draft,
    Files,
    T,
    V,
    Vector,
    digest,
    f32,
    fault,
    seal,
    seal_text,
    strings,
)
from making.valid_tensors import boxed, merged

TREE = ["tensor", 0]


def vectors() -> dict[str, Vector]:
    return {
        **_files(), **_references(), **_texts(), **_members(), **_indexes(), **_boxes(), **_views(),
        **_shards(),
    }  # fmt: skip


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


def _indexes() -> dict[str, Vector]:
    long = [1 << 40, 1 << 40]
    return {
        "two-tensors-of-one-name": (
            made(put("tensors/1/name", "w"), f32("v", 1.0)), fault("T-1", "two tensors"),
        ),
        "a-tensor-with-an-empty-name": (made(put("tensors/0/name", "")), fault("T-1", "empty")),
        "a-name-with-a-control-character": (
            made(put("tensors/0/name", "a\x00b")), fault("T-1", "control character"),
        ),
        "an-unknown-dtype": (
            made(put("tensors/0/dtype", "float128")), fault("T-2", "unknown dtype 'float128'"),
        ),
        "a-dtype-in-the-spelling-of-safetensors": (
            made(put("tensors/0/dtype", "F32")), fault("T-2", "unknown dtype 'F32'"),
        ),
        "a-tensor-without-boxes-and-view": (
            made(put("tensors/0/boxes", GONE)), fault("T-4", "either boxes or a view"),
        ),
        "a-tensor-with-boxes-and-view": (
            made(put("tensors/0/view", {"of": 0, "offset": 0, "strides": [4]})),
            fault("T-4", "either boxes or a view"),
        ),
        "sixty-five-dimensions": (
            made(put("tensors/0/shape", [1] * 65)), fault("L-3", "65 dimensions"),
        ),
        "a-tensor-beyond-63-bits": (
            made(put("tensors/0/shape", long)), fault("L-4", "more than 2^63 bytes"),
        ),
        "a-shape-whose-product-wraps-to-its-size": (
            made(put("tensors/0/shape", [1 << 32, 1 << 32, 1])), fault("L-4", "2^63 bytes"),
        ),
    }  # fmt: skip


def _boxes() -> dict[str, Vector]:
    def box(told: str, code: str, **members: Any) -> Vector:
        def edit(manifest: Document) -> None:
            manifest["tensors"][0]["boxes"][0].update(members)

        return made(edit), fault(code, told)

    parts = [f32("a", 1, 2), f32("b", 3, 4)]

    def tiles(shape: list[int], *regions: tuple[list[int], list[int]]) -> Vector:
        return boxed(parts, merged("w", shape, list(regions))), fault("T-5", "do not tile")

    many = [f32("a", 1.0, shape=[1] * 22), f32("b", 2.0, shape=[1] * 22)]
    cut = merged("w", [2] * 22, [([0] * 22, [1] * 22), ([1] * 22, [1] * 22)])
    one = [1.0] * 2
    text = strings(b"ab")
    bad_text = text[:8] + b"\x09" + text[9:]
    return {
        "boxes-that-overlap": tiles([3], ([0], [2]), ([1], [2])),
        "boxes-that-leave-a-gap": tiles([5], ([0], [2]), ([3], [2])),
        "boxes-that-lie-outside": tiles([4], ([0], [2]), ([3], [2])),
        "boxes-of-another-rank": tiles([4], ([0], [2]), ([2, 0], [2, 1])),
        "the-same-box-twice": tiles([4], ([0], [2]), ([0], [2])),
        "a-box-that-is-smaller-than-the-tensor": (
            made(put("tensors/0/boxes/0/shape", [0])), fault("T-5 T-7", "do not tile"),
        ),
        "boxes-cut-along-too-many-dimensions": (boxed(many, cut), fault("L-5", "too many to")),
        "a-box-in-a-shard-that-is-not-there": box("shard 1 of 1", "T-6", shard=1),
        "a-box-beyond-the-end-of-its-shard": box("lie outside the data", "T-6", offset=4100),
        "a-box-in-the-header-of-its-shard": box("lie outside the data", "T-6", offset=4092),
        "a-box-whose-end-wraps": box("lie outside the data", "T-6", offset=(1 << 63) - 1),
        "a-digest-too-few": box("expected 1 digests", "T-7", digests=""),
        "a-digest-too-many": box("expected 1 digests", "T-7", digests="0" * 64),
        "a-digest-that-is-no-hexadecimal-number": box("1 digests", "T-7", digests="g" * 32),
        "a-digest-of-other-bytes": (
            made(put("tensors/0/boxes/0/digests", "0" * 32)),
            fault("T-8", "at offset 4096, in tensor 'w'", "read"),
        ),
        "a-size-of-a-box-that-is-no-string": box("must not have nbytes", "T-10", nbytes=4),
        "a-string-tensor-without-its-size": (
            Draft([T("s", "string", [1], text, "U8", [18])], TREE,
                  edit=put("tensors/0/boxes/0/nbytes", GONE)).files(),
            fault("T-10", "needs nbytes"),
        ),
        "a-string-tensor-in-a-box-with-a-start": (
            Draft([T("s", "string", [1], text, "U8", [18], box={"start": [0]})], TREE).files(),
            fault("T-10", "one box"),
        ),
        "strings-whose-offsets-do-not-fit": (
            Draft([T("s", "string", [1], bad_text, "U8", [18])], TREE).files(),
            fault("T-10", "offsets do not fit", "read"),
        ),
        "strings-that-are-fewer-than-their-shape": (
            Draft([T("s", "string", [9], text, "U8", [18])], TREE).files(),
            fault("T-10", "needs 80 bytes of offsets", "read"),
        ),
        "strings-whose-offsets-fall": (
            Draft([T("s", "string", [2], strings(b"ab", b"")[:8] + b"\x03" + b"\0" * 7
                     + strings(b"ab", b"")[16:], "U8", [26])], TREE).files(),
            fault("T-10", "offsets do not fit", "read"),
        ),
        "boxes-of-one-key": (
            Draft([f32("w", *one), f32("v", *one)], ["list", TREE, ["tensor", 1]],
                  edit=put("tensors/1/boxes/0/key", "w")).files(),
            fault("S-3 S-3 S-4", "", "validate"),
        ),
    }  # fmt: skip


def _views() -> dict[str, Vector]:
    six = f32("w", 1, 2, 3, 4, 5, 6)

    def view(told: str, code: str, v: V) -> Vector:
        return Draft([six, v], ["list", TREE, ["tensor", 1]]).files(), fault(code, told)

    columns = [f32("a", 1, 3, shape=[2, 1]), f32("b", 2, 4, shape=[2, 1])]
    side = merged("w", [2, 2], [([0, 0], [2, 1]), ([0, 1], [2, 1])])
    return {
        "a-view-of-a-tensor-that-is-not-there": view(
            "which has no boxes", "T-11", V("v", "float32", [1], 2, 0, [4])
        ),
        "a-view-of-itself": view("which has no boxes", "T-11", V("v", "float32", [1], 1, 0, [4])),
        "a-view-of-a-view": (
            Draft([six, V("v", "float32", [1], 0, 0, [4]), V("x", "float32", [1], 1, 0, [4])],
                  TREE).files(),
            fault("T-11", "which has no boxes"),
        ),
        "a-view-of-boxes-side-by-side": (
            boxed(columns, side, [V("v", "float32", [4], 0, 0, [4])]),
            fault("T-12", "do not follow each other"),
        ),
        "a-view-of-boxes-in-another-order": (
            boxed([f32("a", 3, 4), f32("b", 1, 2)], merged("w", [4], [([2], [2]), ([0], [2])]),
                  [V("v", "float32", [4], 0, 0, [4])]),
            fault("T-12", "do not follow each other"),
        ),
        "a-view-beyond-the-end": view(
            "ends at byte 28", "T-13", V("v", "float32", [6], 0, 4, [4])
        ),
        "a-view-whose-strides-reach-too-far": view(
            "ends at byte 32", "T-13", V("v", "float32", [2, 2], 0, 0, [4, 24])
        ),
        "a-view-whose-offset-wraps": view(
            "it ends at byte 9223372036854775811", "T-13",
            V("v", "float32", [1], 0, (1 << 63) - 1, [4]),
        ),
        "a-view-with-a-stride-too-few": view(
            "1 strides for 2 dimensions", "T-13", V("v", "float32", [1, 1], 0, 0, [4])
        ),
        "a-view-of-strings-with-an-offset": view(
            "no offset and no strides", "T-13", V("v", "string", [1], 0, 8, [])
        ),
    }  # fmt: skip


def _shards() -> dict[str, Vector]:
    """What only a validator sees: the manifest alone tells a reader where the bytes are."""

    def header(edit: Callable[[Document], Any], codes: str, **more: Any) -> Vector:
        draft = Draft([f32("w", 1.0)], TREE, edit_header=lambda h: edit(h) and None, **more)
        return draft.files(), fault(codes, "", "validate")

    def raw(change: Callable[[bytes], bytes]) -> Vector:
        files = made(lambda m: None)
        shard = files["shard-00000.safetensors"]
        head = change(shard[:4096])
        document = json.loads(files["manifest.json"])
        del document["digest"]
        document["shards"][0]["header_digest"] = digest(head)
        return (
            {**files, "manifest.json": seal(document),
             "shard-00000.safetensors": head + shard[4096:]},
            fault("S-1", "", "validate"),
        )  # fmt: skip

    w = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    return {
        "a-shard-without-the-key-of-a-box": header(lambda h: h.update(v=h.pop("w")), "S-3 S-4"),
        "a-shard-that-says-another-dtype": header(lambda h: h["w"].update(dtype="I32"), "S-3"),
        "a-shard-that-says-another-shape": header(lambda h: h["w"].update(shape=[1, 1]), "S-3"),
        "a-shard-that-says-other-offsets": header(
            lambda h: h["w"].update(data_offsets=[0, 3]), "S-4 S-3"
        ),
        "a-shard-with-a-tensor-of-nobody": header(
            lambda h: h.update(v={**w, "data_offsets": [4, 4]}), "S-4"
        ),
        "a-shard-with-an-unused-end": (
            Draft([f32("w", 1.0), f32("v", 2.0)], TREE, edit=lambda m: m["tensors"].pop() and None,
                  edit_header=lambda h: h.pop("v") and None).files(),
            fault("S-4", "", "validate"),
        ),
        "a-shard-whose-data-begins-anywhere": header(lambda h: None, "S-5", pad=8),
        "a-box-that-is-not-aligned": (
            Draft([T("a", "uint8", [1], b"x", "U8"), f32("w", 1.0)], ["tensor", 1]).files(),
            fault("S-6", "", "validate"),
        ),
        "a-shard-header-with-a-member-twice": raw(
            lambda head: (head[:8] + b'{"w":1,' + head[9:])[:4096]
        ),
        "a-shard-header-that-begins-with-a-space": raw(
            lambda head: (head[:8] + b" " + head[8:])[:4096]
        ),
        "a-shard-header-that-is-no-json": raw(lambda head: head[:8] + b"{" * 4088),
        "a-shard-header-of-another-length": raw(lambda head: b"\x07" + head[1:]),
        "a-shard-entry-with-a-member-more": header(lambda h: h["w"].update(x=1), "S-1"),
        "a-shard-entry-without-a-shape": header(lambda h: h["w"].pop("shape"), "S-1"),
        "a-shard-entry-with-a-negative-offset": header(
            lambda h: h["w"].update(data_offsets=[-4, 0]), "S-1"
        ),
        "a-header-that-is-longer-than-its-shard": (
            made(put("shards/0/header_size", 5000)), fault("S-1 T-6", "has a header of 5000"),
        ),
        "a-header-beyond-100-megabytes": (
            made(lambda m: m["shards"][0].update(header_size=200_000_000, size=300_000_000)),
            fault("L-8 T-6 D-7", "has a header of 200000000 bytes"),
        ),
    }  # fmt: skip
