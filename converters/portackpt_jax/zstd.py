"""The library for zstd, imported when a file needs it."""

from __future__ import annotations

from types import ModuleType

from portackpt.errors import UsageError


def import_zstandard() -> ModuleType:
    try:
        import zstandard
    except ImportError:
        raise UsageError(
            "this checkpoint is compressed with zstd, which needs the library zstandard: "
            "pip install 'portackpt[orbax]'"
        ) from None
    return zstandard
