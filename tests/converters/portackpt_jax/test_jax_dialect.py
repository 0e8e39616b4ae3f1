"""The JAX world's checkpoints by their meaning; Orbax and Flax write what optax made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import portackpt
from portackpt import dialects
from portackpt.run import Run

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
ocp = pytest.importorskip("orbax.checkpoint")
serialization = pytest.importorskip("flax.serialization")
train_state = pytest.importorskip("flax.training.train_state")
jnp = jax.numpy

PARAMETERS = ["dense/bias", "dense/kernel", "out/kernel"]
SEVERAL = "adam or adamax or nadam or radam"


def params() -> dict[str, Any]:
    return {
        "dense": {"kernel": jnp.full((3, 4), 0.5), "bias": jnp.ones(4)},
        "out": {"kernel": jnp.ones((4, 2))},
    }


def state(tx: Any, steps: int = 2) -> Any:
    found = train_state.TrainState.create(apply_fn=None, params=params(), tx=tx)
    for _ in range(steps):
        found = found.apply_gradients(grads=jax.tree.map(jnp.ones_like, params()))
    return found


def schedule_of(rate: float) -> Any:
    return optax.cosine_decay_schedule(rate, 100)


CHAINS: list[tuple[str, Any, list[tuple[str | None, set[str], int | None]]]] = [
    ("sgd", optax.sgd(0.1), [("sgd", set(), None)]),
    ("momentum", optax.sgd(0.1, momentum=0.9), [("sgd", {"momentum"}, None)]),
    ("adam", optax.adam(1e-3), [(SEVERAL, {"first_moment", "second_moment"}, 2)]),
    ("clipped", optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule_of(1e-3))),
     [("adamw or adamax or nadam or radam", {"first_moment", "second_moment"}, 2)]),
    ("amsgrad", optax.amsgrad(1e-3),
     [("adam", {"first_moment", "second_moment", "max_second_moment"}, 2)]),
    ("rmsprop", optax.rmsprop(1e-3, momentum=0.9), [("rmsprop", {"second_moment", "momentum"},
     None)]),
    ("centered", optax.rmsprop(1e-3, centered=True), [("rmsprop", {"second_moment",
     "mean_gradient"}, None)]),
    ("adagrad", optax.adagrad(0.1), [("adagrad", {"sum_of_squares"}, None)]),
    ("adadelta", optax.adadelta(0.1), [("adadelta", {"second_moment", "mean_squared_update"},
     None)]),
    ("adafactor", optax.adafactor(0.1),
     [("adafactor", {"row_moment", "column_moment", "second_moment"}, 2)]),
    ("lion", optax.lion(1e-3), [("lion", {"first_moment"}, 2)]),
    ("rprop", optax.rprop(1e-3), [("rprop", {"step_size", "previous_sign"}, None)]),
    ("inject", optax.inject_hyperparams(optax.sgd)(learning_rate=schedule_of(0.1), momentum=0.9),
     [("sgd", {"momentum"}, None)]),
    ("accumulating", optax.MultiSteps(optax.adam(1e-3), 2).gradient_transformation(),
     [(SEVERAL, {"first_moment", "second_moment"}, 1)]),
    ("finite", optax.apply_if_finite(optax.lion(1e-3), 3), [("lion", {"first_moment"}, 2)]),
    ("averaged", optax.chain(optax.lion(1e-3), optax.ema(0.9)),
     [("lion", {"first_moment", "average"}, 2)]),
    ("masked", optax.masked(optax.lion(1e-3), {"dense": True, "out": False}),
     [("lion", {"first_moment"}, 2)]),
    ("several", optax.multi_transform({"a": optax.lion(1e-3), "b": optax.sgd(0.1, momentum=0.9)},
     {"dense": "a", "out": "b"}), [("lion", {"first_moment"}, 2), ("sgd", {"momentum"}, None)]),
    ("free", optax.contrib.schedule_free_adamw(1e-3),
     [("schedule_free_adamw", {"anchor"}, 3), ("rmsprop", {"second_moment"}, 2)]),
]  # fmt: skip


def lift(path: Path, **settings: str) -> Run:
    dialect = dialects.get("jax")
    assert dialect is not None
    return dialect.lift(portackpt.open(path), settings)


def save(found: Any, path: Path, orbax: bool) -> Path:
    if orbax:
        with ocp.StandardCheckpointer() as saver:
            saver.save(path.absolute(), found)
    else:
        path = path.with_suffix(".msgpack")
        path.write_bytes(serialization.to_bytes(found))
    return path


@pytest.mark.parametrize("orbax", [True, False], ids=["orbax", "flax"])
@pytest.mark.parametrize(("name", "tx", "expected"), CHAINS, ids=lambda v: v if type(v) is str
                         else "")  # fmt: skip
def test_it_recognizes_the_chain(
    name: str, tx: Any, expected: list[tuple[str | None, set[str], int | None]], orbax: bool,
    tmp_path: Path,
) -> None:  # fmt: skip
    run = lift(save(state(tx), tmp_path / name, orbax))
    assert [
        (one.title, {str(slot) for own in one.slots.values() for slot in own}, one.step)
        for one in run.optimizers
    ] == expected
    assert sorted(run.parameters) == PARAMETERS
    assert run.unrecognized == ()
    assert run.progress["step"].value == 2
    named = {parameter for one in run.optimizers for parameter in one.groups[0].parameters}
    assert named == (set(PARAMETERS) - {"out/kernel"} if name == "masked" else set(PARAMETERS))


def test_it_says_what_optax_leaves_open(tmp_path: Path) -> None:
    path = save(state(optax.adamw(1e-3)), tmp_path / "run", True)
    (found,) = lift(path).optimizers
    assert found.ambiguity == (
        "optax keeps the same state for adam, adamax, nadam, radam: choose with "
        "--set optimizer=NAME"
    )
    assert found.assumptions == (
        "the empty state after the moments' is taken for that of add_decayed_weights",
    )
    (told,) = lift(path, optimizer="adamw").optimizers
    assert (told.title, told.ambiguity) == ("adamw", "")


def test_it_reads_injected_hyperparameters_and_counts(tmp_path: Path) -> None:
    tx = optax.inject_hyperparams(optax.sgd)(learning_rate=schedule_of(0.1), momentum=0.5)
    found = portackpt.inspect(save(state(tx), tmp_path / "run", True))
    assert found.optimizers[0]["hyperparameters"][0]["momentum"] == 0.5
    assert found.schedules[0]["position"] == 2
    assert found.schedules[0]["unknown"] == (
        "optax keeps the count of a schedule; the schedule is in the training program"
    )


def test_it_finds_keys_statistics_and_averages(tmp_path: Path) -> None:
    tree = {
        "params": params(), "batch_stats": {"norm": {"mean": jnp.ones(4)}},
        "ema_params": params(), "key": jax.random.key(1), "dropout_rng": jax.random.PRNGKey(2),
        "step": 5, "mine": jnp.arange(3),
    }  # fmt: skip
    found = portackpt.inspect(save(tree, tmp_path / "run", True))
    assert found.step == 5
    assert {stream["name"]: stream["engine"] for stream in found.randomness} == {
        "key": "threefry2x32", "dropout_rng": "threefry2x32",
    }  # fmt: skip
    assert found.unrecognized == ("mine",)
    roles = {fact.name: str(fact.role) for fact in found.tensors}
    assert roles["batch_stats/norm/mean"] == "buffer"
    assert roles["params/out/kernel"] == "parameter"
    assert {roles["dropout_rng"], roles["key/data"]} == {"randomness"}


def test_it_takes_bare_parameters_for_a_model(tmp_path: Path) -> None:
    run = lift(save(params(), tmp_path / "run", False))
    assert sorted(run.parameters) == PARAMETERS
    assert run.unrecognized == ()
