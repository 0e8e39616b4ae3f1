"""Invalid vectors of tensors and shards."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from making.draft import Document, Draft, T, V, Vector, digest, f32, fault, seal, strings
from making.invalid import GONE, TREE, made, put
from making.valid_tensors import boxed, merged


def vectors() -> dict[str, Vector]:
    return {**_indexes(), **_boxes(), **_views(), **_shards()}


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
