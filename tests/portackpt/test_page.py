"""The ledger as a page: in a real browser where there is one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Page, browser

from portackpt.ledger import Entry, Fate, Ledger, Side
from portackpt.page import page

HOSTILE = (
    "</script><script>window.pwned=1</script>",
    "<img src=x onerror='window.pwned=1'>",
    '"><svg onload="window.pwned=1">',
    "<!--<script>",
    "javascript:window.pwned=1",
    "a\u2028b\u202ec\ud800\x00\x1b[31m",
)
SEED = "dropout masks differ from those of the run that never moved"
ENTRIES = (
    *[Entry(f"model/{i}.weight", f"params/{i}/kernel", Fate.RELAYOUT, "transposed", "",
            None, "a linear layer", 4096) for i in range(8)],
    *[Entry(f"model/{i}.bias", f"model/{i}.bias", Fate.EXACT, nbytes=32) for i in range(8)],
    Entry("optimizer/eps", "opt/eps", Fate.EQUIVALENT, "eps / sqrt(1 - b2^t)", "", 1e-7),
    Entry("rng", "key", Fate.RESEEDED, "a key from its digest", SEED, nbytes=5056),
    Entry("foreach", None, Fate.DROPPED, "a choice of kernel", "none"),
    Entry(None, "ema", Fate.CREATED, "kept from the template", "it starts with the template's"),
)  # fmt: skip
RUN = 'restore("here")  # </code></pre><script>window.pwned=1</script>\n'


def ledger(entries: tuple[Entry, ...] = ENTRIES, name: str = "run.pt", resume: str = "") -> Ledger:
    source = Side(f"/runs/{name}", "pytorch", "pytorch")
    return Ledger(source, Side("/runs/out", "orbax", "jax"), entries, resume)


def hostile() -> Ledger:
    entries = [Entry(bad, bad, Fate.DROPPED, bad, bad, None, bad) for bad in HOSTILE]
    return ledger((*ENTRIES, *entries), HOSTILE[0], RUN)


def embedded(document: str) -> Any:
    found = re.search(r'<script type="application/json" id="rows">(.*?)</script>', document, re.S)
    assert found
    return json.loads(found[1])


def test_it_needs_nothing_beside_itself() -> None:
    document = page(ledger())
    assert not re.search(r"https?:|//cdn|@import|url\(", document)
    assert re.findall(r'(?:src|href)="([^"]*)"', document) == ["data:,"]


def test_it_is_the_same_for_the_same_ledger() -> None:
    assert page(hostile()) == page(hostile())


def test_it_says_the_verdict_first() -> None:
    document = page(ledger())
    told = "The run goes on with other random numbers"
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", document)
    assert document.index(told) < document.index(SEED) < document.index("Every leaf")
    assert headings == [
        '<span class="label">Verdict</span> reseeded', "What changes for the run",
        "What became of it", "What was done", "What was taken for granted", "Every leaf",
    ]  # fmt: skip


def test_it_says_that_nothing_changes() -> None:
    document = page(ledger(ENTRIES[:17]))
    assert "<p>Nothing.</p>" in document
    assert "agree to the stated tolerance" in document


def test_it_makes_a_page_of_an_empty_ledger() -> None:
    assert "every value arrives bit for bit" in page(ledger(()))


def test_it_keeps_what_a_file_names_as_text() -> None:
    document = page(hostile())
    style, rows, script = re.findall(r"<(?:style|script)[^>]*>(.*?)</(?:style|script)>",
                                     document, re.S)  # fmt: skip
    assert document.count("<script") == 2
    assert "pwned" not in style + script
    assert "<" not in rows
    assert not re.search(r"<(img|svg on)", document)
    assert embedded(document)["rows"][-1][0] == "a\\u2028b\\u202ec\\ud800\\x00\\x1b[31m"
    document.encode()


def test_it_holds_every_leaf_once() -> None:
    found = embedded(page(ledger()))
    fates, texts = found["fates"], found["texts"]
    assert len(found["rows"]) == len(ENTRIES)
    for row, entry in zip(found["rows"], ENTRIES, strict=True):
        source, target, fate, detail, consequence, assumption, tolerance, nbytes = row
        told = entry.consequence if entry.changes_the_run else ""
        assert (source, fates[fate], texts[detail]) == (entry.source, entry.fate, entry.detail)
        assert (source if target is True else target) == entry.target
        assert (texts[consequence], texts[assumption]) == (told, entry.assumption)
        assert (tolerance, nbytes) == (entry.tolerance, entry.nbytes)


# in a browser


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


def shown(tab: Page, ledger: Ledger, tmp_path: Path) -> Page:
    path = tmp_path / "ledger.html"
    path.write_text(page(ledger), encoding="utf-8")
    tab.events.clear()
    tab.open(path)
    return tab


def listed(tab: Page) -> list[str]:
    first = "[...document.querySelectorAll('#list tbody td:nth-child(2) code:first-child')]"
    found: list[str] = tab.run(f"{first}.map(code => code.innerText)")
    return found


def search(tab: Page, query: str) -> None:
    tab.run(f"found.innerText = ''; query.value = {json.dumps(query)}")
    tab.run("query.dispatchEvent(new Event('input'))")
    tab.wait("document.getElementById('found').innerText !== ''")


def choose(tab: Page, kind: str) -> None:
    tab.run(f"document.querySelector('input[name=fate][value=\"{kind}\"]').click()")


def test_it_loads_in_silence_and_alone(tab: Page, tmp_path: Path) -> None:
    shown(tab, ledger(resume=RUN), tmp_path)
    requests = [event["request"]["url"] for event in tab.of("Network.requestWillBeSent")]
    assert requests == [(tmp_path / "ledger.html").as_uri()]
    complaints = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    assert tab.of(*complaints) == []
    assert len(listed(tab)) == len(ENTRIES)


def test_it_runs_nothing_that_a_file_names(tab: Page, tmp_path: Path) -> None:
    shown(tab, hostile(), tmp_path)
    search(tab, "pwned")
    assert listed(tab) == [bad for bad in HOSTILE if "pwned" in bad]
    tab.run("document.querySelectorAll('button').forEach(button => button.click())")
    assert tab.run("window.pwned === undefined")
    assert tab.run("document.getElementById('program').innerText.trim()") == RUN.strip()
    assert tab.run("document.querySelectorAll('img, iframe, object').length") == 0
    assert len(tab.of("Network.requestWillBeSent")) == 1


def test_it_would_run_nothing_even_so(tab: Page, tmp_path: Path) -> None:
    shown(tab, ledger(), tmp_path)
    bad = '<img src="http://127.0.0.1:9/x" onerror="window.pwned=1">'
    tab.run(f"document.body.insertAdjacentHTML('beforeend', {json.dumps(bad)})")
    tab.run("new Promise(done => setTimeout(done, 100))")
    assert tab.run("window.pwned === undefined")
    assert any("Content Security Policy" in e["entry"]["text"] for e in tab.of("Log.entryAdded"))


def test_it_finds_leaves(tab: Page, tmp_path: Path) -> None:
    shown(tab, ledger(), tmp_path)
    search(tab, "3. WEIGHT")
    assert listed(tab) == ["model/3.weight"]
    search(tab, "params/")
    assert len(listed(tab)) == 8
    search(tab, "no such thing")
    assert listed(tab) == []
    assert tab.run("document.getElementById('found').innerText") == "0 of 20"
    search(tab, "")
    choose(tab, "exact")
    assert listed(tab) == [f"model/{i}.bias" for i in range(8)]
    choose(tab, "changes")
    assert listed(tab) == ["rng", "ema"]
    search(tab, "masks")
    assert listed(tab) == ["rng"]


def test_it_shows_the_leaves_of_an_assumption(tab: Page, tmp_path: Path) -> None:
    shown(tab, ledger(), tmp_path)
    tab.run("document.querySelector('button.find').click()")
    assert listed(tab) == [f"model/{i}.weight" for i in range(8)]
    assert tab.run("document.activeElement.id") == "query"


def test_it_copies_the_program(tab: Page, tmp_path: Path) -> None:
    shown(tab, ledger(resume=RUN), tmp_path)
    tab.run("document.getElementById('copy').click()")
    tab.wait("document.getElementById('copied').innerText === 'Copied.'")


def test_it_does_not_freeze_on_many_leaves(tab: Page, tmp_path: Path) -> None:
    many = [Entry(f"layers/{i}/weight", f"layers/{i}/weight", Fate.EXACT, nbytes=4)
            for i in range(100_000)]  # fmt: skip
    started = time.monotonic()
    shown(tab, ledger(tuple(many)), tmp_path)
    assert len(listed(tab)) == 300
    search(tab, "99999/")
    assert listed(tab) == ["layers/99999/weight"]
    assert time.monotonic() - started < 15
    search(tab, "layers")
    tab.run("more.click()")
    assert len(listed(tab)) == 600
    assert tab.run("found.innerText") == "100,000 of 100,000, the first 600 below"


# the elements whose text stands out from what is behind it by less than 4.5 to 1 (WCAG 2, AA)
CONTRAST = r"""
(() => {
  const parse = (color) => (color.match(/[\d.]+/g) ?? []).map(Number);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (color) => {
    const [r, g, b] = parse(color).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    const color = getComputedStyle(e).backgroundColor;
    return parse(color)[3] === 0 ? behind(e.parentElement) : color;
  };
  const speaks = (e) =>
    e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  const contrast = (e) => {
    const lights = [light(getComputedStyle(e).color), light(behind(e))].sort((a, b) => b - a);
    return (lights[0] + 0.05) / (lights[1] + 0.05);
  };
  return [...document.querySelectorAll("body *")]
    .filter((e) => speaks(e) && contrast(e) < 4.5)
    .map((e) => e.outerHTML);
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_by_day_and_by_night(tab: Page, tmp_path: Path, scheme: str) -> None:
    tab.call("Emulation.setEmulatedMedia",
             features=[{"name": "prefers-color-scheme", "value": scheme}])  # fmt: skip
    shown(tab, ledger(resume=RUN), tmp_path)
    dark = "parseInt(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]) < 64"
    assert tab.run(dark) is (scheme == "dark")
    assert tab.run(CONTRAST) == []


def test_it_can_be_used_without_a_mouse(tab: Page, tmp_path: Path) -> None:
    shown(tab, ledger(resume=RUN), tmp_path)
    reached = []
    for _ in range(9):
        for kind in ("keyDown", "keyUp"):
            tab.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab",
                     windowsVirtualKeyCode=9)  # fmt: skip
        reached.append(tab.run("document.activeElement.id || document.activeElement.name"))
    assert {"copy", "query", "fate"} <= set(reached)
    unnamed = "[...document.querySelectorAll('input')].filter(i => !i.labels.length).length"
    assert tab.run(unnamed) == 0
    levels = "[...document.querySelectorAll('h1, h2, h3')].map(h => h.tagName)"
    assert tab.run(levels) == ["H1"] + ["H2"] * 7


def test_it_fits_a_small_screen_and_a_sheet_of_paper(tab: Page, tmp_path: Path) -> None:
    tab.call("Emulation.setDeviceMetricsOverride",
             width=375, height=700, deviceScaleFactor=1, mobile=False)  # fmt: skip
    try:
        shown(tab, ledger(resume=RUN), tmp_path)
        assert tab.run("document.documentElement.scrollWidth") <= 375
        tab.call("Emulation.setEmulatedMedia", media="print")
        assert tab.run("getComputedStyle(document.getElementById('filter')).display") == "none"
        assert len(tab.call("Page.printToPDF")["data"]) > 10_000
    finally:
        tab.call("Emulation.clearDeviceMetricsOverride")
        tab.call("Emulation.setEmulatedMedia", media="")
