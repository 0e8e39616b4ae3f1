"""TensorFlow's and Keras' checkpoints by their meaning; Keras itself writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import portackpt
from portackpt import dialects
from portackpt.run import Run

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
np = pytest.importorskip("numpy")
# Keras' own saving, with numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
REAL = Path(__file__).parents[3] / "../shared/data/real"
MOMENTS = {"first_moment", "second_moment"}

CLASSES: list[tuple[str, dict[str, Any], str, set[str]]] = [
    ("SGD", {}, "sgd", set()),
    ("SGD", {"momentum": 0.9}, "sgd", {"momentum"}),
    ("Adam", {}, "adam", MOMENTS),
    ("Adam", {"amsgrad": True}, "adam", {*MOMENTS, "max_second_moment"}),
    ("AdamW", {"use_ema": True}, "adamw", {*MOMENTS, "average"}),
    ("Adamax", {}, "adamax", {"first_moment", "infinity_norm"}),
    ("Nadam", {}, "nadam", MOMENTS),
    ("RMSprop", {"momentum": 0.9, "centered": True}, "rmsprop",
     {"second_moment", "momentum", "mean_gradient"}),
    ("Adagrad", {}, "adagrad", {"sum_of_squares"}),
    ("Adadelta", {}, "adadelta", {"second_moment", "mean_squared_update"}),
    ("Adafactor", {}, "adafactor", {"row_moment", "column_moment", "second_moment"}),
    ("Lion", {}, "lion", {"first_moment"}),
    ("Lamb", {}, "lamb", MOMENTS),
    ("Ftrl", {}, "ftrl", {"sum_of_squares", "linear"}),
    ("ScheduleFreeAdamW", {}, "schedule_free_adamw", {"anchor", "second_moment"}),
]  # fmt: skip


def trained(optimizer: Any) -> Any:
    model = keras.Sequential([
        keras.Input((3,)), keras.layers.Dense(4, name="first"),
        keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(2, name="a_last"),
    ])  # fmt: skip
    model.compile(optimizer, "mse")
    gradients = [np.full(v.shape, 0.5, "f4") for v in model.trainable_variables]
    for scale in (1, 2):
        optimizer.apply(
            [keras.ops.convert_to_tensor(g * scale) for g in gradients], model.trainable_variables
        )
    return model


def lift(path: Path, **settings: str) -> Run:
    dialect = dialects.get("tensorflow")
    assert dialect is not None
    return dialect.lift(portackpt.open(path), settings)


def slots(run: Run) -> set[str]:
    (found,) = run.optimizers
    return {str(slot) for own in found.slots.values() for slot in own}


@pytest.mark.parametrize(("name", "options", "title", "expected"), CLASSES)
def test_it_recognizes_a_keras_file(
    name: str, options: dict[str, Any], title: str, expected: set[str], tmp_path: Path
) -> None:
    model = trained(getattr(keras.optimizers, name)(**options))
    model.save(tmp_path / "m.keras")
    run = lift(tmp_path / "m.keras")
    (found,) = run.optimizers
    assert (found.title, found.ambiguity, found.step) == (title, "", 2)
    assert slots(run) == expected
    assert run.unrecognized == ()
    assert len(run.parameters) == 6
    assert len(run.buffers) == 2
    for path, variable in zip(found.slots, model.trainable_variables, strict=bool(expected)):
        assert run.parameters[path].value.read().tobytes() == np.asarray(variable).tobytes()


@pytest.mark.parametrize("suffix", ["weights.h5", "h5"])
def test_it_recognizes_hdf5(suffix: str, tmp_path: Path) -> None:
    keras.utils.clear_session()  # names count up within a session
    model = trained(keras.optimizers.RMSprop(momentum=0.9))
    path = tmp_path / f"m.{suffix}"
    (model.save_weights if suffix == "weights.h5" else model.save)(path)
    run = lift(path)
    (found,) = run.optimizers
    assert (found.title, found.step, len(found.slots)) == ("rmsprop", 2, 6)
    assert slots(run) == {"second_moment", "momentum"}
    if suffix == "weights.h5":
        assert found.assumptions == (
            "the class is taken from the optimizer's name, 'rm_sprop'",
            "its options are taken from the shapes; others fit them, too",
            "the model's order is not known: the 6 parameters of the optimizer keep their numbers",
        )


def test_it_reads_the_schedule_of_the_configuration(tmp_path: Path) -> None:
    rate = keras.optimizers.schedules.CosineDecay(0.5, 10)
    trained(keras.optimizers.AdamW(rate, weight_decay=0.25)).save(tmp_path / "m.keras")
    found = portackpt.inspect(tmp_path / "m.keras")
    assert [(s["kind"], s["position"], s["base_lrs"]) for s in found.schedules] == [
        ("cosine", 2, [0.5])
    ]
    assert found.optimizers[0]["hyperparameters"][0]["weight_decay"] == 0.25
    assert found.step == 2


@pytest.mark.parametrize(
    ("name", "title", "expected"),
    [
        ("Adam", "adam or adamw or lamb or schedule_free_adamw", MOMENTS),
        ("Nadam", "nadam", MOMENTS),
        ("RMSprop", "rmsprop", {"second_moment"}),
        ("Ftrl", "ftrl", {"sum_of_squares", "linear"}),
    ],
)
def test_it_recognizes_an_object_graph(
    name: str, title: str, expected: set[str], tmp_path: Path
) -> None:
    optimizer = getattr(keras.optimizers, name)()
    model = trained(optimizer)
    tf.train.Checkpoint(model=model, optimizer=optimizer).write(str(tmp_path / "ckpt"))
    run = lift(tmp_path / "ckpt")
    (found,) = run.optimizers
    assert (found.title, found.step, len(found.slots)) == (title, 2, 6)
    assert slots(run) == expected
    assert set(found.slots) <= set(run.parameters)
    if name == "Adam":
        assert found.ambiguity == (
            "Adam, AdamW, Lamb or schedule-free AdamW: a tf.train.Checkpoint keeps no "
            "hyperparameters; choose with --set optimizer=NAME"
        )
        assert lift(tmp_path / "ckpt", optimizer="adamw").optimizers[0].title == "adamw"


def test_it_recognizes_the_names_of_tf1(tmp_path: Path) -> None:
    with tf.Graph().as_default():
        weight = tf.compat.v1.get_variable("scope/w", (3,))
        step = tf.compat.v1.train.get_or_create_global_step()
        train = tf.compat.v1.train.AdamOptimizer().minimize(tf.reduce_sum(weight), step)
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            session.run(train)
            tf.compat.v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    run = lift(tmp_path / "model.ckpt")
    (found,) = run.optimizers
    assert list(found.slots) == ["scope/w"]
    assert slots(run) == MOMENTS
    assert list(run.parameters) == ["scope/w"]
    assert run.progress["step"].value == 1
    assert run.unrecognized == ()


@pytest.mark.parametrize(
    ("path", "titles", "step"),
    [
        ("tf-v1/magenta_rl_tuner/model.ckpt-1994", ["adagrad"], 1994),
        ("tf-bundle/tfx_trainer/current/Format-Serving/model.ckpt-1000", ["adagrad", "ftrl"], 1000),
        ("tf-bundle/tfx_trainer/keras/Format-Serving/variables/variables",
         ["adam or adamw or adamax or nadam"], 99),
        ("keras/keras_pr_output/fixed_model.keras", ["adam"], 25),
        ("keras/deepcut_lite/model_lite.h5", ["adam"], 3626714),
    ],
)  # fmt: skip
def test_it_reads_what_others_trained(path: str, titles: list[str], step: int) -> None:
    place = (REAL / path).resolve()
    if not list(place.parent.glob(f"{place.name}*")):
        pytest.skip(f"{path} is not here")
    found = portackpt.inspect(place)
    assert [optimizer["algorithm"] for optimizer in found.optimizers] == titles
    assert found.step == step
