"""`--set NAME=VALUE` as the command line gives it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from portackpt.errors import UsageError


def read(pairs: Iterable[str]) -> dict[str, str]:
    """The settings in `pairs`. Raises `UsageError`."""
    given = list(pairs)
    if not given:
        return {}
    from portackpt.settings import HYPERPARAMETERS, SETTINGS, hyperparameters

    settings = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not (name in SETTINGS or name in HYPERPARAMETERS):
            known = "; ".join(f"{known} ({told})" for known, told in SETTINGS.items())
            raise UsageError(
                f"expected NAME=VALUE with a known name, found {pair!r}; known: {known}; "
                f"hyperparameters: {', '.join(sorted(HYPERPARAMETERS))}"
            )
        settings[name] = _text(value) if name == "parameters" else value
    hyperparameters(settings)
    return settings


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the names of the parameters: {error}", path) from error
