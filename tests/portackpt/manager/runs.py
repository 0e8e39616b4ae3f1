"""States and roots that the tests of the manager share."""

import json
from pathlib import Path
from typing import Any

import numpy as np

Objects = dict[str, Any]


def state(value: float = 0.0) -> Objects:
    return {"model": {"w": np.full(5000, value, "f4"), "b": np.full(3, value)}, "step": {"n": 0}}


def value(objects: Objects) -> float:
    """The one number that all of a state holds."""
    values = {*objects["model"]["w"].tolist(), *objects["model"]["b"].tolist()}
    assert len(values) == 1
    return float(values.pop())


def journal(root: Path, *events: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (root / "journal.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] in events or not events]


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
