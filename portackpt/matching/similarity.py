"""How alike two names are, to someone who knows how layers are called."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SAME = {
    "attn": "attention", "mha": "attention", "selfattention": "attention", "self": "attention",
    "multihead": "attention", "heads": "head",
    "ln": "norm", "bn": "norm", "gn": "norm", "layernorm": "norm", "batchnorm": "norm",
    "rmsnorm": "norm", "groupnorm": "norm", "normalization": "norm", "normalisation": "norm",
    "fc": "dense", "linear": "dense", "proj": "dense", "projection": "dense", "lin": "dense",
    "convolution": "conv", "emb": "embedding", "embed": "embedding", "embeddings": "embedding",
    "embeddingss": "embedding", "wte": "token", "wpe": "position", "pos": "position",
    "tok": "token", "tokens": "token", "word": "token", "vocab": "token",
    "ffn": "mlp", "feedforward": "mlp", "ff": "mlp", "intermediate": "mlp",
    "q": "query", "k": "key", "v": "value", "o": "out", "output": "out",
    "h": "block", "layers": "block", "blocks": "block", "layer": "block", "stages": "stage",
    "downsample": "shortcut", "skip": "shortcut", "residual": "shortcut",
    "classifier": "head", "logits": "head", "lm": "head", "cls": "head", "final": "last",
    "f": "last", "dec": "decoder", "enc": "encoder", "recurrent": "rnn", "lstm": "rnn",
    "gru": "rnn", "cell": "rnn", "transpose": "transposed", "deconv": "transposed",
}  # fmt: skip
_NOISE = frozenset(("params", "model", "module", "vars", "variables", "params_axes", "transformer"))


@lru_cache(maxsize=1 << 14)
def words(name: str) -> tuple[str, ...]:
    """The words of a name in one spelling, in order: `h.0.attn.c_attn` is block attention c
    attention."""
    found = [word.lower() for word in _WORDS.findall(name)]
    return tuple([_SAME.get(word, word) for word in found if word not in _NOISE])


def similarity(one: str, other: str) -> float:
    """From 0 (no word in common) to 1 (the same words); the last ones count double."""
    return _similarity(words(one), words(other))


@lru_cache(maxsize=1 << 16)
def _similarity(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    if not one or not other:
        return 0.0
    first, second = _weighed(one), _weighed(other)
    common = sum((first & second).values())
    return 2 * common / (sum(first.values()) + sum(second.values()))


def _weighed(found: tuple[str, ...]) -> Counter[str]:
    counts: Counter[str] = Counter(found)
    counts.update(found[-2:])
    return counts
