"""flax-msgpack: a tree in one file, as `flax.serialization.to_bytes` makes it.

    the whole file is one msgpack value (see `flax_spelling`):
    {"step": int, "params": {name: ndarray, …}, "opt_state": {"0": {…}, …}}

Source: flax/serialization.py, flax/training/checkpoints.py. Lists and tuples of a program are dicts
by number there. A directory of files `checkpoint_N` (`flax.training.checkpoints`) is a root of
steps, read only. The format has no checksums.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from portackpt.checkpoint import Checkpoint
from portackpt.collector import paused_collector
from portackpt.dtypes import TABLE
from portackpt.errors import InputError, UnsupportedError, UsageError
from portackpt.plugins import Probe, Progress
from portackpt.storage.local import Writer, staged_file
from portackpt.tensor import Tensor
from portackpt.tree import Node, children
from portackpt.vocabulary import Vocabulary

if TYPE_CHECKING:
    from portackpt_jax.flax_spelling import Array

NO_CHECKSUMS = "flax's msgpack has no checksums: a flipped bit is not found"
_STEP = re.compile(r"checkpoint_(\d{1,18})")
_PARSED = 64 << 20
"""Bytes of a file that is parsed to see whether it is msgpack."""


def _is_numpy_class(name: str) -> bool:
    return name == "numpy.class"


class FlaxMsgpack:
    """The format; see the module."""

    name = "flax-msgpack"
    framework: str | None = "jax"
    summary = "Flax: one msgpack file (flax.serialization), steps of flax.training.checkpoints"
    suffixes: tuple[str, ...] = (".msgpack",)
    holds_steps = False
    vocabulary: Vocabulary | None = Vocabulary(
        dtypes=frozenset(dtype.name for dtype in TABLE if dtype.exact),
        containers=frozenset((dict, list)),
        keys=frozenset((str, int)),
        attributes=_is_numpy_class,
        large_integers=False,
    )

    def recognize(self, probe: Probe) -> bool:
        if probe.is_directory:
            steps = [probe.path / name for name in probe.names if _STEP.fullmatch(name)]
            return 0 < len(steps) == len(probe.names) and all(
                path.is_file() and _begins_like_a_tree(Probe(path).head) for path in steps[:3]
            )
        return _begins_like_a_tree(probe.head) or _is_msgpack(probe)

    def steps(self, path: Path) -> tuple[int, ...]:
        if not path.is_dir():
            return ()
        found = (_STEP.fullmatch(entry.name) for entry in path.iterdir() if entry.is_file())
        return tuple(sorted(int(match[1]) for match in found if match))

    def open(self, path: Path, *, step: int | None = None) -> Checkpoint:
        steps = self.steps(path)
        if step is not None and step not in steps:
            told = ", ".join(map(str, steps)) or "none: this is one checkpoint"
            raise UsageError(f"there is no step {step}; steps are {told}", str(path))
        if steps:
            step = steps[-1] if step is None else step
            path = path / f"checkpoint_{step}"
        from portackpt_jax.orbax.aggregate import read

        with paused_collector():
            tree = read(path)
        details = {"lists": tuple(_lists(tree))} if _has_lists(tree, path) else {}
        return Checkpoint(
            tree, self.name, self.framework, step=_step(tree) if step is None else step,
            details=details, notes=(NO_CHECKSUMS,),
        )  # fmt: skip

    def write(
        self,
        checkpoint: Checkpoint,
        path: Path,
        *,
        overwrite: bool,
        step: int | None,
        progress: Progress,
    ) -> None:
        if step is not None:
            raise UsageError("a file of flax is one checkpoint; steps are written by flax itself",
                             str(path))  # fmt: skip
        from portackpt_jax.flax_spelling import spell

        sequences = frozenset(checkpoint.details_for(self.name).get("lists", ()))
        with paused_collector():
            arrays, rest = spell(checkpoint.tree, sequences)
        with staged_file(path, overwrite=overwrite) as temporary, Writer(temporary) as file:
            _write_arrays(file, arrays, progress)
            file.write(rest)

    def resume(self, path: Path, step: int | None) -> str:
        return (
            "from pathlib import Path\n\nfrom flax import serialization\n\n"
            f"data = Path({str(path)!r}).read_bytes()\n"
            "state = serialization.msgpack_restore(data)\n"
            "# into your own state: serialization.from_bytes(your_state, data)\n"
        )


def _begins_like_a_tree(head: bytes) -> bool:
    """True for a msgpack map whose first key is text, and for an array alone."""
    match = re.match(
        rb"(?:[\x81-\x8f]|\xde..|\xdf....)(?:([\xa0-\xbf])|\xd9(.))|"
        rb"(?:[\xc7]..|\xc8...|\xc9.....)(?<=[\x01\x03])\x93[\x90-\x9f\xdc]",
        head, re.DOTALL,
    )  # fmt: skip
    if match is None:
        return False
    marker = match[1] or match[2]
    if marker is None:
        return True
    count = marker[0] & 0x1F if match[1] else marker[0]
    try:
        return head[match.end() : match.end() + count].decode().isprintable()
    except UnicodeDecodeError:
        return False


def _is_msgpack(probe: Probe) -> bool:
    """True for another container of msgpack, whole: one whose first key is a number, say."""
    kind = probe.head[:1]
    container = b"\x80" <= kind <= b"\x9f" or kind in (b"\xdc", b"\xdd", b"\xde", b"\xdf")
    if not container or probe.path.stat().st_size > _PARSED:
        return False
    from portackpt_jax.orbax.aggregate import read

    try:
        read(probe.path)
    except (InputError, OSError):
        return False
    return True


def _has_lists(tree: Node, path: Path) -> bool:
    """True where there are lists, which flax's own trees do not have.

    Raises where the tree names arrays that lie elsewhere.
    """
    found = False
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if node.get("driver") == "zarr":
                raise _elsewhere(path)
            stack.extend(node.values())
        elif isinstance(node, (list, tuple)):
            found = found or isinstance(node, list)
            stack.extend(node)
        elif isinstance(node, str) and node.startswith(("PLACEHOLDER://", "AGGREGATED://")):
            raise _elsewhere(path)
    return found


def _elsewhere(path: Path) -> UnsupportedError:
    return UnsupportedError(
        f"this file is the index of the directory {path.parent}, whose arrays it names; "
        "open that instead",
        str(path),
    )


def _lists(tree: Node) -> Iterator[str]:
    """The paths of the lists."""
    stack = [("", tree)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, list):
            yield path
        if isinstance(node, (dict, list, tuple)):
            base = f"{path}/" if path else ""
            stack.extend((base + name, part) for name, part in children(node))


def _step(tree: Node) -> int | None:
    """The counter of a `TrainState`."""
    step = tree.get("step") if isinstance(tree, dict) else None
    if isinstance(step, Tensor) and not step.shape and step.dtype.name.startswith("int"):
        step = int(step.read())
    return step if isinstance(step, int) and not isinstance(step, bool) else None


def _write_arrays(file: Writer, arrays: list[Array], progress: Progress) -> None:
    """The tensors with the text before and within them."""
    from portackpt.streaming import read_ahead

    met, position = -1, 0
    marks: Iterator[tuple[int, bytes]] = iter(())
    mark: tuple[int, bytes] | None = None
    for number, piece in read_ahead(array.tensor for array in arrays):
        if number != met:
            met, position = number, 0
            marks = iter(arrays[number].marks)
            mark = next(marks)
        done = 0
        last = position + max(piece.nbytes - 1, 0)
        while mark is not None and mark[0] <= last:
            file.write(piece[done : mark[0] - position])
            file.write(mark[1])
            done = mark[0] - position
            mark = next(marks, None)
        file.write(piece[done:])
        position += piece.nbytes
        progress(piece.nbytes)


FORMAT = FlaxMsgpack()
