"""Grouping: source leaves by the rule that maps them and the layer that they belong to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from portackpt.layouts.translation import leaf_names
from portackpt.matching.patterns import PREFIX, Pattern, skeleton
from portackpt.matching.places import Captures, Places
from portackpt.matching.rules import Rule


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule as patterns over folded names, with what matches them on the source's side."""

    rule: Rule
    here: Pattern | None
    there: Pattern | None
    regex: re.Pattern[str] | None
    sieve: re.Pattern[str] | None


@dataclass(frozen=True, slots=True)
class Instance:
    """One place where a rule applies: what it captured, and the leaves by their name in the layer
    (`""` for a rule about one leaf)."""

    compiled: Compiled
    captured: Captures
    leaves: dict[str, str]


def compile_rules(rules: Sequence[Rule], source: Places, target: Places) -> list[Compiled]:
    """The rules, ready to be matched."""
    found = []
    for rule in rules:
        rule.patterns(source.dialect, target.dialect)  # checks that they capture the same
        here = None if rule.source is None else source.pattern(rule.source)
        there = None if rule.target is None else target.pattern(rule.target)
        stems: tuple[str, ...] = ()
        if rule.layer and rule.kind is not None:
            here, there = here and here.layer(), there and there.layer()
            stems = leaf_names(rule.kind, source.dialect)
        regex = None if here is None else here.regex(stems)
        sieve = None if here is None else here.regex(list(map(skeleton, stems)), digits=True)
        found.append(Compiled(rule, here, there, regex, sieve))
    return found


def group(
    rules: Sequence[Compiled], source: Places, separator: str
) -> tuple[list[Instance], list[str], list[tuple[str, str]]]:
    """Where each rule applies, the leaves that no rule maps, and those that several do."""
    sieved: dict[str, list[Compiled]] = {}
    instances: dict[tuple[int, tuple[tuple[str, str], ...]], Instance] = {}
    unmapped: list[str] = []
    doubly: list[tuple[str, str]] = []
    for folded, name in source.names.items():
        outline = skeleton(folded)
        likely = sieved.get(outline)
        if likely is None:
            likely = [rule for rule in rules if rule.sieve and rule.sieve.fullmatch(outline)]
            sieved[outline] = likely
        matches = [(c, m) for c in likely if c.regex and (m := c.regex.fullmatch(folded))]
        if not matches:
            unmapped.append(name)
            continue
        if len(matches) > 1:
            doubly.append((name, " and ".join(repr(c.rule.source) for c, _ in matches)))
        compiled, match = matches[0]
        captured = _captured(match, source.dialect.separator, separator)
        key = (id(compiled), tuple(sorted(captured.items())))
        instance = instances.setdefault(key, Instance(compiled, captured, {}))
        instance.leaves[match.groupdict().get("stem", "")] = folded
    return list(instances.values()), unmapped, doubly


def _captured(match: re.Match[str], separator: str, other: str) -> dict[str, str]:
    """What was captured, its components set apart as the other side does."""
    return {
        PREFIX if name == "prefix" else name: text.replace(separator, other)
        for name, text in match.groupdict().items()
        if name != "stem"
    }


def matching(rules: Sequence[Compiled], targets: Places) -> dict[str, Compiled]:
    """Rules about target leaves that no source leaf becomes, by the folded name of the leaf."""
    sieves = [
        (compiled, target_regex(compiled, targets))
        for compiled in rules
        if compiled.there and (compiled.rule.source is None or compiled.rule.tied_target)
    ]
    found: dict[str, Compiled] = {}
    for folded in targets.names if sieves else ():
        for compiled, regex in sieves:
            if regex.fullmatch(folded):
                found[folded] = compiled
                break
    return found


def target_regex(compiled: Compiled, targets: Places) -> re.Pattern[str]:
    """What the target's side of a rule matches."""
    assert compiled.there is not None
    kind = compiled.rule.kind
    return compiled.there.regex(leaf_names(kind, targets.dialect) if kind else ())
