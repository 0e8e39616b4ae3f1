"""Valid vectors of files, manifests and trees."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

from making.draft import Document, Draft, Files, T, Vector, f32, means, of, one, seal_text

NAN = struct.unpack(">d", bytes.fromhex("7ff4deadbeef0001"))[0]


def vectors() -> dict[str, Vector]:
    return {**_files(), **_roots(), **_manifests(), **_trees()}


def _files() -> dict[str, Vector]:
    plain = Draft([f32("w", 1.0)], ["tensor", 0]).files()
    facts = [("float32", [1], struct.pack("<f", 1.0))]
    folders = Draft([f32("w", 1.0)], ["tensor", 0], edit=_in_folders).files()
    folders["data_1/shards/part.0.safetensors"] = folders.pop("shard-00000.safetensors")
    folders["trees/A-tree_.msgpack"] = folders.pop("state.msgpack")
    others = {
        "README.md": b"hello\n",
        ".manifest.json.swp": b"",
        "shard-00001.safetensors": b"\x00",
        "step-5": b"",
    }
    return {
        "a-checkpoint-of-one-tensor": (plain, means("D-1 M-1 S-1 S-4", ["tensor", 0], facts)),
        "a-checkpoint-without-tensors": one(None, "D-1 M-8"),
        "files-in-folders": (folders, means("D-3", ["tensor", 0], facts)),
        "files-that-the-manifest-does-not-name": (
            {**plain, **others},
            means("D-8", ["tensor", 0], facts),
        ),
    }


def _in_folders(manifest: Document) -> None:
    manifest["shards"][0]["file"] = "data_1/shards/part.0.safetensors"
    manifest["state"]["file"] = "trees/A-tree_.msgpack"


def _step(step: int) -> Files:
    return Draft(tree=step, members={"step": step}).files()


def _below(folder: str, files: Files) -> Files:
    return {f"{folder}/{name}": data for name, data in files.items()}


def _roots() -> dict[str, Vector]:
    unfinished = _below("step-30", _step(30))
    del unfinished["step-30/manifest.json"]
    damaged = _below("step-30", _step(30))
    damaged["step-30/manifest.json"] = damaged["step-30/manifest.json"].replace(b"30", b"31", 1)
    both = {**_below("step-9", _step(9)), **_below("step-20", _step(20))}
    junk = {
        ".step-40.tmp-0123/manifest.json": b"",
        "step-50.old/manifest.json": b"",
        "step-/x": b"",
        "latest": b"step-9",
        "step-60": b"a file, no directory",
    }
    return {
        "a-root-of-steps": ({**both, **junk}, means("D-9 D-10", 20, step=20)),
        "a-step-that-was-asked-for": (both, means("D-9", 9, step=9, ask=9)),
        "steps-with-leading-zeros": (
            {**_below("step-0009", _step(9)), **_below("step-00000000000000000020", _step(20))},
            means("D-9", 20, step=20),
        ),
        "a-newer-step-without-manifest": (both | unfinished, means("D-10", 20, step=20)),
        "a-newer-step-with-a-damaged-manifest": (both | damaged, means("D-10", 20, step=20)),
        "the-largest-step": (
            _below(f"step-{(1 << 63) - 1}", _step((1 << 63) - 1)),
            means("D-9", (1 << 63) - 1, step=(1 << 63) - 1),
        ),
    }


def _rewritten(manifest: bytes, **json_options: Any) -> bytes:
    """The same manifest in another spelling, but for its last member."""
    document = json.loads(manifest)
    del document["digest"]
    return seal_text(json.dumps(document, **json_options).encode().rstrip(b"\n}"))


def _manifests() -> dict[str, Vector]:
    spaced = Draft(tree=1).files()
    spaced["manifest.json"] = _rewritten(spaced["manifest.json"], indent=2)
    escaped = Draft([f32("größe", 1.0)], ["tensor", 0], members={"notes": ["☃ 𝄞"]}).files()
    escaped["manifest.json"] = _rewritten(escaped["manifest.json"], ensure_ascii=True)
    facts = [("float32", [1], struct.pack("<f", 1.0))]
    reordered = Draft(tree=1).files()
    document = json.loads(reordered["manifest.json"])
    names = ["portackpt", *sorted(document.keys() - {"portackpt", "digest"}, reverse=True)]
    body = json.dumps({name: document[name] for name in names}).encode()[:-1]
    reordered["manifest.json"] = seal_text(body)
    unknown = {
        "later": {"x": [1, 2.5, None, -(1 << 63), (1 << 64) - 1]},
        "source": {"format": "portackpt", "later": True},
    }
    described = {
        "source": {"format": "pytorch", "framework": "pytorch", "framework_version": "2.1.0"},
        "step": 7,
        "notes": ["pytorch: this format has no checksums"],
        "sections": [{"item": "model", "kind": "model"}, {"item": "a~1b"}],
    }
    tree = ["dict", "model", ["dict", "w", ["tensor", 0]], "a/b", ["list", 1]]
    nulls = {"step": None, "notes": None, "sections": None}
    return {
        "a-manifest-with-spaces": (spaced, means("M-1 M-6", 1)),
        "a-manifest-with-escapes": (escaped, means("M-2", ["tensor", 0], facts)),
        "members-in-another-order": (reordered, means("M-1 M-6", 1)),
        "members-that-nobody-knows": of(
            [T("0", "uint8", [1], b"x", "U8", members={"later": 1}, box={"later": [2]})],
            "M-4 M-5",
            members=unknown,
            kept={"later": unknown["later"], "tensors": {"0": {"later": 1}}},
        ),
        "a-later-minor-version": (
            Draft(tree=1, members={"portackpt": [1, 99], "later": {}}).files(),
            means("V-2", 1),
        ),
        "step-source-notes-and-sections": of(
            [f32("model/w", 1.0)],
            "M-8",
            tree,
            members=described,
            step=7,
            framework="pytorch",
            framework_version="2.1.0",
            notes=described["notes"],
        ),
        "a-role": of([T("0", "uint8", [1], b"x", "U8", members={"role": "buffer"})], "M-8"),
        "optional-members-that-are-null": (
            Draft(
                [
                    T(
                        "w",
                        "uint8",
                        [1],
                        b"x",
                        "U8",
                        members={"view": None},
                        box={"start": None, "shape": None, "key": None, "nbytes": None},
                    )
                ],
                ["tensor", 0],
                members=nulls,
            ).files(),
            means("M-8 T-9", ["tensor", 0], [("uint8", [1], b"x")]),
        ),
        "digests-by-sha2": _sha2(),
    }


def _sha2() -> Vector:
    def sha(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    files = Draft([f32("w", 1.0)], ["tensor", 0]).files()
    document = json.loads(files["manifest.json"])
    del document["digest"]
    shard = files["shard-00000.safetensors"]
    document["digest_algorithm"] = "sha2-256"
    document["state"]["digest"] = sha(files["state.msgpack"])
    document["shards"][0]["header_digest"] = sha(shard[:4096])
    document["tensors"][0]["boxes"][0]["digests"] = sha(shard[4096:])
    body = json.dumps(document).encode()[:-1] + b',"digest":"sha2-256:'
    zeros = body + b"0" * 64 + b'"}\n'
    files["manifest.json"] = body + sha(zeros).encode() + b'"}\n'
    return files, means("G-1 G-3", ["tensor", 0], [("float32", [1], struct.pack("<f", 1.0))])


def _trees() -> dict[str, Vector]:
    deep: Any = ["list"]
    for _ in range(255):
        deep = ["list", deep]
    plain = [1, 1.0, True, False, None, "x", b"x", "", b"", -1, -0.0, 0]
    thing = ["object", "a.Thing", ["tuple", 1], ["list", 2], ["dict", 3, 4], ["dict", "s", 5]]
    keys = ["dict", "a", 1, 7, 2, -1.5, 3, None, 4, b"a", 5, ["tuple", 1, ["tuple", "x"]], 6,
            ["int", str(1 << 70)], 7, ["complex", 0.0, 1.0], 8,
            ["object", "a.Kind", ["tuple"], None, None, None], 9, "", 10, ["str", b"\xed\xa0\x80"],
            11]  # fmt: skip
    wide = (
        b"\xdd\x00\x00\x00\x03\xa5tuple"
        b"\xdc\x00\x06\xa4list\xd3\x00\x00\x00\x00\x00\x00\x00\x05\xcd\x00\x06"
        b"\xdb\x00\x00\x00\x01x\xc6\x00\x00\x00\x01y\xd0\x05"
        b"\xdc\x00\x01\xa4dict"
    )
    return {
        "plain-values-keep-their-types": one(["list", *plain], "N-2 N-12"),
        "floats-keep-their-bits": one(
            ["list", NAN, -NAN, float("inf"), 5e-324, 1e308, -0.0], "N-12"
        ),
        "lists-tuples-and-dicts": one(
            ["dict", "l", ["list", 1, ["list"]], "t", ["tuple", 1, ["tuple"]], "d", ["dict"]], "N-2"
        ),
        "integers-at-the-edges-of-64-bits": one(
            ["list", -(1 << 63), (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 127, -32, -33, 255], "N-2"
        ),
        "integers-beyond-64-bits": one(
            ["list", ["int", str(1 << 64)], ["int", str(-(1 << 63) - 1)], ["int", "9" * 4300]],
            "N-4",
        ),
        "complex-numbers": one(["list", ["complex", 1.5, -0.0], ["complex", NAN, 0.0]], "N-5"),
        "text-with-lone-surrogates": one(
            ["list", ["str", b"a\xed\xa0\x80"], "𝄞 größe \x00"], "N-6"
        ),
        "keys-of-every-kind": one(keys, "N-3"),
        "dicts-keep-their-order": one(["dict", "b", 1, "a", 2, 1, 3, "c", 4], "N-2"),
        "an-object-of-every-part": one(thing, "N-8"),
        "an-object-that-is-a-name": one(
            ["object", "torch.float32", ["tuple"], None, None, None], "N-8"
        ),
        "an-object-with-other-state": one(
            ["object", "a.Thing", ["tuple"], None, ["dict"], ["tuple", ["dict"], 1]], "N-8"
        ),
        "the-details-of-a-format": (
            Draft(tree=1, details=["dict", "prefix", "archive", "raw", b"\x00"]).files(),
            means("N-1", 1, details=["dict", "prefix", "archive", "raw", ["bytes", "00"]]),
        ),
        "wider-encodings-than-needed": (
            Draft(state=wide).files(),
            means("N-1", ["list", 5, 6, "x", b"y", 5]),
        ),
        "as-deep-as-allowed": one(deep, "L-7"),
        "text-longer-than-a-short-string": one(["list", "x" * 32, "y" * 256, b"z" * 256], "N-1"),
    }  # fmt: skip
