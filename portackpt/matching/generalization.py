"""Generalization: rules that differ in numbers alone, as one rule that captures them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from portackpt.layouts.translation import leaf_names
from portackpt.matching.patterns import Pattern, skeleton
from portackpt.matching.places import Places
from portackpt.matching.rules import Rule

_LETTERS = "ijklmnpqrst"


def generalize(rules: Sequence[Rule], source: Places) -> list[Rule]:
    """`rules` about names of `source`, as few as say the same of these and of no other names."""
    groups: dict[object, list[Rule]] = {}
    order: dict[int, int] = {}
    for index, rule in enumerate(rules):
        order[id(rule)] = index
        about = (rule.layer, rule.kind, rule.axes, tuple(rule.options.items()))
        key = (skeleton(rule.source or ""), skeleton(rule.target or ""), about)
        groups.setdefault(key, []).append(rule)
    outlines: defaultdict[str, list[str]] = defaultdict(list)
    for folded in source.names:
        outlines[skeleton(folded)].append(folded)
    found: list[tuple[int, Rule]] = []
    for members in groups.values():
        for some in _alike(members):
            general = _general(some) if len(some) > 1 else None
            if general is not None and _says_the_same(general, some, source, outlines):
                found.append((order[id(some[0])], general))
            else:
                found += [(order[id(rule)], rule) for rule in some]
    return [rule for _, rule in sorted(found, key=lambda placed: placed[0])]


def _columns(members: Sequence[Rule]) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The numbers of each side, by their place in the name: of all members."""
    here, there = (
        list(zip(*[re.findall(r"\d+", side or "") for side in sides], strict=True))
        for sides in ([m.source for m in members], [m.target for m in members])
    )
    return here, there


def _paired(members: Sequence[Rule]) -> dict[int, int]:
    """Places of numbers that vary, and vary alike, in the source's names and in the target's."""
    here, there = _columns(members)
    found: dict[int, int] = {}
    for index, column in enumerate(here):
        equal = [i for i, other in enumerate(there) if other == column and i not in found.values()]
        if len(set(column)) > 1 and equal:
            found[index] = equal[0]
    return found


def _alike(members: Sequence[Rule]) -> list[list[Rule]]:
    """Members apart where a number varies on one side that does not vary alike on the other."""
    paired = _paired(members)
    here, there = _columns(members)
    apart = [c for i, c in enumerate(here) if i not in paired]
    apart += [c for i, c in enumerate(there) if i not in paired.values()]
    parts: defaultdict[tuple[str, ...], list[Rule]] = defaultdict(list)
    for index, member in enumerate(members):
        parts[tuple([column[index] for column in apart])].append(member)
    return list(parts.values())


def _general(members: Sequence[Rule]) -> Rule | None:
    """One rule for all members, whose varying numbers are the same on both sides."""
    first = members[0]
    assert first.source is not None
    assert first.target is not None
    paired = _paired(members)
    if len(paired) > len(_LETTERS):
        return None
    letters = {here: _LETTERS[index] for index, here in enumerate(paired)}
    sure = [m.confidence for m in members if m.confidence is not None]
    return replace(
        first,
        source=_lettered(first.source, letters),
        target=_lettered(first.target, {paired[here]: letter for here, letter in letters.items()}),
        confidence=min(sure) if sure else None,
        evidence=min(members, key=lambda m: m.confidence or 0.0).evidence,
    )


def _lettered(text: str, letters: dict[int, str]) -> str:
    """`text` with captures for some of its numbers, by their index."""
    index = -1

    def replaced(match: re.Match[str]) -> str:
        nonlocal index
        index += 1
        return f"{{{letters[index]}}}" if index in letters else match[0]

    return re.sub(r"\d+", replaced, text)


def _says_the_same(
    general: Rule, members: Sequence[Rule], source: Places, outlines: Mapping[str, list[str]]
) -> bool:
    """True when the general rule matches the names that its members are about, and no others."""
    pattern, stems = _about(general, source)
    regex = pattern.regex(stems)
    sample = re.sub(r"\{\w+\}", "0", pattern.body)
    likely = {skeleton(sample.replace("*", stem)) for stem in stems or ("",)}
    found = {n for outline in likely for n in outlines.get(outline, ()) if regex.fullmatch(n)}
    meant: set[str] = set()
    for rule in members:
        literal, stems = _about(rule, source)
        meant.update(literal.fill({}, stem) for stem in stems or ("",))
    return found == meant & source.names.keys()


def _about(rule: Rule, source: Places) -> tuple[Pattern, tuple[str, ...]]:
    """The pattern of a rule's source, and the leaves of its layer."""
    pattern = Pattern(rule.source or "", source.dialect.separator)
    if not rule.layer or rule.kind is None:
        return pattern, ()
    return pattern.layer(), leaf_names(rule.kind, source.dialect)
