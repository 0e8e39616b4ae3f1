"""Mappings: the rules between two programs, applied to the leaves of both."""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping
from dataclasses import dataclass

from portackpt.layouts.dialects import Dialect
from portackpt.matching.resolution import Resolution, Shapes
from portackpt.matching.resolver import Resolver
from portackpt.matching.rules import Rule

SURE = 0.7
"""From this confidence on, a proposed rule is more than a guess."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """How names and layouts of a `source` dialect become those of a `target`.

    `remarks` are what a proposal leaves open, for the person who reads it.
    """

    source: Dialect
    target: Dialect
    rules: tuple[Rule, ...]
    title: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def doubts(self) -> tuple[Rule, ...]:
        """Proposed rules that a person should look at before they are used."""
        return tuple([r for r in self.rules if r.confidence is not None and r.confidence < SURE])

    def inverse(self) -> Mapping:
        """The way back."""
        rules = tuple([rule.inverse() for rule in self.rules])
        return Mapping(self.target, self.source, rules, self.title)

    def resolve(
        self,
        source: Shapes,
        target: Shapes | None = None,
        ties: AbstractMapping[str, str] | None = None,
    ) -> Resolution:
        """What each leaf of `source` becomes, in a `target` that is known or not.

        Both are shapes by name; `ties` are source leaves that are the same tensor as another, by
        name. Raises `UsageError` with every leaf that is mapped not at all or twice or does not
        fit, and `AmbiguousError` where a layer kind or a size has to be told.
        """
        resolver = Resolver(self.source, self.target, self.rules, source, target, ties or {})
        return resolver.resolve()
