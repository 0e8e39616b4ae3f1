"""Resolving: the rules of a mapping carried through, leaf by leaf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from portackpt.errors import PortackptError, UsageError
from portackpt.layouts.dialects import Dialect
from portackpt.layouts.kinds import Kind
from portackpt.layouts.notes import Note, notes
from portackpt.layouts.translation import Move, leaf_names, translate
from portackpt.matching.grouping import (
    Compiled,
    Instance,
    compile_rules,
    group,
    matching,
    target_regex,
)
from portackpt.matching.patterns import PREFIX
from portackpt.matching.places import Places
from portackpt.matching.resolution import Assignment, Faults, Resolution, Shapes
from portackpt.matching.rules import Rule
from portackpt.matching.single import single


class Resolver:
    """One mapping on its way through two sets of leaves."""

    def __init__(
        self,
        source: Dialect,
        target: Dialect,
        rules: Sequence[Rule],
        shapes: Shapes,
        template: Shapes | None,
        ties: Mapping[str, str],
    ) -> None:
        self._shapes, self._template, self._ties = shapes, template, ties
        self._here = Places(source, shapes)
        self._there = Places(target, template, [rule.target or "" for rule in rules])
        self._rules = compile_rules(rules, self._here, self._there)
        self._faults = Faults()
        self._assignments: list[Assignment] = []
        self._dropped: list[tuple[str, str]] = []
        self._zeros: list[str] = []
        self._tied: list[tuple[str, str]] = []
        self._filled: dict[str, Rule] = {}
        """The rule that fills each target leaf."""
        self._layers: dict[tuple[Kind, Note], None] = {}
        self._told: dict[int, tuple[Move, tuple[Note, ...]]] = {}
        """Notes of moves, which the layers of a model share."""

    def resolve(self) -> Resolution:
        instances, unmapped, doubly = group(self._rules, self._here, self._there.dialect.separator)
        self._faults.ambiguous += doubly
        for name in unmapped:
            if name in self._ties:
                self._tied.append((name, self._ties[name]))
            else:
                self._faults.unmapped.append(name)
        for instance in instances:
            try:
                self._place(instance)
            except PortackptError as error:
                error.places = (*error.places, f"the rule {instance.compiled.rule}")
                raise
        kept, tied_targets = self._rest()
        told = self._faults.told()
        if told:
            raise UsageError(told)
        return Resolution(
            tuple(self._assignments),
            tuple(self._dropped),
            tuple(kept),
            tuple(self._zeros),
            tuple(self._tied),
            tuple(tied_targets),
            tuple(self._layers),
        )

    def _place(self, instance: Instance) -> None:
        rule = instance.compiled.rule
        names = [self._here.name(folded) for folded in instance.leaves.values()]
        if instance.compiled.there is None:
            owner = self._owner(instance)
            if owner is not None:
                self._tied += [(name, owner) for name in names]
            else:
                self._dropped += [(name, rule.reason) for name in names]
            return
        try:
            if self._template is None and rule.tied_source and all(n in self._ties for n in names):
                self._without_place(instance)
            elif rule.layer:
                self._layer(instance)
            else:
                self._leaf(instance)
        except UsageError as error:
            self._faults.unfitting += [(", ".join(names), error.message)]

    def _owner(self, instance: Instance) -> str | None:
        """The source leaf whose values the leaf of this rule shares."""
        tied = instance.compiled.rule.tied_source
        if not tied:
            return None
        separators = (self._there.dialect.separator, self._here.dialect.separator)
        captured = {name: text.replace(*separators) for name, text in instance.captured.items()}
        found = self._here.find(self._here.pattern(tied), captured)
        if found is None:
            raise UsageError(f"it is tied to {tied!r}, which is not there")
        return self._here.name(found)

    def _layer(self, instance: Instance) -> None:
        rule, there = instance.compiled.rule, instance.compiled.there
        assert rule.kind is not None
        assert there is not None
        source, target = self._here.dialect, self._there.dialect
        leaves = {stem: self._shape(folded) for stem, folded in instance.leaves.items()}
        places: dict[str, str] = {}
        for stem in leaf_names(rule.kind, target):
            found = self._there.find(there, instance.captured, stem)
            if found is not None:
                places[stem] = found
        template = None
        if self._template is not None:
            template = {stem: self._template[self._there.names[p]] for stem, p in places.items()}
            if not template:
                self._without_place(instance)
                return
        result = translate(rule.kind, source, target, leaves, template, rule.options)
        for move in result.moves:
            self._assign(move, instance, places)
        for stem, reason in result.dropped:
            self._dropped.append((self._here.name(instance.leaves[stem]), reason))
        for stem in result.unplaced:
            name = self._here.name(instance.leaves[stem])
            if not self._tie(name):
                self._faults.unfitting.append(
                    (name, f"the target's {rule.kind} has no place for it")
                )
        for stem in result.zeros:
            self._fill(self._there.name(places[stem]), rule)
            self._zeros.append(self._there.name(places[stem]))

    def _assign(self, move: Move, instance: Instance, places: Mapping[str, str]) -> None:
        rule = instance.compiled.rule
        assert rule.kind is not None
        sources = tuple([self._here.name(instance.leaves[stem]) for stem in move.sources])
        targets = tuple([self._there.name(places[stem]) for stem in move.targets])
        if self._again(sources, targets, rule):
            return
        about = self._notes(rule.kind, move)
        self._assignments.append(
            Assignment(sources, targets, move.regroup, rule.kind, about, move.lost)
        )

    def _notes(self, kind: Kind, move: Move) -> tuple[Note, ...]:
        """The notes about the parts that a move is about; those about the layer are put aside."""
        known = self._told.get(id(move))
        if known is None:
            told = notes(kind, self._here.dialect, self._there.dialect)
            self._layers.update({(kind, note): None for note in told if note.part is None})
            leaves = (*move.regroup.sources, *move.regroup.targets)
            held = {part for leaf in leaves for part in leaf.holds}
            held |= {part for part, _ in move.lost}
            known = move, tuple([note for note in told if note.part in held])
            self._told[id(move)] = known
        return known[1]

    def _leaf(self, instance: Instance) -> None:
        rule, there = instance.compiled.rule, instance.compiled.there
        assert there is not None
        folded = instance.leaves[""]
        name = self._here.name(folded)
        place = self._there.find(there, instance.captured)
        if place is None:
            self._without_place(instance)
            return
        target = self._there.name(place)
        wanted = None if self._template is None else self._template[target]
        regroup, assumption = single(
            rule, self._here.dialect, self._there.dialect, name, self._shape(folded), wanted
        )
        if not self._again((name,), (target,), rule):
            self._assignments.append(
                Assignment((name,), (target,), regroup, rule.kind, assumption=assumption)
            )

    def _without_place(self, instance: Instance) -> None:
        """A rule whose target the template does not have: fine for another name of a tensor."""
        owner = self._owner(instance)
        for folded in instance.leaves.values():
            name = self._here.name(folded)
            if owner is not None:
                self._tied.append((name, owner))
            elif not self._tie(name):
                self._faults.unfitting.append(
                    (name, f"the target has no {instance.compiled.rule.target!r}")
                )

    def _tie(self, name: str) -> bool:
        if name in self._ties:
            self._tied.append((name, self._ties[name]))
        return name in self._ties

    def _again(self, sources: Sequence[str], targets: Sequence[str], rule: Rule) -> bool:
        """Mark `targets` as filled; True where they are already, by a tensor that is the same."""
        if len(sources) == 1 and all(t in self._filled for t in targets) and self._tie(sources[0]):
            return True
        for target in targets:
            self._fill(target, rule)
        return False

    def _fill(self, target: str, rule: Rule) -> None:
        if target in self._filled:
            self._faults.doubly.append((target, f"{self._filled[target]} and {rule}"))
        self._filled[target] = rule

    def _rest(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Target leaves that no source leaf becomes: kept, tied to another, or a fault."""
        kept: list[tuple[str, str]] = []
        tied: list[tuple[str, str]] = []
        rules: Mapping[str, Compiled] | None = None
        for folded, name in self._there.names.items():
            if name in self._filled:
                continue
            if rules is None:
                rules = matching(self._rules, self._there)
            compiled = rules.get(folded)
            if compiled is None:
                self._faults.unfilled.append(name)
            elif compiled.rule.tied_target:
                tied.append((name, self._there_owner(compiled, folded)))
            else:
                kept.append((name, compiled.rule.reason))
        return kept, tied

    def _there_owner(self, compiled: Compiled, folded: str) -> str:
        match = target_regex(compiled, self._there).fullmatch(folded)
        assert match is not None
        captured = {PREFIX if k == "prefix" else k: text for k, text in match.groupdict().items()}
        found = self._there.find(self._there.pattern(compiled.rule.tied_target), captured)
        return self._there.name(found) if found else compiled.rule.tied_target

    def _shape(self, folded: str) -> tuple[int, ...]:
        return self._shapes[self._here.names[folded]]
