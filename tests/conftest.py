"""The table of real files at the end of a test run."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "real file" and getattr(report, "when", None) == "call"
    ]
    if not rows:
        return
    terminalreporter.write_sep("-", "real files, to the neutral format and back")
    for path, verdict, told in sorted(map(tuple, rows)):
        terminalreporter.write_line(f"{verdict:10} {path}: {told}")
