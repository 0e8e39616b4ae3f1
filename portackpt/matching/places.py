"""Places: finding the leaf that a pattern stands for among the names of one program."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property

from portackpt.errors import AmbiguousError
from portackpt.layouts.dialects import Dialect
from portackpt.matching.names import Folding, folding
from portackpt.matching.patterns import PREFIX, Pattern

Captures = Mapping[str, str]


class Places:
    """The names of one side, folded; or none, where that side is only made by the mapping."""

    def __init__(
        self, dialect: Dialect, names: Iterable[str] | None, patterns: Iterable[str] = ()
    ) -> None:
        self.dialect = dialect
        self.known = names is not None
        found = list(names or ())
        self._folding: Folding = folding(dialect, found if self.known else patterns)
        self.names: dict[str, str] = {self._folding.fold(name): name for name in found}
        """Names as they are, by their folded form."""

    def pattern(self, text: str) -> Pattern:
        return Pattern(self._folding.fold(text), self.dialect.separator)

    def name(self, folded: str) -> str:
        """The name as it is in the checkpoint."""
        return self.names.get(folded) or self._folding.unfold(folded)

    def find(self, pattern: Pattern, captured: Captures, stem: str = "") -> str | None:
        """The folded name that `pattern` stands for; None where it is known not to be there."""
        text = pattern.fill(captured, stem)
        prefixed = captured.get(PREFIX, "") + text if pattern.has_prefix else text
        if not self.known or prefixed in self.names:
            return prefixed
        if not pattern.has_prefix:
            return None
        found = self._by_end.get(text, [])
        if len(found) > 1:
            raise AmbiguousError(
                f"{pattern.text!r} fits {', '.join(map(self.name, found))}; write the beginning of "
                "the name in the mapping file and pass that with --map"
            )
        return found[0] if found else None

    @cached_property
    def _by_end(self) -> Mapping[str, list[str]]:
        """Names by each of their ends."""
        ends: defaultdict[str, list[str]] = defaultdict(list)
        separator = self.dialect.separator
        for name in self.names:
            at = 0
            while True:
                ends[name[at:]].append(name)
                at = name.find(separator, at) + 1
                if not at:
                    break
        return ends
