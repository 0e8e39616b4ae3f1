"""Valid vectors of tensors and shards."""

from __future__ import annotations

import struct

from making.draft import (
    Document,
    Draft,
    Files,
    T,
    V,
    Vector,
    chunk_digests,
    digest,
    f32,
    means,
    of,
    seal,
    shard_bytes,
    strings,
)

DTYPES = (
    ("bool", "BOOL", b"\x01\x00"), ("int8", "I8", b"\xff\x01"), ("int16", "I16", b"\xff\x7f"),
    ("int32", "I32", b"\x01\x02\x03\xff"), ("int64", "I64", b"\x01\0\0\0\0\0\0\x80"),
    ("uint8", "U8", b"\xff\x00"), ("uint16", "U16", b"\xfe\xff"), ("uint32", "U32", b"\1\2\3\4"),
    ("uint64", "U64", b"\xff" * 8), ("float16", "F16", b"\x00\x3c\x01\x7e"),
    ("bfloat16", "BF16", b"\x80\x3f\xc1\xff"), ("float32", "F32", b"\x01\x00\xa0\x7f"),
    ("float64", "F64", b"\1\0\0\0\0\0\xf4\x7f"), ("complex64", "C64", struct.pack("<2f", 1, -2)),
    ("complex128", "F64", struct.pack("<2d", 1, -2)), ("complex32", "U32", b"\x00\x3c\x00\xc0"),
    ("float8_e3m4", "U8", b"\x30\x81"), ("float8_e4m3", "U8", b"\x38\x81"),
    ("float8_e4m3fn", "F8_E4M3", b"\x38\xff"), ("float8_e4m3fnuz", "U8", b"\x40\x80"),
    ("float8_e4m3b11fnuz", "U8", b"\x58\x80"), ("float8_e5m2", "F8_E5M2", b"\x3c\x7e"),
    ("float8_e5m2fnuz", "U8", b"\x40\x80"), ("float8_e8m0fnu", "F8_E8M0", b"\x7f\xff"),
    ("float6_e2m3fn", "U8", b"\x08\x3f"), ("float6_e3m2fn", "U8", b"\x0c\x3f"),
    ("float4_e2m1fn", "U8", b"\x02\x0f"), ("int4", "U8", b"\x07\x08"), ("uint4", "U8", b"\x0f\x01"),
    ("int2", "U8", b"\x01\x02"), ("uint2", "U8", b"\x03\x00"), ("float4_e2m1fn_x2", "U8", b"\x2f"),
    ("qint8", "U8", b"\xff\x01"), ("quint8", "U8", b"\xff\x01"), ("qint16", "U16", b"\xff\xff"),
    ("quint16", "U16", b"\xff\xff"), ("qint32", "U32", b"\xff\xff\xff\xff"),
    ("quint4x2", "U8", b"\x21"), ("quint2x4", "U8", b"\xe4"), ("bits8", "U8", b"\xaa"),
    ("bits16", "U16", b"\xaa\x55"), ("bits1x8", "U8", b"\xaa"), ("bits2x4", "U8", b"\xaa"),
    ("bits4x2", "U8", b"\xaa"),
)  # fmt: skip
SIZES = {"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2,
         "I16": 2, "U16": 2}  # fmt: skip


def vectors() -> dict[str, Vector]:
    return {**_dtypes(), **_views(), **_boxes(), **_bytes()}


def _dtypes() -> dict[str, Vector]:
    found = {
        f"dtype-{name.replace('_', '-')}": of([_of(name, code, data)], "T-2 S-3")
        for name, code, data in DTYPES
    }
    text = strings(b"a", b"", "größe".encode(), b"\xff\x00")
    found["strings-of-any-length"] = of([T("s", "string", [2, 2], text, "U8", [len(text)])], "T-10")
    none = strings()
    found["a-string-tensor-without-elements"] = of(
        [T("s", "string", [0, 3], none, "U8", [8])], "T-10"
    )
    return found


