"""The ledger as one page for a browser: it needs nothing beside itself, and runs nothing it holds.

Everything from the ledger is text here: escaped in HTML, and in the leaves' JSON, where every `<`
is spelled `\\u003c`. Beyond that the page forbids itself, by a Content-Security-Policy with the
digests of its own style and script, to run or to fetch anything else.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from portackpt.ledger import Ledger
from portackpt.page import sections
from portackpt.page.markup import tag, text
from portackpt.page.rows import rows


def page(ledger: Ledger) -> str:
    """`ledger` as an HTML document."""
    style, script = _asset("style.css"), _asset("script.js")
    policy = (
        f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )
    head = (
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<link rel="icon" href="data:,">',
        tag("title", f"{text(str(ledger.verdict))}: {text(sections.name(ledger.target))}"),
        f"<style>{style}</style>",
    )
    body = (
        sections.heading(ledger),
        "<main>",
        sections.verdict(ledger),
        sections.changes(ledger),
        sections.fates(ledger),
        sections.work(ledger),
        sections.assumptions(ledger),
        sections.resume(ledger),
        sections.leaves(ledger),
        "</main>",
        f'<script type="application/json" id="rows">{rows(ledger)}</script>',
        f"<script>{script}</script>",
    )
    return "\n".join(
        ("<!DOCTYPE html>", '<html lang="en">', "<head>", *head, "</head>", "<body>",
         *[part for part in body if part], "</body>", "</html>", "")
    )  # fmt: skip


def _asset(name: str) -> str:
    return files("portackpt.page").joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return "sha256-" + b64encode(sha256(content.encode()).digest()).decode()
