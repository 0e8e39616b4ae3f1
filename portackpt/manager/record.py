"""The record of a checkpoint: when and why it was saved, and what was measured then.

It lies beside the manifest as `record.json`, one sealed line. The manifest does not refer to it
(`spec/format.md`, D-8 and C-5): a checkpoint's own bytes hold neither a time nor a machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from portackpt.errors import UsageError
from portackpt.manager.lines import seal, unseal
from portackpt.storage.local import write_file
from portackpt.store import manifest

NAME: Final = "record.json"
_MAX_SIZE = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of one checkpoint.

    `time` is when its state was taken, in seconds since 1970; `why` the reason of the decision that
    saved it; `nbytes` its size on disk; `environment` the fingerprint of the process that saved it;
    `probe` what its `Probe` measured. `run` names the run it belongs to.
    """

    step: int
    time: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    why: str = ""
    run: str | None = None
    environment: Mapping[str, Any] | None = None
    probe: Mapping[str, Any] | None = None
    nbytes: int = 0


def plain_metrics(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """Metrics as Python floats: numbers, and arrays and tensors of one element."""
    found = {}
    for name, value in (metrics or {}).items():
        try:
            found[str(name)] = float(value)
        except (TypeError, ValueError, RuntimeError):
            told = f"a metric is one number; {name!r} is a {type(value).__name__}"
            raise UsageError(told) from None
    return found


def plain_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags in their order, each once."""
    if isinstance(tags, str):
        raise UsageError(f"tags are a collection of words, found the text {tags!r}")
    return tuple(dict.fromkeys(map(str, tags)))


def write(directory: Path, record: Record) -> None:
    """Write the record of a checkpoint that is being written into `directory`."""
    members = {
        name: value
        for name in Record.__dataclass_fields__
        if name != "nbytes" and (value := getattr(record, name)) not in (None, (), {}, "")
    }
    if record.metrics:
        members["metrics"] = spelled(record.metrics)
    write_file(directory / NAME, seal(members))


def read(directory: Path, step: int) -> Record:
    """The record of the checkpoint in `directory`; a bare one where there is none to read."""
    nbytes = 0
    for entry in os.scandir(directory):
        if entry.is_file(follow_symlinks=False):
            nbytes += entry.stat(follow_symlinks=False).st_size
    bare = Record(step=step, time=_committed(directory), nbytes=nbytes)
    path = directory / NAME
    try:
        if path.stat().st_size > _MAX_SIZE:
            return bare
        members = unseal(path.read_bytes())
        if members is None or members.pop("step", None) != step:
            return bare
        members["metrics"] = unspelled(members.get("metrics", {}))
        return msgspec.convert({**members, "step": step, "nbytes": nbytes}, Record)
    except (OSError, msgspec.ValidationError, ValueError, TypeError, AttributeError):
        return bare


def spelled(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """Metrics for JSON, which has no NaN and no infinities: those are spelled as text."""
    return {name: v if abs(v) < float("inf") else str(v) for name, v in metrics.items()}


def unspelled(metrics: Mapping[str, float | str]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _committed(directory: Path) -> float:
    """When a checkpoint that has no record was written, as far as its files tell."""
    try:
        return (directory / manifest.NAME).stat().st_mtime
    except OSError:
        return 0.0