def _of(name: str, code: str, data: bytes) -> T:
    size = 16 if name == "complex128" else SIZES.get(code, 1)
    shape = [len(data) // size]
    return T(name, name, shape, data, code, [*shape, 2] if name == "complex128" else None)


def _views() -> dict[str, Vector]:
    six = f32("w", 1, 2, 3, 4, 5, 6, shape=[2, 3])
    storage = f32("~storage/0", 1, 2, 3, 4, 5, 6)
    text = strings(b"ab", b"c")
    words = T("s", "string", [2], text, "U8", [len(text)])
    return {
        "two-names-of-one-tensor": of(
            [six], "N-11", ["dict", "a", ["tensor", 0], "b", ["list", ["tensor", 0]]]
        ),
        "attributes-stand-where-a-tensor-stands-first": of(
            [six],
            "N-7",
            ["list", ["tensor", 0, "requires_grad", True, "x", ["tuple", 1]], ["tensor", 0]],
        ),
        "a-tensor-that-is-an-attribute": of(
            [six, f32("g", 1.0)], "N-7", ["list", ["tensor", 0, "grad", ["tensor", 1]]]
        ),
        "two-tensors-over-one-storage": of(
            [six, V("tied", "float32", [2, 3], 0, 0, [12, 4])], "N-11 T-11", shared=[[0, 1]]
        ),
        "a-transposed-view": of(
            [six, V("t", "float32", [3, 2], 0, 0, [4, 12])], "T-13", shared=[[0, 1]]
        ),
        "a-view-before-what-it-is-a-view-of": of(
            [V("row", "float32", [3], 1, 12, [4]), six], "T-11", shared=[[0, 1]]
        ),
        "slices-of-a-storage-that-the-tree-does-not-hold": of(
            [
                V("a", "float32", [2], 2, 4, [4]),
                V("b", "float32", [2, 2], 2, 8, [8, 4]),
                storage,
            ],
            "N-11 T-13",
            ["list", ["tensor", 0], ["tensor", 1]],
            shared=[[0, 1]],
        ),
        "a-view-that-repeats-an-element": of(
            [six, V("e", "float32", [2, 2], 0, 20, [0, 0])], "T-13", shared=[[0, 1]]
        ),
        "a-view-of-another-dtype": of(
            [six, V("half", "float16", [3, 2], 0, 2, [4, 2]), V("raw", "uint8", [24], 0, 0, [1])],
            "T-13",
            shared=[[0, 1, 2]],
        ),
        "a-view-of-one-element": of(
            [six, V("x", "float32", [], 0, 8, [])], "T-13", shared=[[0, 1]]
        ),
        "a-view-without-elements": of(
            [six, V("x", "float32", [0, 5], 0, 999, [1000, 4])], "T-13", shared=[[0, 1]]
        ),
        "a-view-of-strings": of(
            [words, V("again", "string", [2], 0, 0, []), V("raw", "uint8", [27], 0, 0, [1])],
            "T-10 T-13",
            shared=[[0, 1, 2]],
        ),
    }


def merged(name: str, shape: list[int], regions: list[tuple[list[int], list[int]]]) -> Document:
    """A tensor whose boxes are the first tensors of a draft, at these starts and shapes."""
    return {"name": name, "dtype": "float32", "shape": shape, "regions": regions}


def boxed(parts: list[T], whole: Document, rest: list[V] | None = None, shards: int = 1) -> Files:
    """A checkpoint of one tensor whose boxes are `parts`."""
    regions = whole["regions"]
    facts = {key: value for key, value in whole.items() if key != "regions"}

    def edit(manifest: Document) -> None:
        boxes = [
            {**made["boxes"][0], "start": start, "shape": shape, "key": made["name"]}
            for made, (start, shape) in zip(manifest["tensors"], regions, strict=False)
        ]
        manifest["tensors"] = [{**facts, "boxes": boxes}, *manifest["tensors"][len(boxes) :]]

    tree = ["list", *(["tensor", n] for n in range(1 + len(rest or [])))]
    files = Draft([*parts, *(rest or [])], tree, edit=edit).files()
    return files if shards == 1 else _spread(files, parts, facts, regions)


def _spread(
    files: Files, parts: list[T], facts: Document, regions: list[tuple[list[int], list[int]]]
) -> Files:
    """The same with each box in a shard of its own."""
    import json

    manifest = json.loads(files["manifest.json"])
    del manifest["digest"]
    manifest["shards"], boxes = [], []
    made = {"state.msgpack": files["state.msgpack"]}
    for number, (part, (start, shape)) in enumerate(zip(parts, regions, strict=True)):
        spelled = {"dtype": "F32", "shape": part.shape, "data_offsets": [0, len(part.data)]}
        head, data = shard_bytes({facts["name"]: spelled}, part.data)
        name = f"shard-{number:05}.safetensors"
        made[name] = head + data
        manifest["shards"].append(
            {"file": name, "size": len(head + data), "header_size": 4096,
             "header_digest": digest(head)}
        )  # fmt: skip
        boxes.append(
            {"shard": number, "offset": 4096, "digests": chunk_digests(data), "start": start,
             "shape": shape}
        )  # fmt: skip
    manifest["tensors"] = [{**facts, "boxes": boxes}]
    return {"manifest.json": seal(manifest), **made}


def _boxes() -> dict[str, Vector]:
    rows = [f32("a", 1, 2, 3, shape=[1, 3]), f32("b", 4, 5, 6, 7, 8, 9, shape=[2, 3])]
    bands = merged("w", [3, 3], [([0, 0], [1, 3]), ([1, 0], [2, 3])])
    nine = struct.pack("<9f", *range(1, 10))
    whole = ("float32", [3, 3], nine)
    quarters = [
        f32("a", 1, shape=[1, 1]), f32("b", 2, 3, shape=[1, 2]), f32("c", 4, 7, shape=[2, 1]),
        f32("d", 5, 6, 8, 9, shape=[2, 2]),
    ]  # fmt: skip
    grid = merged(
        "w", [3, 3],
        [([0, 0], [1, 1]), ([0, 1], [1, 2]), ([1, 0], [2, 1]), ([1, 1], [2, 2])],
    )  # fmt: skip
    turned = struct.pack("<9f", 1, 4, 7, 2, 5, 8, 3, 6, 9)
    pinwheel = [
        f32("a", 1, 2, shape=[1, 2]), f32("b", 3, 6, shape=[2, 1]), f32("c", 8, 9, shape=[1, 2]),
        f32("d", 4, 7, shape=[2, 1]), f32("e", 5, shape=[1, 1]),
    ]  # fmt: skip
    mill = merged(
        "w", [3, 3],
        [([0, 0], [1, 2]), ([0, 2], [2, 1]), ([2, 1], [1, 2]), ([1, 0], [2, 1]), ([1, 1], [1, 1])],
    )  # fmt: skip
    tree = ["list", ["tensor", 0]]
    return {
        "boxes-that-follow-each-other": (boxed(rows, bands), means("T-5 T-9", tree, [whole])),
        "a-view-of-boxes-that-follow-each-other": (
            boxed(rows, bands, [V("t", "float32", [3, 3], 0, 0, [4, 12])]),
            means("T-12", ["list", ["tensor", 0], ["tensor", 1]],
                  [whole, ("float32", [3, 3], turned)], [[0, 1]]),
        ),
        "boxes-in-a-grid": (boxed(quarters, grid), means("T-5", tree, [whole])),
        "boxes-like-a-pinwheel": (boxed(pinwheel, mill), means("T-5", tree, [whole])),
        "boxes-in-shards-of-their-own": (
            boxed(quarters, grid, shards=4), means("T-5 T-9 S-3", tree, [whole]),
        ),
        "a-box-under-a-key-of-its-own": of(
            [T("w", "float32", [1], b"\0\0\x80\x3f", "F32", box={"key": "other"})], "T-9 S-3"
        ),
        "an-empty-tensor-without-boxes": (
            Draft([f32("x", 1.0), T("w", "float32", [0, 3], b"", "F32")], ["list", ["tensor", 1]],
                  edit=_without_boxes, edit_header=lambda header: header.pop("w")).files(),
            means("T-5", ["list", ["tensor", 1]], [("float32", [1], b"\0\0\x80\x3f"),
                                                 ("float32", [0, 3], b"")]),
        ),
    }  # fmt: skip


def _without_boxes(manifest: Document) -> None:
    manifest["tensors"][1]["boxes"] = []


def _bytes() -> dict[str, Vector]:
    big = bytes(range(256)) * 40
    return {
        "a-tensor-without-dimensions": of([f32("w", 3.5, shape=[])], "T-3"),
        "a-tensor-without-elements": of(
            [T("w", "float32", [2, 0, 3], b"", "F32"), f32("v", 1.0)], "T-7"
        ),
        "a-matrix-in-c-order": of([f32("w", 1, 2, 3, 4, 5, 6, shape=[2, 3])], "T-3"),
        "a-tensor-of-several-chunks": of([T("w", "uint8", [len(big)], big, "U8")], "T-7 T-8"),
        "a-tensor-of-just-two-chunks": of([T("w", "uint8", [8192], big[:8192], "U8")], "T-7 G-2"),
        "tensors-aligned-to-their-elements": of(
            [
                T("bytes", "uint8", [3], b"abc", "U8"),
                T("aligned", "uint8", [64], bytes(range(64)), "U8"),
            ],
            "S-5 S-6",
        ),
        "names-that-look-like-paths": of(
            [f32("../../etc/passwd", 1.0), f32("/", 2.0), f32("C:\\x", 3.0), f32(".", 4.0)], "T-1"
        ),
        "names-of-any-text": of(
            [f32("größe 名前 𝄞", 1.0), f32('"\\', 2.0), f32("~u0000", 3.0), f32(" ", 4.0)], "T-1"
        ),
        "sixty-four-dimensions": of([f32("w", 1.0, shape=[1] * 64)], "L-3"),
    }  # fmt: skip
