"""`--set NAME=VALUE`: what a checkpoint leaves open, and its user knows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from portackpt.errors import UsageError

NAMES = {
    "optimizer": "the algorithm, such as adamw",
    "parameters": "a file of the parameters' names, in the optimizer's order, one a line",
}


def read(pairs: Iterable[str]) -> dict[str, str]:
    """The settings that the command line gives. Raises `UsageError`."""
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if name not in NAMES or not equals:
            known = "; ".join(f"{known} ({told})" for known, told in NAMES.items())
            raise UsageError(
                f"expected NAME=VALUE with a known name, found {pair!r}; known: {known}"
            )
        settings[name] = _text(value) if name == "parameters" else value
    return settings


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the names of the parameters: {error}", path) from error
