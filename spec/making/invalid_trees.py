"""Invalid vectors of trees, most of them written byte by byte."""

from __future__ import annotations

from typing import Any

import msgpack

from making.draft import Draft, Vector, f32, fault

NIL_DETAILS = b"\x91\xa4dict"


def vectors() -> dict[str, Vector]:
    return {**_grammar(), **_nodes(), **_roots()}


def raw(tree: bytes, codes: str, message: str) -> Vector:
    """The bytes of a tree in an otherwise good state file."""
    state = b"\x93\xa5tuple" + tree + NIL_DETAILS
    return Draft([f32("w", 1.0)], state=state).files(), fault(codes, message)


def whole(state: bytes, codes: str, message: str) -> Vector:
    return Draft(state=state).files(), fault(codes, message)


def node(tree: Any, codes: str, message: str) -> Vector:
    return raw(msgpack.packb(tree), codes, message)


def _grammar() -> dict[str, Vector]:
    good = b"\x93\xa5tuple\x01" + NIL_DETAILS
    return {
        "an-empty-state-file": whole(b"", "N-1", "ends early"),
        "a-state-file-that-ends-in-a-tree": whole(good[:-3], "N-1", "ends early"),
        "bytes-after-the-state": whole(good + b"\xc0", "N-1", "nothing after the tree"),
        "a-map-of-messagepack": raw(b"\x81\xa1a\x01", "N-1", "found a map"),
        "a-32-bit-float": raw(b"\xca\x3f\x80\x00\x00", "N-1", "found a 32-bit float"),
        "an-extension-type": raw(b"\xd6\xff\x00\x00\x00\x00", "N-1", "found an extension type"),
        "an-unused-code": raw(b"\xc1", "N-1", "found an unused code"),
        "text-that-is-not-utf-8": raw(b"\xa2\xc3\x28", "N-1", "expected UTF-8"),
        "text-with-an-encoded-surrogate": raw(b"\xa3\xed\xa0\x80", "N-1", "expected UTF-8"),
        "text-longer-than-the-file": raw(b"\xdb\x7f\xff\xff\xff", "N-1", "found 2147483647"),
        "binary-longer-than-the-file": raw(b"\xc6\xff\xff\xff\xff", "N-1", "found 4294967295"),
        "an-array-longer-than-the-file": raw(b"\xdd\xff\xff\xff\xff", "N-1", "found 4294967295"),
        "an-array-that-ends-early": raw(b"\x9f\xa4list\x01", "N-1", "ends early"),
        "an-array-without-a-tag": raw(b"\x90", "N-2", "the tag of an array"),
        "an-array-whose-tag-is-a-number": raw(b"\x91\x01", "N-2", "the tag of an array"),
        "an-array-whose-tag-is-long": raw(b"\x91\xd9\x04list", "N-2", "the tag of an array"),
        "an-unknown-tag": node(["set", 1], "N-2", "the tag of an array"),
    }


def _nodes() -> dict[str, Vector]:
    deep: Any = ["list"]
    for _ in range(256):
        deep = ["list", deep]
    named = ["tuple"]
    return {
        "a-key-without-a-value": node(["dict", 1], "N-3", "a key without a value"),
        "a-key-twice": node(["dict", "a", 1, "a", 2], "N-3", "a key stands twice"),
        "a-list-as-a-key": node(["dict", ["list"], 1], "N-3", "no plain value"),
        "a-dict-as-a-key": node(["dict", ["dict"], 1], "N-3", "no plain value"),
        "a-tensor-as-a-key": node(["dict", ["tensor", 0], 1], "N-3", "no plain value"),
        "a-list-in-a-tuple-as-a-key": node(
            ["dict", ["tuple", ["list"]], 1], "N-3", "no plain value"
        ),
        "a-big-integer-that-is-small": node(["int", "5"], "N-4", "fits into 64 bits"),
        "a-big-integer-with-a-leading-zero": node(
            ["int", "0" + "9" * 30], "N-4", "not in decimal digits"
        ),
        "a-big-integer-with-underscores": node(
            ["int", "1_000_000_000_000_000_000_000"], "N-4", "not in decimal digits"
        ),
        "a-big-integer-in-other-digits": node(["int", "٣" * 30], "N-4", "not in decimal digits"),
        "a-big-integer-that-is-no-number": node(["int", "x"], "N-4", "'int' array"),
        "a-big-integer-of-4301-digits": node(["int", "9" * 4301], "N-4", "too many digits"),
        "a-complex-number-of-integers": node(["complex", 1, 2], "N-5", "no floats"),
        "a-complex-number-of-one-part": node(["complex", 1.0], "N-5", "'complex' array"),
        "marked-text-without-a-surrogate": node(["str", b"abc"], "N-6", "no lone surrogate"),
        "marked-text-that-is-no-binary": node(["str", "abc"], "N-6", "no bytes"),
        "marked-text-that-is-not-utf-8": node(["str", b"\xff"], "N-6", "'str' array"),
        "a-tensor-without-a-number": node(["tensor"], "N-7", "its number is missing"),
        "a-tensor-whose-number-is-text": node(["tensor", "0"], "N-7", "its number is missing"),
        "a-tensor-whose-number-is-true": node(["tensor", True], "N-7", "its number is missing"),
        "an-attribute-without-a-value": node(["tensor", 0, "a"], "N-7", "a key without a value"),
        "an-attribute-whose-name-is-a-number": node(
            ["tensor", 0, 1, 2], "N-7", "an attribute's name is no text"
        ),
        "an-attribute-twice": node(["tensor", 0, "a", 1, "a", 2], "N-7", "stands twice"),
        "attributes-where-a-tensor-stands-again": node(
            ["list", ["tensor", 0], ["tensor", 0, "a", 1]], "N-7", "stands here again"
        ),
        "an-object-of-four-parts": node(["object", "x", named, None, None], "N-8", "'object'"),
        "an-object-whose-type-is-a-number": node(
            ["object", 1, named, None, None, None], "N-8", "its type is no text"
        ),
        "an-object-whose-arguments-are-a-list": node(
            ["object", "x", ["list"], None, None, None], "N-8", "no tuple"
        ),
        "an-object-whose-arguments-are-nil": node(
            ["object", "x", None, None, None, None], "N-8", "no tuple"
        ),
        "an-object-whose-items-are-a-tuple": node(
            ["object", "x", named, named, None, None], "N-8", "no list"
        ),
        "an-object-whose-entries-are-a-list": node(
            ["object", "x", named, None, ["list"], None], "N-8", "no dict"
        ),
        "a-tensor-beyond-the-index": node(["tensor", 1], "N-9", "tensor 1 of 1"),
        "a-tensor-before-the-index": node(["tensor", -1], "N-9", "tensor -1 of 1"),
        "deeper-than-256-levels": node(deep, "L-7", "nested deeper than"),
        "a-thousand-open-arrays": raw(b"\x92\xa4list" * 1000, "L-7", "nested deeper than"),
    }


def _roots() -> dict[str, Vector]:
    return {
        "a-state-that-is-a-dict": whole(
            msgpack.packb(["dict", "tree", 1]), "N-1", "a tuple of the tree"
        ),
        "a-state-without-details": whole(msgpack.packb(["tuple", 1]), "N-1", "a tuple of the tree"),
        "details-that-are-a-list": whole(
            msgpack.packb(["tuple", 1, ["list"]]), "N-1", "a tuple of the tree"
        ),
        "a-state-that-is-a-plain-value": whole(b"\x01", "N-1", "a tuple of the tree"),
    }
