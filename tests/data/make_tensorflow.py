"""Writes tests/data/tensorflow with TensorFlow itself: `python tests/data/make_tensorflow.py`.

Made with tensorflow 2.21.0. Each checkpoint shows one thing that readers must know.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saver_pb2

ROOT = Path(__file__).with_name("tensorflow")


def save(prefix: str, tensors: dict[str, tf.Tensor], slices: dict[str, str] | None = None) -> None:
    """Tensors under plain names, in the order given."""
    (ROOT / prefix).parent.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(ROOT / prefix),
        tensor_names=[name.partition("@")[0] for name in tensors],
        shape_and_slices=[(slices or {}).get(name, "") for name in tensors],
        tensors=list(tensors.values()),
    )


def write_state(folder: str, names: list[str]) -> None:
    """The list of checkpoints as a program on another machine leaves it: with absolute paths."""
    lines = [f'all_model_checkpoint_paths: "/home/someone/run/{name}"\n' for name in names]
    newest = f'model_checkpoint_path: "/home/someone/run/{names[-1]}"\n'
    (ROOT / folder / "checkpoint").write_text(newest + "".join(lines))


def make_objects() -> None:
    """Objects of every kind: a module, a list, a dict with odd names, slots, text, a counter."""
    module = tf.Module()
    module.kernel = tf.Variable([[1.0, 2.0, 3.0]], name="kernel")
    module.layers = [
        tf.Variable(np.int64(7)),
        {"a/b": tf.Variable([True]), "c.d": tf.Variable(2.5)},
    ]
    module.label = tf.Variable(["zero", b"\xff\x00", ""])
    optimizer = tf.compat.v1.train.AdamOptimizer(0.1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(module.kernel**2)
    optimizer.apply_gradients([(tape.gradient(loss, module.kernel), module.kernel)])
    checkpoint = tf.train.Checkpoint(model=module, optimizer=optimizer)
    for _ in range(2):
        checkpoint.save(str(ROOT / "objects" / "ckpt"))
    write_state("objects", ["ckpt-1", "ckpt-2"])


def make_names() -> None:
    """Plain names, one of them the beginning of another; every dtype; odd shapes."""
    save(
        "names/model.ckpt-5",
        {
            "dense/kernel": tf.constant([[1.0, 2.0]]),
            "dense/kernel/Adam": tf.constant([[0.5, 0.25]]),
            "global_step": tf.constant(5, tf.int64),
        },
    )
    kinds = [
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
        *(ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz),
        *(ml_dtypes.float8_e4m3b11fnuz, ml_dtypes.float8_e5m2, ml_dtypes.float8_e5m2fnuz),
        *(ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2),
        ml_dtypes.float4_e2m1fn,
    ]
    values = {np.dtype(kind).name: tf.constant(np.array([1, 0, 1], kind)) for kind in kinds}
    for kind in (tf.qint8, tf.quint8, tf.qint16, tf.quint16, tf.qint32):
        values[kind.name] = tf.cast([1, 0, 3], kind)
    values["empty"] = tf.zeros((0, 3))
    values["deep"] = tf.reshape(tf.range(4), (1, 2, 1, 1, 2, 1, 1, 1, 1, 1))
    values["text"] = tf.constant([["a" * 200, ""], ["b", "\u00e9"]])
    save("dtypes/all", values)


def make_shards() -> None:
    """Three data shards, merged as the savers of distributed programs do."""
    for part in range(3):
        value = tf.constant([float(part)] * (part + 1))
        save(f"shards/part{part}", {f"variable_{part}": value, f"text_{part}": tf.constant("t")})
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(ROOT / f"shards/part{part}") for part in range(3)],
        destination_prefix=str(ROOT / "shards/merged"),
        delete_old_dirs=False,
    )


def make_slices() -> None:
    """Variables kept in parts: along the first, the second, and both dimensions."""
    whole = tf.reshape(tf.range(24, dtype=tf.float32), (4, 6))
    tensors, slices = {}, {}
    cuts = {
        "rows": ["4 6 0,1:-", "4 6 1,3:-"],
        "columns": ["4 6 -:0,2", "4 6 -:2,3", "4 6 -:5,1"],
        "both": ["4 6 0,2:0,6", "4 6 2,2:0,1", "4 6 2,2:1,5"],
    }
    for name, specs in cuts.items():
        for number, spec in enumerate(specs):
            parts = []
            for extent, size in zip(spec.split()[2].split(":"), (4, 6), strict=True):
                start, length = (0, size) if extent == "-" else map(int, extent.split(","))
                parts.append(slice(start, start + length))
            tensors[f"{name}@{number}"] = whole[tuple(parts)]
            slices[f"{name}@{number}"] = spec
    tensors["long@0"], slices["long@0"] = tf.zeros((200,), tf.int8), "300 0,200"
    tensors["long@1"], slices["long@1"] = tf.ones((100,), tf.int8), "300 200,100"
    tensors["plain"] = tf.constant(1.0)
    save("slices/part", tensors, slices)


def make_variant() -> None:
    """The state of a tf.data iterator, which only TensorFlow can decode."""
    iterator = iter(tf.data.Dataset.range(10))
    for _ in range(3):
        next(iterator)
    tf.train.Checkpoint(iterator=iterator).write(str(ROOT / "variant" / "ckpt"))


def make_v1() -> None:
    """The single file of TensorFlow 1, with each of its kinds of values."""
    (ROOT / "v1").mkdir()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        values = {
            "float": np.arange(6, dtype="f4").reshape(2, 3),
            "double": np.array([0.1, -2.5]),
            "int": np.array([-1, 0, 1 << 30], "i4"),
            "long": np.array([-(1 << 62), 5], "i8"),
            "bytes": np.array([0, 200, 255], "u1"),
            "half": np.array([1.5, -0.0], "f2"),
            "flag": np.array([True, False]),
            "complex": np.array([1 + 2j], "c8"),
            "global_step": np.array(3, "i8"),
            "text": np.array([b"one", b"", b"three"], object),
        }
        variables = [
            tf.compat.v1.get_variable(name, initializer=tf.constant(value), use_resource=False)
            for name, value in values.items()
        ]
        parts = tf.compat.v1.get_variable(
            "parts",
            initializer=tf.reshape(tf.range(12, dtype=tf.float32), (6, 2)),
            partitioner=tf.compat.v1.fixed_size_partitioner(3),
            use_resource=False,
        )
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver([*variables, *parts], write_version=saver_pb2.SaverDef.V1)
        saver.save(
            session,
            str(ROOT / "v1" / "model.ckpt"),
            global_step=3,
            write_meta_graph=False,
        )
    write_state("v1", ["model.ckpt-3"])


def make_saved_model() -> None:
    """A SavedModel without functions: its variables, and a small program."""
    module = tf.Module()
    module.weight = tf.Variable([1.0, 2.0])
    tf.saved_model.save(module, str(ROOT / "saved_model"))


if __name__ == "__main__":
    shutil.rmtree(ROOT, ignore_errors=True)
    make_objects()
    make_names()
    make_shards()
    make_slices()
    make_variant()
    make_v1()
    make_saved_model()
