"""Every leaf of a ledger, as the page's script reads it."""

from __future__ import annotations

import json

from portackpt.ledger import Fate, Ledger
from portackpt.wording import clean

SAME: bool = True
"""In place of a target's path that is the source's."""


def rows(ledger: Ledger) -> str:
    """JSON that is safe inside a `<script>`: `{"fates", "texts", "rows"}`.

    A row is `[source, target, fate, detail, consequence, assumption, tolerance, nbytes]`:
    paths as text, null where there is none; a fate and three texts by their index, as thousands of
    leaves share them.
    """
    fates = {fate: index for index, fate in enumerate(Fate)}
    texts: dict[str, int] = {"": 0}

    def index(told: str) -> int:
        return texts.setdefault(clean(told), len(texts))

    found = [
        [
            None if entry.source is None else clean(entry.source),
            SAME if entry.target == entry.source
            else None if entry.target is None else clean(entry.target),
            fates[entry.fate],
            index(entry.detail),
            index(entry.consequence if entry.changes_the_run else ""),
            index(entry.assumption),
            entry.tolerance,
            entry.nbytes,
        ]
        for entry in ledger.entries
    ]  # fmt: skip
    document = {"fates": [str(fate) for fate in Fate], "texts": list(texts), "rows": found}
    spelled = json.dumps(document, ensure_ascii=True, separators=(",", ":"))
    return spelled.replace("<", "\\u003c").replace(">", "\\u003e")
