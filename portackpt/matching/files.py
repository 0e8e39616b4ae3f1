"""Mapping files: TOML that a person reads, edits and passes with `--map`.

    source = "torch"
    target = "flax"

    [layers]            # every leaf of a layer, by its kind
    "h.{i}.ln_1" = { to = "params/h_{i}/ln_1", kind = "layer_norm" }

    [leaves]            # one leaf
    "h.{i}.attn.c_attn.weight" = { to = "params/h_{i}/attn/qkv/kernel", kind = "linear" }
    "head.weight" = { to = "params/head", axes = "out in -> in out" }

    [only_source]       # no place in the target: the reason, or the leaf that it is tied to
    "h.{i}.attn.bias" = "the causal mask; the model makes it"
    "lm_head.weight" = { tied = "wte.weight" }

    [only_target]       # keeps what the template holds
    "params/temperature" = "new in this program"

Other keys of a layer or leaf are sizes of axes (`head = 12`) and `shape`, that of feature maps
before they were flattened, channels first. See `patterns` for what names may capture.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping as AbstractMapping
from pathlib import Path
from typing import Any

from portackpt.errors import InputError, UsageError, located
from portackpt.layouts.dialects import Dialect
from portackpt.layouts.kinds import Kind
from portackpt.layouts.translation import whole_axes
from portackpt.matching.mapping import Mapping
from portackpt.matching.rules import Rule

_TABLES = ("layers", "leaves", "only_source", "only_target")
_WORDS = ("to", "kind", "axes", "tied", "tied_target")
_LARGEST = 16 << 20
"""Bytes of a mapping file, at most."""


def read(path: Path) -> Mapping:
    """The mapping in the file at `path`."""
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"a mapping file has {_LARGEST} bytes at most", str(path))
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror or error}", str(path)) from error
    except UnicodeDecodeError as error:
        raise UsageError("a mapping file is UTF-8 text", str(path)) from error
    with located(str(path)):
        return parse(text)


def parse(text: str) -> Mapping:
    """The mapping that `text` spells; `UsageError` with the place of what is wrong."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"this is not TOML: {error}") from error
    unknown = set(document) - {"source", "target", "title", *_TABLES}
    if unknown:
        raise UsageError(f"unknown {', '.join(sorted(unknown))}; known are source, target, title, "
                         f"{', '.join(_TABLES)}")  # fmt: skip
    source, target = (_dialect(document, side) for side in ("source", "target"))
    rules: list[Rule] = []
    for table in _TABLES:
        lines = document.get(table, {})
        if not isinstance(lines, dict):
            raise UsageError(f"expected a table [{table}], found {lines!r}")
        for name, value in lines.items():
            with located(f"[{table}] {name!r}"):
                rule = _only(table, name, value) if table.startswith("only") else (
                    _mapped(name, value, table == "layers")
                )  # fmt: skip
                rule.patterns(source, target)
                rules.append(rule)
    title = document.get("title", "")
    return Mapping(source, target, tuple(rules), title if isinstance(title, str) else "")


def _dialect(document: AbstractMapping[str, Any], side: str) -> Dialect:
    found = document.get(side)
    if found not in list(Dialect):
        raise UsageError(f"{side} has to be one of {', '.join(Dialect)}, found {found!r}")
    return Dialect(str(found))


def _mapped(name: str, value: Any, layer: bool) -> Rule:
    if isinstance(value, str):
        value = {"to": value}
    if not isinstance(value, dict) or not isinstance(value.get("to"), str):
        raise UsageError(f'expected {{ to = "name", … }}, found {value!r}')
    kind = value.get("kind")
    if kind is not None and kind not in list(Kind):
        raise UsageError(f"unknown kind {kind!r}; known are {', '.join(Kind)}")
    if layer and kind is None:
        raise UsageError(f"a layer needs its kind: one of {', '.join(Kind)}")
    axes = _text(value, "axes")
    if axes:
        whole_axes(axes)
    return Rule(
        name,
        value["to"],
        layer,
        None if kind is None else Kind(kind),
        axes,
        {key: _option(key, item) for key, item in value.items() if key not in _WORDS},
        tied_source=_text(value, "tied"),
        tied_target=_text(value, "tied_target"),
    )


def _option(key: str, value: Any) -> int | tuple[int, ...]:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0 and key != "shape":
        return value
    if key == "shape" and isinstance(value, list) and value and all(
        isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in value
    ):  # fmt: skip
        return tuple(value)
    raise UsageError(f"{key} has to be {'a list of sizes' if key == 'shape' else 'a size'}, "
                     f"found {value!r}")  # fmt: skip


def _only(table: str, name: str, value: Any) -> Rule:
    reason = value if isinstance(value, str) else ""
    tied = _text(value, "tied") if isinstance(value, dict) and set(value) == {"tied"} else ""
    if reason or tied:
        if table == "only_source":
            return Rule(name, None, reason=reason, tied_source=tied)
        return Rule(None, name, reason=reason, tied_target=tied)
    raise UsageError(f'expected the reason, or {{ tied = "name" }}, found {value!r}')


def _text(value: AbstractMapping[str, Any], key: str) -> str:
    found = value.get(key, "")
    if not isinstance(found, str):
        raise UsageError(f"{key} has to be text, found {found!r}")
    return found


def spell(mapping: Mapping) -> str:
    """The mapping as the text of a file; `parse` gives it back, but for what is remarked."""
    lines = [] if not mapping.title else [f"title = {quote(mapping.title)}"]
    lines += [f"source = {quote(mapping.source)}", f"target = {quote(mapping.target)}"]
    tables: dict[str, list[tuple[str, Rule]]] = {table: [] for table in _TABLES}
    for rule in mapping.rules:
        table = (
            "only_target" if rule.source is None
            else "only_source" if rule.target is None
            else "layers" if rule.layer else "leaves"
        )  # fmt: skip
        tables[table].append((_line(rule), rule))
    for table, rules in tables.items():
        if rules:
            width = min(100, max(len(line) for line, _ in rules))
            lines += ["", f"[{table}]"]
            lines += [_remarked(line, rule, width) for line, rule in rules]
    if mapping.remarks:
        lines += ["", *[f"# {_CONTROL.sub(' ', remark)}" for remark in mapping.remarks]]
    return "\n".join(lines) + "\n"


def _line(rule: Rule) -> str:
    name = rule.source if rule.source is not None else rule.target
    assert name is not None
    return f"{quote(name)} = {_value(rule)}"


def _value(rule: Rule) -> str:
    tied = rule.tied_source or rule.tied_target
    if rule.source is None or rule.target is None:
        return f"{{ tied = {quote(tied)} }}" if tied else quote(rule.reason)
    parts = [f"to = {quote(rule.target)}"]
    for key, text in (("kind", rule.kind), ("axes", rule.axes), ("tied", rule.tied_source),
                      ("tied_target", rule.tied_target)):  # fmt: skip
        if text:
            parts.append(f"{key} = {quote(text)}")
    for key, value in rule.options.items():
        parts.append(f"{key} = {list(value) if isinstance(value, tuple) else value}")
    return f"{{ {', '.join(parts)} }}"


def _remarked(line: str, rule: Rule, width: int) -> str:
    if rule.confidence is None:
        return line
    return f"{line:<{width}}  # {rule.confidence:.2f} {_CONTROL.sub(' ', rule.evidence)}".rstrip()


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def quote(text: str) -> str:
    """`text` as a basic string of TOML."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04X}", escaped) + '"'
