"""The parts of the page, from what matters most to every leaf."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from portackpt.ledger import MEANINGS, Entry, Fate, Ledger, Side
from portackpt.page.markup import code, table, tag, text
from portackpt.wording import count, size

_MOST = 100
"""Groups that are listed; the leaves of the others are found by searching."""
_EXAMPLES = 3
_LEGEND: Mapping[Fate, str] = {
    Fate.EXACT: "the same bits, perhaps under another name",
    Fate.RELAYOUT: "the same values in another order, shape or container",
    Fate.EQUIVALENT: "recomputed by a stated formula, to a stated tolerance",
    Fate.APPROXIMATE: "close, with the difference stated",
    Fate.RESEEDED: "a random stream that goes on from a derived seed",
    Fate.DROPPED: "no counterpart in the target",
    Fate.CREATED: "needed by the target, absent from the source",
}


def name(side: Side) -> str:
    """The last part of the path: what a person calls it."""
    return side.path.rstrip("/").rpartition("/")[2] or side.path


def heading(ledger: Ledger) -> str:
    ends = [
        tag("span", text(name(side)), class_="name", title=side.path)
        for side in (ledger.source, ledger.target)
    ]
    places = [
        tag("div", tag("dt", told) + tag("dd", f"{code(side.path)} {tag('span', _kind(side))}"))
        for told, side in (("from", ledger.source), ("to", ledger.target))
    ]
    title = tag("h1", ' <span class="arrow" aria-label="to">→</span> '.join(ends))
    return tag("header", title + tag("dl", "".join(places)))


def verdict(ledger: Ledger) -> str:
    found = ledger.verdict
    leaves = count(len(ledger.entries), "entry").replace("entrys", "entries")
    facts = [leaves, size(sum(ledger.sizes.values()))]
    changed = sum([len(entries) for entries in ledger.changes.values()])
    facts.append(f"{changed:,} of them change the run" if changed else "none changes the run")
    return tag(
        "section",
        tag("h2", f'<span class="label">Verdict</span> {text(str(found))}', id="verdict")
        + tag("p", text(MEANINGS[found]), class_="meaning")
        + tag("p", text(", ".join(facts)), class_="facts"),
        class_=f"verdict {found}",
        aria_labelledby="verdict",
    )


def changes(ledger: Ledger) -> str:
    groups = ledger.changes
    if not groups:
        return _section("changes", "What changes for the run", tag("p", "Nothing."))
    cards = [_card(told, entries) for told, entries in list(groups.items())[:_MOST]]
    inner = tag("ul", "\n".join(cards), class_="cards") + _rest(len(groups))
    return _section("changes", "What changes for the run", inner)


def assumptions(ledger: Ledger) -> str:
    groups = ledger.assumptions
    if not groups:
        return ""
    cards = [_card(told, entries) for told, entries in list(groups.items())[:_MOST]]
    inner = tag("ul", "\n".join(cards), class_="cards") + _rest(len(groups))
    return _section("assumptions", "What was taken for granted", inner)


def fates(ledger: Ledger) -> str:
    counts, sizes = ledger.counts, ledger.sizes
    body = [
        (_fate(fate), text(_LEGEND[fate]), f"{number:,}", text(size(sizes[fate])))
        for fate, number in counts.items()
    ]
    inner = (
        _bar("leaves", counts)
        + _bar("bytes", sizes)
        + table(("fate", "what that is", "leaves#", "bytes#"), body)
    )
    return _section("fates", "What became of it", inner)


def work(ledger: Ledger) -> str:
    """What was done on the way, and how far values may differ for it."""
    groups: dict[tuple[Fate, str, float | None], list[Entry]] = {}
    for entry in ledger.entries:
        if entry.detail or entry.tolerance is not None:
            groups.setdefault((entry.fate, entry.detail, entry.tolerance), []).append(entry)
    if not groups:
        return ""
    body = [
        (
            _fate(fate),
            text(detail),
            "" if tolerance is None else text(f"{tolerance:.3g}"),
            f"{len(entries):,}",
            text(size(sum([entry.nbytes for entry in entries]))),
            code(_place(entries[0])),
        )
        for (fate, detail, tolerance), entries in list(groups.items())[:_MOST]
    ]
    headings = ("fate", "what was done", "tolerance#", "leaves#", "bytes#", "for example")
    return _section("work", "What was done", table(headings, body) + _rest(len(groups)))


def resume(ledger: Ledger) -> str:
    if not ledger.resume:
        return ""
    program = text(ledger.resume.rstrip())
    inner = (
        '<button type="button" id="copy" hidden>Copy</button>'
        + tag("pre", tag("code", program, id="program"), tabindex="0")
        + '<p id="copied" role="status"></p>'
    )
    return _section("resume", "Load it in the target's program", inner)


def leaves(ledger: Ledger) -> str:
    """The frame of the table; the script fills it."""
    changed = sum([entry.changes_the_run for entry in ledger.entries])
    choices = [("", "all", len(ledger.entries)), ("changes", "changes the run", changed)]
    choices += [(str(fate), str(fate), number) for fate, number in ledger.counts.items()]
    options = [
        tag("label", f'<input type="radio" name="fate" value="{value}"'
            f"{'' if value else ' checked'}><span>{told} <small>{number:,}</small></span>")
        for value, told, number in choices
    ]  # fmt: skip
    inner = (
        "<noscript><p>The list needs JavaScript; everything above does not.</p></noscript>"
        '<form id="filter" role="search" hidden>'
        '<label class="search">Search<input type="search" id="query" autocomplete="off"'
        ' spellcheck="false" placeholder="a part of a name, or of what was done"></label>'
        + tag("fieldset", tag("legend", "Show") + "".join(options))
        + '</form><p id="found" role="status"></p>'
        + table(("fate", "leaf", "what was done, and what it means", "bytes#"), (), id="list")
        + '<button type="button" id="more" hidden>Show more</button>'
    )
    return _section("leaves", "Every leaf", inner)


def _section(id: str, title: str, inner: str) -> str:
    return tag("section", tag("h2", text(title), id=id) + inner, aria_labelledby=id)


def _kind(side: Side) -> str:
    of = f", {side.framework}" if side.framework and side.framework != side.format else ""
    return text(side.format + of)


def _card(told: str, entries: Sequence[Entry]) -> str:
    """A sentence, which fates it comes from, how much it touches, and a few of the leaves."""
    kinds = dict.fromkeys([entry.fate for entry in entries])
    nbytes = sum([entry.nbytes for entry in entries])
    amount = count(len(entries), "leaf").replace("leafs", "leaves")
    facts = f"{' '.join([_fate(fate) for fate in kinds])} {amount}"
    facts += f", {size(nbytes)}" if nbytes else ""
    places = [tag("li", code(_place(entry))) for entry in entries[:_EXAMPLES]]
    button = tag("button", "Show all", type="button", class_="find", data_find=told, hidden="")
    return tag(
        "li",
        tag("p", text(told), class_="told")
        + tag("p", facts, class_="facts")
        + tag("ul", "".join(places), class_="places")
        + (button if len(entries) > _EXAMPLES else ""),
    )


def _place(entry: Entry) -> str:
    path = entry.target if entry.source is None else entry.source
    return path or "(root)"


def _fate(fate: Fate) -> str:
    return tag("span", str(fate), class_=f"fate {fate}")


def _rest(groups: int) -> str:
    more = groups - _MOST
    return tag("p", f"And {more:,} more kinds: search the leaves for them.") if more > 0 else ""


def _bar(unit: str, amounts: Mapping[Fate, int]) -> str:
    """A stacked bar; what is there at all is seen, however small."""
    total = sum(amounts.values())
    if not total:
        return ""
    widths = {fate: max(amount / total, 0.004) for fate, amount in amounts.items() if amount}
    scale = 100 / sum(widths.values())
    start, parts = 0.0, []
    for fate, width in widths.items():
        told = f"{fate}: {amounts[fate] / total:.1%} of the {unit}"
        parts.append(
            f'<rect class="{fate}" x="{start:.3f}%" width="{width * scale:.3f}%" height="100%">'
            f"<title>{told}</title></rect>"
        )
        start += width * scale
    spoken = _spoken(widths, amounts, total)
    drawing = tag("svg", "".join(parts), role="img", aria_label=f"{unit} by fate: {spoken}")
    return tag("div", tag("span", unit, class_="unit") + drawing, class_="bar")


def _spoken(fates: Iterable[Fate], amounts: Mapping[Fate, int], total: int) -> str:
    return ", ".join([f"{fate} {amounts[fate] / total:.1%}" for fate in fates])
