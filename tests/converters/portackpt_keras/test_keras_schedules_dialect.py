"""Schedules as Keras code: the code is run, and its rates are those of the real torch and Keras."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import schedule_cases as cases

from portackpt.errors import DamagedError
from portackpt.ledger import Fate
from portackpt.schedules import (
    After,
    Clock,
    Code,
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Interpolated,
    InverseSqrt,
    InverseTime,
    Linear,
    MultiStep,
    Piece,
    Piecewise,
    Plateau,
    PlateauState,
    Polynomial,
    Schedule,
    Sequence,
    Step,
    WarmRestarts,
    at,
    value,
)
from portackpt_keras.dialect.schedule_configs import lift
from portackpt_keras.dialect.schedules import spell, spell_momentum

keras = pytest.importorskip("keras")
tensorflow = pytest.importorskip("tensorflow")


@pytest.fixture(params=["float64", "float32"])
def floatx(request: pytest.FixtureRequest) -> Iterator[str]:
    before = keras.config.floatx()
    keras.config.set_floatx(request.param)
    yield request.param
    keras.config.set_floatx(before)


def built(code: str, name: str = "schedule") -> Any:
    """The rate after each count, compiled as Keras compiles a training step."""
    names: dict[str, Any] = {}
    exec(code, names)
    schedule = names[name]
    if isinstance(schedule, float):
        return lambda count: schedule
    compiled = tensorflow.function(
        lambda step: schedule(step),
        jit_compile=True,
        input_signature=[tensorflow.TensorSpec((), "int64")],
    )
    return lambda count: float(compiled(tensorflow.constant(count, "int64")))


@pytest.mark.parametrize("name", cases.NAMES)
def test_its_code_goes_on_as_torch_does(name: str, floatx: str) -> None:
    pytest.importorskip("torch")
    dialect = pytest.importorskip("portackpt_torch.dialect.schedules")
    made, scheduler = cases.run_to(name, 17)
    schedule = dialect.lift(scheduler.state_dict(), made.param_groups)
    trace = cases.trace(name)
    highest = max(rate for rates in trace for rate in rates)
    spelled = spell(schedule, 1)
    assert spelled.fate is Fate.EQUIVALENT
    own = floatx == "float64" and "a subclass" in spelled.detail
    run = built(spelled.code)
    for count in range(17, cases.STEPS):
        assert abs(run(count) - trace[count][1]) <= (1e-12 if own else 2e-7) * highest, count


def plain(form: Any, base: float = 0.1) -> Schedule:
    return Schedule(form, 0, (base,))


FORMS = {
    "constant": plain(Constant()),
    "clamped cosine": plain(Cosine(10, 0.01, After.CLAMP)),
    "cosine to a power": plain(Cosine(10, 0.01, After.CLAMP, 2.0)),
    "warm-up and cosine": plain(
        Sequence(
            (
                Piece(plain(Linear(0.25, 1.0, 5))),
                Piece(plain(Cosine(20, 0.0125, After.CLAMP)), 5, 5),
            )
        )
    ),
    "exponential with a limit": plain(Exponential(0.9, 3.5, 4, 0.03)),
    "gentle exponential": plain(Exponential(0.9997, 3)),
    "stairs": plain(Exponential(0.5, 3, 4, None, True)),
    "steps of 41": plain(Step(41, 0.5)),
    "steps of half a count": plain(Step(2.5, 0.995)),
    "pieces": plain(Piecewise((3, 9), (1.0, 0.25, 2.0))),
    "milestones of a negative gamma": plain(MultiStep(((2, 1), (5, 2)), -0.5)),
    "no milestones": plain(MultiStep((), 0.5)),
    "interpolated": plain(Interpolated((3, 10.5), (0.25, 1.0, 0.5), "cosine")),
    "inverse time": plain(InverseTime(3, 0.5)),
    "inverse time in steps": plain(InverseTime(41, 0.5, True)),
    "inverse root": plain(InverseSqrt(5, 8)),
    "polynomial": plain(Polynomial(10, 2.0, 0.02)),
    "polynomial of a root": plain(Polynomial(41, 0.5, 0.02, 3)),
    "polynomial that comes again": plain(Polynomial(4, 1.0, 0.02, 0, True)),
    "restarts": plain(WarmRestarts(3, 1.5, 0.001, 0.5)),
    "restarts of one length": plain(WarmRestarts(3, 1, 0.001, 0.5)),
    "a cycle that drops at once": plain(Cyclic(4, 1.0, (0.4,))),
}


@pytest.mark.parametrize("name", FORMS)
def test_its_code_computes_the_formula(name: str, floatx: str) -> None:
    spelled = spell(FORMS[name])
    own = floatx == "float64" and "a subclass" in spelled.detail
    run = built(spelled.code)
    expected = [value(FORMS[name], count) for count in range(45)]
    tolerance = (1e-12 if own else 2e-7) * max(map(abs, expected))
    for count, rate in enumerate(expected):
        assert abs(run(count) - rate) <= tolerance, count


def test_it_uses_the_classes_of_keras() -> None:
    kinds = {
        "warm-up and cosine": "CosineDecay(initial_learning_rate=0.025, decay_steps=20, "
        "alpha=0.125, warmup_target=0.1, warmup_steps=5)",
        "pieces": "PiecewiseConstantDecay(boundaries=[2, 8], values=[0.1, 0.025, 0.2])",
        "polynomial": "PolynomialDecay(initial_learning_rate=0.1, decay_steps=10, "
        "end_learning_rate=0.02, power=2.0)",
    }
    for name, call in kinds.items():
        assert spell(FORMS[name]).code == (
            f"import keras\n\nschedule = keras.optimizers.schedules.{call}"
        )
    assert spell(FORMS["constant"]).code == "schedule = 0.1"


def test_it_prints_a_small_class_where_keras_has_none() -> None:
    assert spell(plain(Step(41, 0.5)), name="rate_of_bias").code == (
        "import keras\n"
        "from keras import ops\n"
        "\n"
        "\n"
        "@keras.saving.register_keras_serializable()\n"
        "class RateOfBias(keras.optimizers.schedules.LearningRateSchedule):\n"
        "    def __call__(self, step):\n"
        "        dtype = keras.config.floatx()\n"
        "        count = ops.cast(step, dtype)\n"
        "        return 0.1 * ops.exp((-0.6931471805599453) * "
        "ops.floor((count - count % 41) / 41 + 0.5))\n"
        "\n"
        "    def get_config(self):\n"
        "        return {}\n"
        "\n"
        "\n"
        "rate_of_bias = RateOfBias()"
    )


@pytest.mark.parametrize(
    ("clock", "accumulation", "counts"),
    [
        (Clock(), 4, {0: 0, 3: 0, 4: 1, 11: 2}),
        (Clock(1, 5), 1, {0: 0, 4: 0, 5: 1, 14: 2}),
        (Clock(1, 5), 2, {9: 0, 10: 1, 39: 3}),
        (Clock(8), 1, {0: 0, 1: 8, 3: 24}),
        (Clock(1, 1, 3), 1, {0: 3, 4: 7}),
    ],
)
def test_its_code_follows_the_clock(clock: Clock, accumulation: int, counts: Any) -> None:
    for form in (Exponential(0.875), Linear(0.0, 1.0, 40)):
        schedule = Schedule(form, 0, (0.1,), clock=clock)
        run = built(spell(schedule, accumulation=accumulation).code)
        for iterations, count in counts.items():
            assert run(iterations) == pytest.approx(value(plain(form), count), rel=1e-6)


def test_an_optimizer_trains_with_its_code() -> None:
    """Three updates of SGD from iteration 5 on."""
    names: dict[str, Any] = {}
    exec(spell(plain(Cosine(10), 1.0)).code, names)
    weight = keras.Variable([0.0])
    optimizer = keras.optimizers.SGD(names["schedule"])
    optimizer.build([weight])
    optimizer.iterations.assign(5)
    for _ in range(3):
        optimizer.apply([keras.ops.convert_to_tensor([1.0])])
    expected = -sum(value(plain(Cosine(10), 1.0), count) for count in (5, 6, 7))
    assert float(weight.numpy()[0]) == pytest.approx(expected, rel=1e-6)


def test_it_says_what_keras_cannot_do() -> None:
    schedule = Schedule(Code("LambdaLR is code"), 3, (0.1,), (0.05,))
    spelled = spell(schedule)
    assert spelled.fate is Fate.DROPPED
    assert spelled.consequence == "the learning rate stays at 0.05"
    assert spelled.code == "schedule = 0.05  # LambdaLR is code"
    pytest.importorskip("torch")
    dialect = pytest.importorskip("portackpt_torch.dialect.schedules")
    made, scheduler = cases.run_to("onecycle", 63)
    moved = spell_momentum(dialect.lift(scheduler.state_dict(), made.param_groups))
    assert moved is not None
    names: dict[str, Any] = {}
    exec(moved.code, names)
    group = made.param_groups[0]
    now = group["betas"][0] if "betas" in group else group["momentum"]
    assert float(names["momentum"](63)) == pytest.approx(now, rel=1e-6)
    assert spell_momentum(schedule) is None


# plateaus ----------------------------------------------------------------------------------------


class Rate:
    """An optimizer of which only the learning rate matters."""

    def __init__(self, rate: float) -> None:
        self.learning_rate = keras.Variable(rate, dtype="float64")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "learning_rate" and hasattr(self, name):
            self.learning_rate.assign(value)
        else:
            super().__setattr__(name, value)


class Model:
    def __init__(self, optimizer: Rate) -> None:
        self.optimizer = optimizer


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("seed", range(10))
def test_its_plateau_goes_on_as_torch_does(seed: int) -> None:
    torch = pytest.importorskip("torch")
    dialect = pytest.importorskip("portackpt_torch.dialect.schedules")
    dice = random.Random(seed)
    mode, threshold_mode = dice.choice(["min", "max"]), dice.choice(["rel", "abs"])
    made = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.5)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        made, mode, 0.5, dice.randrange(4), 0.05, threshold_mode, dice.randrange(3)
    )
    for _ in range(25):
        scheduler.step(dice.random())
    spelled = spell(dialect.lift(scheduler.state_dict(), made.param_groups), name="plateau")
    assert spelled.fate is Fate.EQUIVALENT
    names: dict[str, Any] = {}
    exec(spelled.code, names)
    callback = names["plateau"]
    rate = Rate(made.param_groups[0]["lr"])
    callback.set_model(Model(rate))
    callback.on_train_begin()
    for epoch in range(60):
        metric = dice.choice([dice.random(), 0.5])
        scheduler.step(metric)
        callback.on_epoch_end(epoch, {"val_loss": metric})
        found = made.param_groups[0]["lr"]
        if found > 1e-7:  # below, torch leaves changes out
            assert float(rate.learning_rate.numpy()) == pytest.approx(found, rel=1e-12)


def test_it_prints_the_callback() -> None:
    form = Plateau(0.5, 3, 0.01, relative=False, cooldown=2, smallest=(0.001,))
    spelled = spell(Schedule(form, 4, (), (0.1,), plateau=PlateauState(0.3, 2, 1)), name="plateau")
    assert spelled.code == (
        "import keras\n"
        "\n"
        "\n"
        "class Plateau(keras.callbacks.ReduceLROnPlateau):\n"
        "    def on_train_begin(self, logs=None):\n"
        "        super().on_train_begin(logs)\n"
        "        self.best = 0.3\n"
        "        self.wait = 2\n"
        "        self.cooldown_counter = 2\n"
        "\n"
        "\n"
        'monitor = "val_loss"\n'
        "plateau = Plateau(monitor=monitor, mode='min', factor=0.5, patience=4, min_delta=0.01, "
        "cooldown=3, min_lr=0.001)"
    )


# Keras' own configurations -----------------------------------------------------------------------

SCHEDULES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.75}),
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.75,
                          "staircase": True}),
    ("PiecewiseConstantDecay", {"boundaries": [3, 9], "values": [0.1, 0.05, 0.2]}),
    ("PiecewiseConstantDecay", {"boundaries": [3.5], "values": [0.0, 0.05]}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 8, "power": 2.0}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 8, "cycle": True}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5,
                          "staircase": True}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 20, "alpha": 0.125}),
    ("CosineDecay", {"initial_learning_rate": 0.0, "decay_steps": 20, "warmup_target": 0.1,
                     "warmup_steps": 5}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 3}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 4, "t_mul": 1.0,
                             "m_mul": 0.75, "alpha": 0.1}),
)  # fmt: skip


@pytest.mark.parametrize(("kind", "arguments"), SCHEDULES)
def test_it_lifts_what_keras_serializes(kind: str, arguments: dict[str, Any]) -> None:
    real = getattr(keras.optimizers.schedules, kind)(**arguments)
    config = keras.optimizers.serialize(keras.optimizers.SGD(real))["config"]["learning_rate"]
    assert config["class_name"] == kind
    schedule = lift(config, 5)
    assert schedule.position == 5
    again = built(spell(schedule).code)
    for count in range(40):
        rate = float(real(tensorflow.constant(count, "int64")))
        assert value(schedule, count) == pytest.approx(rate, rel=1e-6, abs=2e-8)
        assert again(count) == pytest.approx(rate, rel=1e-6, abs=2e-8)


def test_it_lifts_a_number_as_it_is() -> None:
    config = keras.optimizers.serialize(keras.optimizers.SGD(1e-3))["config"]["learning_rate"]
    schedule = lift(config, 7)
    assert schedule.form == Constant()
    assert schedule.last_lrs == (0.0010000000474974513,)  # Keras keeps it in float32


def test_it_knows_that_keras_counts_micro_steps() -> None:
    schedule = lift({"class_name": "ExponentialDecay", "module": "keras.optimizers.schedules",
                     "config": {"initial_learning_rate": 0.1, "decay_steps": 1,
                                "decay_rate": 0.5}}, 12, accumulation=4)  # fmt: skip
    assert schedule.position == 12
    assert schedule.clock.count(3) == 12
    assert at(schedule, 4).last_lrs == (0.1 * 0.5**4,)


def test_it_says_that_a_schedule_of_the_program_is_lost() -> None:
    schedule = lift({"module": "my.module", "class_name": "Cosine", "config": {}}, 3)
    assert schedule.form == Code(
        "'Cosine' is a schedule of the training program, which no checkpoint holds"
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("fast", "expected a number or the configuration of a schedule, at learning_rate"),
        ({"class_name": "CosineDecay", "config": {"initial_learning_rate": "x"}},
         "expected a finite number, found None, at decay_steps, in CosineDecay, in learning_rate"),
        ({"class_name": "InverseTimeDecay", "config": {"initial_learning_rate": "x",
                                                       "decay_steps": 1, "decay_rate": 1}},
         "expected a finite number, found 'x', at initial_learning_rate, in InverseTimeDecay, "
         "in learning_rate"),
        ({"class_name": "ExponentialDecay",
          "config": {"initial_learning_rate": 0.1, "decay_steps": 0, "decay_rate": 0.5}},
         "an exponential schedule has steps > 0, found 0, at ExponentialDecay, in learning_rate"),
    ],
)  # fmt: skip
def test_it_says_what_is_wrong_with_a_configuration(config: Any, message: str) -> None:
    with pytest.raises(DamagedError) as caught:
        lift(config)
    assert str(caught.value) == message
