"""Patterns: many names in one line, with the parts that differ captured by name.

    h.{i}.attn.c_attn       {i}       a number
    {block*}/dense          {block*}  one component
    {path**}/dense          {path**}  one component or more
    **/h/{i}/ln_1           **/       any components before, or none: as the template has them
    rnn.*_l{i}              *         the layer's own name of a leaf; at the end if nowhere else

What one side captures, the other has to use: a rule reads backward as well as forward. Only the
components before may be open on one side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from portackpt.errors import UsageError

PREFIX = "**"
STEM = "*"
_TOKEN = re.compile(r"\{([A-Za-z_]\w*)(\*{0,2})\}|(\*)")


@dataclass(frozen=True)
class Pattern:
    """A parsed pattern over names whose components are set apart by `separator`."""

    text: str
    separator: str

    @cached_property
    def has_prefix(self) -> bool:
        """Whether it begins with `**` and a separator."""
        return self.text.startswith(PREFIX + self.separator)

    @cached_property
    def body(self) -> str:
        return self.text.removeprefix(PREFIX + self.separator) if self.has_prefix else self.text

    @cached_property
    def captures(self) -> frozenset[str]:
        """What it captures, by name; not the components before, which a side may do without."""
        names = [match[1] for match in _TOKEN.finditer(self.body) if match[1]]
        if len(set(names)) != len(names):
            raise UsageError(f"a capture comes twice in {self.text!r}")
        if re.sub(_TOKEN, "", self.body).count("{") or self.body.count(STEM + STEM + "/"):
            raise UsageError(f"cannot read the pattern {self.text!r}")
        return frozenset(names)

    def layer(self) -> Pattern:
        """The pattern of a layer: with a place for the names of its leaves."""
        if any(match[3] for match in _TOKEN.finditer(self.body)):
            return self
        return Pattern(f"{self.text}{self.separator}{STEM}" if self.text else STEM, self.separator)

    def regex(self, stems: Sequence[str] = (), digits: bool = False) -> re.Pattern[str]:
        """What full names match: groups by capture, `stem` the leaf, `prefix` what is before.

        With `digits` every number of the pattern stands for any number: a coarser sieve.
        """
        sep = re.escape(self.separator)
        inner = f"[^{sep}]"
        parts = [f"(?P<prefix>(?:.*{sep})?)"] if self.has_prefix else []
        end = 0
        for match in _TOKEN.finditer(self.body):
            parts.append(_literal(self.body[end : match.start()], digits))
            end = match.end()
            if match[3]:
                longest = sorted(map(re.escape, stems), key=len, reverse=True)
                parts.append(f"(?P<stem>{'|'.join(longest)})")
            else:
                form = {"": r"\d+", "*": f"{inner}+", "**": ".+"}[match[2]]
                parts.append(f"(?P<{match[1]}>{form})")
        parts.append(_literal(self.body[end:], digits))
        return re.compile("".join(parts))

    def fill(self, captured: Mapping[str, str], stem: str = "") -> str:
        """The name that the pattern stands for, without what is before it."""

        def replaced(match: re.Match[str]) -> str:
            return stem if match[3] else captured[match[1]]

        return _TOKEN.sub(replaced, self.body)


def _literal(text: str, digits: bool) -> str:
    return re.sub(r"\d+", r"\\d+", re.escape(text)) if digits else re.escape(text)


def skeleton(name: str) -> str:
    """`name` with every number as one: names that only count differently look alike."""
    return re.sub(r"\d+", "0", name)
