"""HTML from text: what comes from a ledger gets in by `text` alone."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from portackpt.wording import clean


def text(content: str) -> str:
    """`content` as HTML that shows it, control characters and all; lines stay lines."""
    return escape("\n".join([clean(line) for line in content.split("\n")]))


def tag(name: str, content: str, **attributes: str) -> str:
    """An element around `content`, which is HTML; the attributes are text."""
    spelled = [f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
               for key, value in attributes.items()]  # fmt: skip
    return f"<{name}{''.join(spelled)}>{content}</{name}>"


def code(content: str) -> str:
    return tag("code", text(content))


def table(headings: Iterable[str], body: Iterable[Iterable[str]], **attributes: str) -> str:
    """A table of cells of HTML. A heading that ends with `#` is one of numbers."""
    names = list(headings)
    kinds = [{"class_": "number"} if name.endswith("#") else {} for name in names]
    top = "".join(
        [tag("th", text(name.rstrip("#")), scope="col", **kind)
         for name, kind in zip(names, kinds, strict=True)]
    )  # fmt: skip
    lines = [
        tag("tr", "".join([tag("td", cell, **kind) for cell, kind in zip(row, kinds, strict=True)]))
        for row in body
    ]
    inner = tag("thead", tag("tr", top)) + tag("tbody", "\n".join(lines))
    return tag("div", tag("table", inner, **attributes), class_="wide")
