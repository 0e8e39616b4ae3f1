"""Makes the checkpoints of tests/data/orbax with Orbax itself: `python tests/data/make_orbax.py`.

With a folder as its argument it makes checkpoints of every layout there.
"""

import os
import shutil
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.experimental import v1

FOLDER = Path(__file__).parent / "orbax"


def tree() -> dict[str, object]:
    """What `tests/converters/portackpt_jax/test_orbax_stored.py` expects to find."""
    return {
        "b": {"c": np.arange(3, dtype=np.int16), "größe": jnp.ones((2, 2), jnp.bfloat16)},
        "a": jnp.arange(6.0).reshape(2, 3),
        "list": [1, 2.5, True, "text", None, jnp.zeros(2)],
        "tuple": (np.float64(1), np.ones(1)),
        "empty": {"dict": {}, "list": [], "tuple": ()},
        "a/b": np.array([7], np.uint8),
        "key": jax.random.key(3),
    }


def sharded() -> dict[str, jax.Array]:
    """Arrays divided over four devices in every way."""
    mesh = jax.make_mesh((2, 2), ("x", "y"))
    values = jnp.arange(64.0).reshape(8, 8)
    divisions = {"rows": (("x", "y"),), "columns": (None, "y"), "both": ("x", "y"), "none": ()}
    return {
        name: jax.device_put(
            values, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
        )
        for name, axes in divisions.items()
    }


def save(path: Path, value: object, how: dict[str, bool], **more: object) -> None:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**how)) as saver:
        saver.save(path, args=ocp.args.PyTreeSave(value, **more))


def root(folder: Path, *, everything: bool) -> None:
    with ocp.CheckpointManager(folder) as manager:
        for step in (2, 10):
            items = {
                "params": ocp.args.StandardSave({"w": jnp.full(3, step)}),
                "progress": ocp.args.JsonSave({"epoch": step, "best": None}),
            }
            if everything:
                state = np.random.RandomState(step).get_state()
                items["keys"] = ocp.args.JaxRandomKeySave(jax.random.key(step))
                items["numpy"] = ocp.args.NumpyRandomKeySave(state)
                items["array"] = ocp.args.ArraySave(jnp.ones(2))
            manager.save(step, args=ocp.args.Composite(**items))


def stored(folder: Path) -> None:
    """A few layouts, for tests where there is no Orbax."""
    save(folder / "ocdbt", tree(), {})
    save(folder / "plain", tree(), {"use_ocdbt": False})
    save(folder / "sharded", sharded(), {})
    second = {key: value for key, value in tree().items() if key not in ("key", "tuple")}
    v1.save_pytree(folder / "second_api", second)
    root(folder / "root", everything=False)
    for path in folder.rglob("commit_success.txt"):
        path.write_text("Checkpoint commit was successful")  # without the path of this machine


def every(folder: Path) -> None:
    """Every layout that Orbax writes."""
    for database in (True, False):
        for third in (True, False):
            how = {"use_ocdbt": database, "use_zarr3": third}
            name = f"ocdbt_{database}_zarr3_{third}"
            save(folder / f"tree_{name}", tree(), how)
            save(folder / f"sharded_{name}", sharded(), how)
            chunks = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=64), sharded())
            save(folder / f"sharded_chunked_{name}", sharded(), how, save_args=chunks)
    save(folder / "tree_uncompressed", tree(), {"use_compression": False})
    v1.save_pytree(folder / "sharded_second_api", sharded())
    root(folder / "root", everything=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        every(Path(sys.argv[1]))
    else:
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir()
        stored(FOLDER)
