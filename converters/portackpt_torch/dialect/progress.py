"""How far a run has come: the counters that training programs around torch keep."""

from __future__ import annotations

import json
from collections.abc import Mapping

from portackpt.optimizers import Origin
from portackpt.run import at
from portackpt.tree import Node, children
from portackpt_torch.dialect.optimizers import count
from portackpt_torch.dialect.state_reader import mapping

# what Lightning, the Hugging Face Trainer, Composer, allennlp and hand-written loops call them
_NAMES: Mapping[str, str] = {
    "step": "step",
    "global_step": "step",
    "global_steps": "step",
    "iteration": "step",
    "iterations": "step",
    "iter": "step",
    "iter_num": "step",
    "num_updates": "step",
    "batch_num_total": "step",
    "batch": "step",
    "epoch": "epoch",
    "epochs": "epoch",
    "current_epoch": "epoch",
    "epochs_completed": "epoch",
    "batches_in_epoch_completed": "batch_in_epoch",
    "sample": "samples",
    "samples": "samples",
    "samples_seen": "samples",
    "consumed_samples": "samples",
    "batch_in_epoch": "batch_in_epoch",
}
_DEEPEST = 3
_LARGEST_TEXT = 1 << 24
TRAINER_STATE = "trainer_state.json"


def read(path: str, node: Node) -> dict[str, Origin]:
    """The counters among the entries of a mapping near the root."""
    found: dict[str, Origin] = {}
    if path.count("/") >= _DEEPEST:
        return found
    for (component, value), name in zip(children(node), mapping(node) or {}, strict=False):
        meaning = _NAMES.get(name) if isinstance(name, str) else None
        number = count(value) if meaning else None
        if meaning and number is not None:
            fraction = isinstance(value, float) and meaning == "epoch"
            found.setdefault(meaning, Origin(at(path, component), value if fraction else number))
    return found


def from_trainer(path: str, text: Node) -> dict[str, Origin]:
    """The counters in the Hugging Face Trainer's `trainer_state.json`."""
    if not isinstance(text, str) or len(text) > _LARGEST_TEXT:
        return {}
    try:
        state = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    state = state if isinstance(state, dict) else {}
    return {
        _NAMES[name]: Origin(path, state[name])
        for name in ("global_step", "epoch")
        if isinstance(state.get(name), int | float) and not isinstance(state[name], bool)
    }
