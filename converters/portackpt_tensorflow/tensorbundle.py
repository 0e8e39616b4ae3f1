"""TensorBundle: what tf.train.Checkpoint and the savers of TensorFlow 1 write.

    dir/ckpt-9.index                 a sorted table (see `table`) from names to entries
    dir/ckpt-9.data-00000-of-00002   the bytes of tensors, one after the other, without gaps
    dir/ckpt-9.data-00001-of-00002
    dir/checkpoint                   a text that names the newest checkpoint of the directory

    key ""           BundleHeaderProto: how many data shards, their byte order
    key NAME         BundleEntryProto: dtype, shape, shard, offset, size, masked crc32c
    key of a slice   the same for a part of a partitioned variable, whose own entry lists its slices

    elements of fixed size    as in memory (int4 and the like: one byte each)
    strings, variants         see `stringtensor`, `variant`

A checkpoint of objects has one more tensor, `_CHECKPOINTABLE_OBJECT_GRAPH` (see `objectgraph`), and
names that spell paths in it (see `naming`); one of TensorFlow 1 has the names of its variables.

What is written here, `tf.train.load_checkpoint(PREFIX)` reads by key, and `tf.train.Checkpoint`
restores into objects whose attributes have the names of the tree: a dict of the tree is a
`tf.Module`, a `dict` or a `list` (names "0", "1", …), a tensor a `tf.Variable`.

Source: tensorflow/core/util/tensor_bundle/tensor_bundle.h, core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

from pathlib import Path

from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import TABLE
from portackpt.errors import UsageError
from portackpt.plugins import Probe, Progress
from portackpt.renaming import Renames
from portackpt.tree import Node
from portackpt.vocabulary import Vocabulary

_KEPT = ("tensorflow.dtype", "tensorflow.shape")


def _is_kept(name: str) -> bool:
    return name in _KEPT


def _renames(tree: Node) -> Renames:
    from portackpt_tensorflow.leaves import other_names

    return other_names(tree)


class TensorBundle:
    """The format `tensorflow`."""

    name = "tensorflow"
    framework: str | None = "tensorflow"
    summary = "TensorBundle: tf.train.Checkpoint, TF1 Saver (V1 is read), variables of a SavedModel"
    suffixes: tuple[str, ...] = (".index",)
    vocabulary: Vocabulary | None = Vocabulary(
        dtypes=frozenset(dtype.name for dtype in TABLE if dtype.tensorflow),
        scalars=frozenset(),
        containers=frozenset((dict,)),
        attributes=_is_kept,
        empty=False,
        any_root=False,
        renames=_renames,
    )
    holds_steps = False

    def recognize(self, probe: Probe) -> bool:
        from portackpt_tensorflow.detection import is_bundle

        return is_bundle(probe)

    def steps(self, path: Path) -> tuple[int, ...]:
        from portackpt_tensorflow.location import steps

        return steps(path)

    def open(self, path: Path, *, step: int | None = None) -> Checkpoint:
        from portackpt_tensorflow.reading import read_checkpoint

        return read_checkpoint(path, step, self.name, self.framework)

    def write(
        self,
        checkpoint: Checkpoint,
        path: Path,
        *,
        overwrite: bool,
        step: int | None,
        progress: Progress,
    ) -> None:
        from portackpt_tensorflow.bundlewriter import write_bundle
        from portackpt_tensorflow.leaves import spell_leaves

        if step is not None:
            raise UsageError("a TensorFlow prefix holds one checkpoint, not steps", str(path))
        prefix = _prefix(path)
        if prefix.is_dir() or not prefix.name:
            raise UsageError(
                "the target is a prefix, such as DIR/ckpt for DIR/ckpt.index; found a directory",
                str(path),
            )
        leaves = spell_leaves(checkpoint.tree, checkpoint.details_for(self.name))
        write_bundle(leaves, prefix, overwrite=overwrite, progress=progress)

    def resume(self, path: Path, step: int | None) -> str:
        return _RESUME.format(prefix=str(_prefix(path)))


def _prefix(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".index")) if path.name else path


_RESUME = """\
import tensorflow as tf

prefix = {prefix!r}
reader = tf.train.load_checkpoint(prefix)


def value(name):
    # by its path in the checkpoint, such as "model/kernel"
    plain = name in reader.get_variable_to_shape_map()
    key = name if plain else name.replace(".", "..") + "/.ATTRIBUTES/VARIABLE_VALUE"
    return reader.get_tensor(key)


# Objects with attributes of these names take all values at once: a dict of the tree is a tf.Module,
# a list (names "0", "1", ...) or a dict, a tensor a tf.Variable; `model` stands for a name at the
# root: tf.train.Checkpoint(model=model).read(prefix).assert_consumed()
"""

FORMAT = TensorBundle()
