"""The containers that people have, told apart by the names in them.

stable-baselines3      data, policy.pth, *.optimizer.pth, _stable_baselines3_version
huggingface-trainer    trainer_state.json beside weights, optimizer.pt, scheduler.pt, rng_state*
accelerate             random_states_0.pkl, optimizer.bin, scheduler.bin, sampler.bin
composer               composer_states.pt
allennlp               model_state_*.th with training_state_*.th, or weights.th with config.json
megatron               mp_rank_*/model_optim_rng.pt, or a DCP checkpoint with common.pt beside
deepspeed              *_model_states.pt, *_optim_states.pt
huggingface-model      config.json beside weights, in one file or in shards with an index
keras                  config.json, metadata.json, model.weights.h5 (a `.keras` not zipped), or
                           weights in shards with an index *.weights.json
training               an optimizer, a scheduler, or random states beside weights
files                  anything else: opened when asked for by name, never recognized
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping

_WEIGHTS = re.compile(
    r"(model|pytorch_model|flax_model|tf_model|adapter_model|diffusion_pytorch_model)"
    r"(-\d+-of-\d+)?\.(safetensors|bin|msgpack|h5)"
)
_STATE = re.compile(
    r"(?i)(.*[._-])?(optimizers?|optim|schedulers?|scaler|rng[_-]states?(_\d+)?"
    r"|random[_-]states?(_\d+)?|training[_-]state|trainer[_-]state)\.(pt|pth|bin|pkl|ckpt|th|tar)"
)
_Rule = Callable[[frozenset[str]], bool]


def _any(pattern: str) -> _Rule:
    compiled = re.compile(pattern)
    return lambda names: any(compiled.fullmatch(name) for name in names)


def _both(*patterns: str) -> _Rule:
    rules = [_any(pattern) for pattern in patterns]
    return lambda names: all(rule(names) for rule in rules)


def _has(*wanted: str) -> _Rule:
    return lambda names: names.issuperset(wanted)


def _model(names: frozenset[str]) -> bool:
    return "config.json" in names and any(_WEIGHTS.fullmatch(name) for name in names)


def _training(names: frozenset[str]) -> bool:
    """An optimizer or the like, and something that it may belong to."""
    states = {name for name in names if _STATE.fullmatch(name)}
    others = [name for name in names - states if re.search(r"\.(pt|pth|bin|th|safetensors)$", name)]
    return bool(states) and bool(others)


# the first that fits names the container
_KINDS: tuple[tuple[str, tuple[_Rule, ...]], ...] = (
    ("stable-baselines3", (_has("data", "_stable_baselines3_version"), _has("data", "policy.pth"))),
    ("huggingface-trainer", (_has("trainer_state.json"),)),
    ("accelerate", (_any(r"random_states_\d+\.pkl"),)),
    ("composer", (_any(r"(.*/)?composer_states\.pt"),)),
    ("allennlp", (_both(r"model_state_.*\.th", r"training_state_.*\.th"),
                  _has("weights.th", "config.json"))),
    ("megatron", (_any(r"mp_rank_\d+(_\d+)?(/model_optim_rng\.pt)?"),
                  _has(".metadata", "common.pt"))),
    ("torch-dcp", (_both(r"\.metadata|.*\.distcp",
                         r".*\.(pt|pth|bin|pkl|safetensors|json|ckpt|msgpack|npz)"),)),
    ("deepspeed", (_any(r".*_model_states\.pt"),)),
    ("huggingface-model", (_model, _has("pytorch_model.bin.index.json"))),
    ("keras", (_has("config.json", "metadata.json", "model.weights.h5"),
               _both(r".*\.weights\.json", r".*_\d+\.weights\.h5"))),
    ("training", (_training,)),
)  # fmt: skip


def kind_of(names: Iterable[str]) -> str:
    """The kind of a container that holds these names."""
    found = frozenset(names)
    for kind, rules in _KINDS:
        if any(rule(found) for rule in rules):
            return kind
    return "files"


def step_of(texts: Mapping[str, str]) -> int | None:
    """The training step that a text file of the container states."""
    for name, keys in (("trainer_state.json", ("global_step",)), ("data", ("num_timesteps",))):
        try:
            document = json.loads(texts.get(name, "{}"))
        except (ValueError, RecursionError):
            continue
        for key in keys:
            value = document.get(key) if isinstance(document, dict) else None
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                return value
    return None
