"""Whether a path leads to a checkpoint of TensorFlow, whole or damaged."""

from __future__ import annotations

from portackpt.plugins import Probe
from portackpt_tensorflow.location import PROGRAMS, first_tag, has_shards, is_v1_list
from portackpt_tensorflow.shards import NAME as SHARD_NAME
from portackpt_tensorflow.shards import index_path
from portackpt_tensorflow.statefile import NAME as STATE
from portackpt_tensorflow.statefile import is_state, read_state

_FEW = 8
_HEADER_TAGS = (0x08, 0x0A)  # of a bundle's header, of a V1 list of tensors


def is_bundle(probe: Probe) -> bool:
    """True for a prefix, one of its files, a V1 file, a directory of them, a SavedModel."""
    path = probe.path
    if index_path(path).is_file():
        return True
    if probe.is_directory:
        return _is_directory(probe)
    if not path.is_file():
        return has_shards(path)
    shard = SHARD_NAME.fullmatch(path.name)
    if shard and index_path(path.with_name(shard[1])).is_file():
        return True
    if path.name == STATE and is_state(probe.head):
        return True
    return _is_table(probe)


def _is_directory(probe: Probe) -> bool:
    names = probe.names
    if not names.isdisjoint(PROGRAMS):
        return True
    if "variables" in names and index_path(probe.path / "variables" / "variables").is_file():
        return True
    if STATE in names and read_state(probe.path) is not None:
        return True
    if any(SHARD_NAME.fullmatch(name) for name in names):
        return True
    indexes = sorted(name for name in names if name.endswith(".index"))
    return any(_is_table(Probe(probe.path / name)) for name in indexes[:_FEW])


def _is_table(probe: Probe) -> bool:
    """A table by its ends; where only one of them is right, by its name or its list of tensors."""
    head = probe.head
    begins = first_tag(head) in _HEADER_TAGS
    name = probe.path.name
    if name.endswith(".index"):
        prefix = probe.path.with_name(name.removesuffix(".index"))
        return begins or _ends(probe) or has_shards(prefix)
    return (begins and _ends(probe)) or is_v1_list(head)


def _ends(probe: Probe) -> bool:
    from portackpt_tensorflow.table import FOOTER, MAGIC

    if len(probe.head) < FOOTER:
        return False
    with probe.path.open("rb") as file:
        file.seek(-len(MAGIC), 2)
        return file.read() == MAGIC
