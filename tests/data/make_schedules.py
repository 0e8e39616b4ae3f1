"""Writes schedules/torch.json: real torch schedulers after 17 ticks, and the rates they go on with.

Run from the repository's root where torch is installed: python tests/data/make_schedules.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import schedule_cases as cases

START = 17
COUNTS = (17, 18, 19, 20, 23, 30, 31, 41, 50, 62, 63)
KEPT = ("lr", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum")


def plain(value: Any) -> Any:
    """JSON, with a Counter as {"Counter": [[milestone, times], …]}."""
    if type(value).__name__ == "Counter":
        return {"Counter": [[key, times] for key, times in value.items()]}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    found: dict[str, Any] = {"torch": torch.__version__}
    for name in cases.NAMES:
        made, scheduler = cases.run_to(name, START)
        trace = cases.trace(name)
        found[name] = {
            "state": plain(scheduler.state_dict()),
            "groups": [{key: g[key] for key in KEPT if key in g} for g in made.param_groups],
            "rates": {str(count): trace[count] for count in COUNTS},
        }
    path = Path(__file__).parent / "schedules" / "torch.json"
    lines = [f"{json.dumps(name)}: {json.dumps(found[name])}" for name in found]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
