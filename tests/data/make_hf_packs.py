"""What Hugging Face's own conversions make of small models: names, shapes and digests.

Needs `transformers==4.46.3` (the last 4 with Flax and TensorFlow models whose names settled),
`tf-keras`, PyTorch, Flax and TensorFlow:

    python tests/data/make_hf_packs.py tests/data/packs
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

os.environ.update(TF_USE_LEGACY_KERAS="1", JAX_PLATFORMS="cpu", TF_CPP_MIN_LOG_LEVEL="3")

import jax.numpy as jnp
import numpy as np
import torch
import transformers as hf
from flax.traverse_util import flatten_dict

SMALL: dict[str, Any] = {"num_attention_heads": 2, "intermediate_size": 12}
BERT = hf.BertConfig(
    hidden_size=8, num_hidden_layers=2, vocab_size=11, max_position_embeddings=6, **SMALL
)
T5: dict[str, Any] = {"d_model": 8, "d_kv": 4, "num_heads": 2, "d_ff": 12, "vocab_size": 11}
MODELS = {
    "gpt2": ("GPT2LMHeadModel", hf.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=11)),
    "gpt2-bare": ("GPT2Model", hf.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=11)),
    "bert": ("BertForPreTraining", BERT),
    "bert-classifier": ("BertForSequenceClassification", BERT),
    "bert-bare": ("BertModel", BERT),
    "llama": (
        "LlamaForCausalLM",
        hf.LlamaConfig(
            hidden_size=16, num_hidden_layers=2, num_key_value_heads=1, vocab_size=11, **SMALL
        ),
    ),
    "t5": ("T5ForConditionalGeneration", hf.T5Config(num_layers=2, **T5)),
    "t5-gated": (
        "T5ForConditionalGeneration",
        hf.T5Config(num_layers=2, feed_forward_proj="gated-gelu", tie_word_embeddings=False, **T5),
    ),
    "vit": (
        "ViTForImageClassification",
        hf.ViTConfig(hidden_size=8, num_hidden_layers=2, image_size=8, patch_size=4, **SMALL),
    ),
    "resnet": (
        "ResNetForImageClassification",
        hf.ResNetConfig(embedding_size=4, hidden_sizes=[8, 16], depths=[1, 2]),
    ),
    "resnet-basic": (
        "ResNetForImageClassification",
        hf.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 2], layer_type="basic"),
    ),
}


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """What a leaf of this name holds: the test makes the same."""
    return np.random.default_rng(zlib.crc32(name.encode())).random(shape, np.float32)


def filled(model: Any) -> dict[str, str]:
    """Fill a model; the names that share a tensor with an earlier one, and that one."""
    owners: dict[int, str] = {}
    ties = {}
    state = model.state_dict()
    for name, tensor in state.items():
        owner = owners.setdefault(tensor.data_ptr(), name) if tensor.numel() else name
        if owner != name:
            ties[name] = owner
        elif tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(values(name, tuple(tensor.shape))))
    return ties


def described(leaves: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, leaf in leaves.items():
        array = np.ascontiguousarray(np.asarray(leaf))
        digest = hashlib.sha256(array.tobytes()).hexdigest()[:16]
        found[name] = {"shape": list(array.shape), "sha256": digest}
    return found


def main(folder: Path) -> None:
    clip = jnp.clip  # jax renamed two of its arguments
    jnp.clip = lambda x, a_min=None, a_max=None: clip(x, a_min, a_max)
    for name, (family, config) in MODELS.items():
        model = getattr(hf, family)(config)
        ties = filled(model)
        shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
        with tempfile.TemporaryDirectory() as saved:
            model.save_pretrained(saved)
            targets = {}
            if hasattr(hf, f"Flax{family}") and name != "resnet-basic":
                flax = getattr(hf, f"Flax{family}").from_pretrained(saved, from_pt=True)
                leaves = flatten_dict(flax.params)
                targets["flax"] = described({"/".join(path): leaf for path, leaf in leaves.items()})
            if hasattr(hf, f"TF{family}"):
                tf = getattr(hf, f"TF{family}").from_pretrained(saved, from_pt=True)
                targets["tf"] = described({w.name: w.numpy() for w in tf.weights})
        document = {"torch": shapes, "ties": ties, **targets}
        (folder / f"{name}.json").write_text(json.dumps(document, indent=0) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
