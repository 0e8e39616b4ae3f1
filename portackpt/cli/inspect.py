"""`portackpt inspect`: what is in a checkpoint, for a person or a program."""

from __future__ import annotations

import gc
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

import click

from portackpt.cli import settings, text
from portackpt.cli.table import table

if TYPE_CHECKING:
    from portackpt.inspection import Inspection, TensorFacts

_ROWS = 40


@click.command(name="inspect")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--tensors", is_flag=True, help="List every tensor.")
@click.option("--match", metavar="GLOB", help="Only tensors whose name fits, such as '*/exp_avg'.")
@click.option("--from", "format", metavar="FORMAT", help="The format, where content does not say.")
@click.option("--step", type=int, help="The step, in a root that holds several.")
@click.option("--set", "pairs", metavar="NAME=VALUE", multiple=True, help="What it leaves open.")
def command(
    path: str,
    as_json: bool,
    tensors: bool,
    match: str | None,
    format: str | None,
    step: int | None,
    pairs: tuple[str, ...],
) -> None:
    """Show what is in the checkpoint at PATH, without running what is in it."""
    from portackpt.inspection import inspect

    gc.disable()  # all that is made is shown, and then the process ends
    found = inspect(path, format=format, step=step, match=match, settings=settings.read(pairs))
    if as_json:
        text.print_json(found.to_json())
        return
    _head(found)
    if tensors or match:
        _list(found.tensors)
    else:
        _groups(found.tensors)
    _values(found)


def _head(found: Inspection) -> None:
    framework = " ".join(filter(None, (found.framework, found.framework_version)))
    parts = [found.format, f"written by {framework}" if framework else ""]
    parts.append(f"step {found.step:,}" if found.step is not None else "")
    parts.append(text.count(len(found.tensors), "tensor"))
    parts.append(text.size(found.nbytes))
    click.echo(f"{found.path}: " + ", ".join(part for part in parts if part))
    roles = Counter(str(fact.role) for fact in found.tensors)
    sizes: Counter[str] = Counter()
    for fact in found.tensors:
        sizes[str(fact.role)] += fact.nbytes
    if roles:
        told = [f"{n:,} {name} ({text.size(sizes[name])})" for name, n in roles.most_common()]
        click.echo("tensors by role: " + ", ".join(told))
    for line in _meaning(found):
        click.echo(line)
    for note in found.notes:
        click.echo(f"note: {note}")


def _meaning(found: Inspection) -> Iterator[str]:
    """A line for each optimizer, schedule and random stream, and for what progress is known."""
    for optimizer in found.optimizers:
        slots = ", ".join(text.clean(slot) for slot in optimizer["slots"]) or "no slots yet"
        step = "" if optimizer["step"] is None else f", step {optimizer['step']:,}"
        name = optimizer["algorithm"] or "of an unknown kind"
        parameters = text.count(optimizer["parameters"], "parameter")
        yield f"optimizer at {_place(optimizer)}: {name}, {parameters}, {slots}{step}"
        for sentence in filter(None, [optimizer.get("ambiguity"),
                                      *optimizer.get("assumptions", ())]):  # fmt: skip
            yield f"  {text.clean(sentence)}"
    for schedule in found.schedules:
        rates = ", ".join(f"{rate:.6g}" for rate in (schedule["lrs"] or ())[:4])
        yield (
            f"schedule at {_place(schedule)}: {schedule['kind']}, position {schedule['position']}"
            + (f", rate {rates}" if rates else "")
        )
    for stream in found.randomness:
        yield f"random stream at {_place(stream)}: {stream['engine']} of {stream['library']}"
    rest = {name: value for name, value in found.progress.items() if name != "step"}
    if rest:
        yield "progress: " + ", ".join(f"{name} {value:,}" for name, value in rest.items())


def _place(part: Mapping[str, str]) -> str:
    return text.clean(part["name"]) or "(root)"


def _groups(facts: tuple[TensorFacts, ...]) -> None:
    """Tensors grouped by their name with every number replaced by `*`."""
    groups: dict[tuple[str, str, tuple[int, ...]], list[TensorFacts]] = {}
    for fact in facts:
        pattern = re.sub(r"\d+", "*", fact.name)
        groups.setdefault((pattern, fact.dtype, fact.shape), []).append(fact)
    rows = sorted(groups.items(), key=lambda item: -sum(fact.nbytes for fact in item[1]))
    shown = {key for key, _ in rows[:_ROWS]}
    lines = [
        (
            text.clean(members[0].name if len(members) == 1 else key[0]),
            f"{len(members):,}",
            key[1],
            str(list(key[2])),
            text.size(sum([fact.nbytes for fact in members])),
            str(members[0].role),
        )
        for key, members in groups.items()
        if key in shown
    ]
    click.echo(table(("tensors", "count#", "dtype", "shape", "bytes#", "role"), lines))
    if len(rows) > _ROWS:
        rest = [fact for _, members in rows[_ROWS:] for fact in members]
        nbytes = text.size(sum(fact.nbytes for fact in rest))
        click.echo(f"and {len(rest):,} smaller tensors, {nbytes}; --tensors lists every one")


def _list(facts: tuple[TensorFacts, ...]) -> None:
    rows = [
        (text.clean(fact.name), fact.dtype, str(list(fact.shape)), text.size(fact.nbytes),
         str(fact.role))
        for fact in facts
    ]  # fmt: skip
    click.echo(table(("tensor", "dtype", "shape", "bytes#", "role"), rows))


def _values(found: Inspection) -> None:
    rows = list(_joined(found.values))
    if rows:
        shown = [(text.clean(path) or "(root)", text.clean(value)) for path, value in rows[:_ROWS]]
        click.echo(table(("other values", "value"), shown))
        if len(rows) > _ROWS:
            click.echo(f"and {len(rows) - _ROWS:,} more")
    if found.unrecognized:
        names = [text.clean(path) or "(root)" for path in found.unrecognized[:10]]
        more = len(found.unrecognized) - len(names)
        click.echo(f"unrecognized: {', '.join(names)}" + (f" and {more:,} more" if more else ""))


def _joined(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The values by path, the elements of one list as one row."""
    elements = groupby(values.items(), key=lambda item: _list_of(item[0]))
    for owner, members in elements:
        if owner is None:
            yield from ((path, _short(leaf)) for path, leaf in members)
        else:
            leaves = [leaf for _, leaf in members]
            shown = ", ".join(_short(leaf) for leaf in leaves[:8])
            more = f", … {len(leaves):,} in all" if len(leaves) > 8 else ""
            yield owner, f"[{shown}{more}]"


def _list_of(path: str) -> str | None:
    owner, _, last = path.rpartition("/")
    return owner if last.isdecimal() and owner else None


def _short(leaf: object) -> str:
    kind = getattr(leaf, "type", None)
    written = f"<{kind}>" if isinstance(kind, str) else repr(leaf)
    return written if len(written) <= 72 else written[:69] + "..."
