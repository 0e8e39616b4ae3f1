"""The `keras` format: what Keras saves.

    model.keras          Keras 3: an archive of the model's configuration and its weights
    model.weights.h5     Keras 3: the weights alone, groups named by the paths of layers
    model.h5             Keras 1 and 2: the whole model, or its weights, in groups named by layers

        layers/dense/vars/0                         Keras 3: variables are numbered
        optimizer/vars/0, 1, 2, …                   iterations, learning rate, slots
        model_weights/dense_1/dense_1/kernel:0      Keras 2: named, in order of `@weight_names`
        optimizer_weights/training/Adam/…           slots, in order of `@weight_names`

The trees are those of the HDF5 groups (see `hdf5_names`); `archive` says what stands beside them.
Keras loads a written file into a model whose layers are named as the groups are. The source is
`keras/src/saving/saving_lib.py` and `keras/src/legacy/saving/legacy_h5_format.py` of Keras 3.15.
"""

from __future__ import annotations

import os
from pathlib import Path

from portackpt.bytesource import File, FileRange
from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import BY_NAME
from portackpt.errors import UsageError
from portackpt.plugins import Probe, Progress
from portackpt.tree import Node
from portackpt.vocabulary import Vocabulary

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_UNCHECKED = "HDF5 has no checksums of values: a flipped bit is not found"
_VOCABULARY = Vocabulary(
    dtypes=frozenset(dtype.name for dtype in BY_NAME.values() if dtype.exact) | {"string"},
    scalars=frozenset((str, bytes)),
    containers=frozenset((dict,)),
    attributes=lambda name: name.startswith(("@", "hdf5.")),
    any_root=False,
    remarks={
        dtype.name: f"Keras and h5py give opaque bytes: view them as ml_dtypes.{dtype.name}"
        for dtype in BY_NAME.values()
        if dtype.numpy.startswith("ml_dtypes.")
    }
    | {"bfloat16": "Keras reads bfloat16; h5py opaque bytes: view them as ml_dtypes.bfloat16"},
)


class KerasFormat:
    """`.keras`, `.weights.h5` and `.h5` files."""

    name = "keras"
    framework: str | None = "tensorflow"
    summary = "Keras models and weights: .keras, .weights.h5, legacy .h5"
    suffixes = (".keras", ".weights.h5", ".h5", ".hdf5")
    vocabulary: Vocabulary | None = _VOCABULARY
    holds_steps = False

    def recognize(self, probe: Probe) -> bool:
        if probe.head.startswith(SIGNATURE):
            return True
        return "model.weights.h5" in probe.members or _begins_archive(probe.head)

    def steps(self, path: Path) -> tuple[int, ...]:
        return ()

    def open(self, path: Path, *, step: int | None = None) -> Checkpoint:
        if step is not None:
            raise UsageError("a Keras file holds one checkpoint; leave --step out", str(path))
        with path.open("rb") as file:
            head = file.read(8)
        return _open_hdf5(path) if head == SIGNATURE else _open_archive(path)

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
            raise UsageError("a Keras file holds one checkpoint; leave --step out", str(path))
        if _is_archive(checkpoint, path):
            from portackpt_keras.archive import write_keras

            write_keras(checkpoint.tree, path, overwrite=overwrite, progress=progress)
        else:
            _write_hdf5(checkpoint.tree, path, overwrite=overwrite, progress=progress)

    def resume(self, path: Path, step: int | None) -> str:
        text = _ARCHIVE if path.name.endswith(".keras") else _WEIGHTS
        return text.format(path=str(path))


_ARCHIVE = """\
import zipfile

import h5py
import keras

path = {path!r}
archive = zipfile.ZipFile(path)
weights = h5py.File(archive.open("model.weights.h5"))


def value(name):
    # by its path in the checkpoint, such as "model/kernel"
    return weights[name][()]


if "config.json" in archive.namelist():
    model = keras.saving.load_model(path)
"""
_WEIGHTS = """\
import h5py

path = {path!r}
weights = h5py.File(path)


def value(name):
    # by its path in the checkpoint, such as "model/kernel"
    return weights[name][()]


# `model` is built by your program; its layers are named as the groups of the file
if "model" not in weights or "vars" in weights["model"]:
    model.load_weights(path)
"""


def _begins_archive(head: bytes) -> bool:
    """Keras writes metadata.json first: that tells an archive that was cut short."""
    first = b"metadata.json"
    length = int.from_bytes(head[26:28], "little")
    return head.startswith(b"PK\x03\x04") and head[30 : 30 + length] == first


def _is_archive(checkpoint: Checkpoint, path: Path) -> bool:
    """A name that says nothing is an archive where the checkpoint was one."""
    if path.name.endswith(KerasFormat.suffixes):
        return path.name.endswith(".keras")
    return checkpoint.details_for("keras").get("container") == "keras"


def _open_archive(path: Path) -> Checkpoint:
    from portackpt_keras.archive import open_keras

    opened = open_keras(path)
    return Checkpoint(
        opened.tree,
        "keras",
        "tensorflow",
        _version(opened.keras_version),
        details={"container": "keras"},
        notes=_notes(opened.reading.untyped),
    )


def _open_hdf5(path: Path) -> Checkpoint:
    from portackpt_keras.hdf5 import Hdf5
    from portackpt_keras.hdf5_tree import read_tree

    file = File(path)
    hdf5 = Hdf5(path, 0, file.size, str(path))
    reading = read_tree(hdf5, lambda offset, nbytes: FileRange(file, offset, nbytes), _nothing)
    return Checkpoint(
        reading.tree,
        "keras",
        "tensorflow",
        _version(_legacy_version(reading.tree)),
        details={"container": "h5"},
        notes=(_UNCHECKED, *_notes(reading.untyped)),
    )


def _nothing() -> None:
    pass


def _notes(untyped: int) -> tuple[str, ...]:
    if not untyped:
        return ()
    return (f"{untyped} datasets of two opaque bytes are read as bfloat16, which is all that Keras "
            "writes so",)  # fmt: skip


def _version(version: object) -> str | None:
    return f"Keras {version}" if isinstance(version, str) else None


def _legacy_version(tree: dict[str, Node]) -> Node:
    weights = tree.get("model_weights")
    inner = weights.get("@keras_version") if isinstance(weights, dict) else None
    return tree.get("@keras_version", inner)


def _write_hdf5(tree: dict[str, Node], path: Path, *, overwrite: bool, progress: Progress) -> None:
    from portackpt.storage.local import staged_file
    from portackpt_keras.hdf5_writer import lay_out, pour
    from portackpt_keras.window import Window

    with staged_file(path, overwrite=overwrite) as temporary:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            pour(lay_out(tree, Window(descriptor, 0)), descriptor, 0, progress)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


FORMAT = KerasFormat()
