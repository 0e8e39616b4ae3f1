"""Code for the target's program: the chain, its schedules, and how the state is restored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from portackpt.tree import unescape
from portackpt_jax.dialect import bridges
from portackpt_jax.dialect.chains import Chain
from portackpt_jax.dialect.states import Share, stem


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """Parameters with a chain of their own; None: they are not trained."""

    name: str
    names: tuple[str, ...]
    share: Share
    chain: Chain | None


def program(labels: Sequence[Label], schedules: Mapping[str, str], *, restore: bool) -> str:
    """Code that runs after the format's own, which defines `state`.

    It defines `tx`, and with `restore` also `params` and `opt_state`.
    """
    if not labels:
        return ""
    chains = [label.chain for label in labels if label.chain is not None]
    definitions = list(dict.fromkeys([text for one in chains for text in one.bridges]))
    if any("(NamedTuple)" in text for text in definitions):
        definitions.insert(0, "from typing import NamedTuple\n")
    lines = ["import jax", "import jax.numpy as jnp", "import optax", ""]
    lines += [f"{text.rstrip()}\n\n" for text in (*definitions, *schedules.values())]
    if restore:
        lines += [bridges.RESTORE, "", 'params = jax.tree.map(jnp.asarray, state["params"])']
    lines.append(_tx(labels))
    if restore:
        lines.append('opt_state = as_saved(jax.eval_shape(tx.init, params), state["opt_state"])')
    return "\n".join(lines) + "\n"


def _tx(labels: Sequence[Label]) -> str:
    if len(labels) == 1 and labels[0].chain is not None:
        return f"tx = {_chain(labels[0].chain)}"
    inner = [f'    "{label.name}": {_spelled(label.chain)},\n' for label in labels]
    sizes = Counter({label.name: len(label.names) for label in labels})
    most = sizes.most_common(1)[0][0]
    rare = {
        "/".join([unescape(part) for part in stem(name).split("/")]): label.name
        for label in labels
        if label.name != most
        for name in label.names
    }
    return (
        f"# parameters that are not {most}\n"
        f"labels = {rare!r}\n"
        f"transforms = {{\n{''.join(inner)}}}\n"
        "def label(path, leaf):\n"
        '    name = jax.tree_util.keystr(path, simple=True, separator="/")\n'
        f'    return labels.get(name, "{most}")\n\n\n'
        "tx = optax.multi_transform(\n"
        "    transforms, lambda tree: jax.tree_util.tree_map_with_path(label, tree)\n)"
    )


def _spelled(chain: Chain | None) -> str:
    if chain is None:
        return "optax.set_to_zero()"
    return _chain(chain).replace("\n", "\n    ")


def _chain(chain: Chain) -> str:
    lines = "".join([f"    {link.code},\n" for link in chain.links])
    return f"optax.chain(\n{lines})"
