"""Schedules as optax code: the code is run, and its rates are those of the real torch and optax."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schedule_cases as cases

from portackpt.errors import UsageError
from portackpt.ledger import Fate
from portackpt.schedules import (
    After,
    Clock,
    Code,
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
    value,
)
from portackpt_jax.dialect.schedule_constructors import lift
from portackpt_jax.dialect.schedules import spell, spell_momentum

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
jnp = jax.numpy


@pytest.fixture(params=[True, False], ids=["x64", "x32"])
def tolerance(request: pytest.FixtureRequest) -> Iterator[float]:
    """What the rates may differ by, relative to the highest, with jax_enable_x64 on and off."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.param)
    yield 1e-12 if request.param else 2e-7
    jax.config.update("jax_enable_x64", before)


def built(code: str, name: str = "schedule") -> Callable[[int], float]:
    names: dict[str, Any] = {}
    exec(code, names)
    compiled = jax.jit(names[name])
    return lambda count: float(compiled(jnp.asarray(count, jnp.int32)))


@pytest.mark.parametrize("name", cases.NAMES)
def test_its_code_goes_on_as_torch_does(name: str, tolerance: float) -> None:
    pytest.importorskip("torch")
    dialect = pytest.importorskip("portackpt_torch.dialect.schedules")
    start, group = (17, 1) if tolerance == 1e-12 else (0, 0)
    made, scheduler = cases.run_to(name, start)
    schedule = dialect.lift(scheduler.state_dict(), made.param_groups)
    trace = cases.trace(name)
    highest = max(rates[group] for rates in trace)
    spelled = spell(schedule, group)
    assert spelled.fate is Fate.EQUIVALENT
    assert spelled.tolerance == 2e-7
    run = built(spelled.code)
    for count in range(start, cases.STEPS):
        assert abs(run(count) - trace[count][group]) <= tolerance * highest, count


@pytest.mark.parametrize("name", ["onecycle", "cyclic_triangular", "sequential_of_cycles"])
def test_its_code_moves_the_momentum_as_torch_does(name: str, tolerance: float) -> None:
    pytest.importorskip("torch")
    dialect = pytest.importorskip("portackpt_torch.dialect.schedules")
    made, scheduler = cases.run_to(name, 3)
    schedule = dialect.lift(scheduler.state_dict(), made.param_groups)
    spelled = spell_momentum(schedule, 1)
    assert spelled is not None
    run = built(spelled.code, "momentum")
    for count in range(3, cases.STEPS):
        assert run(count) == pytest.approx(cases.momenta(made)[1], rel=tolerance)
        if count < cases.STEPS - 1:
            cases.tick(made, scheduler)
    assert spell_momentum(Schedule(Cosine(3), 0, (0.1,))) is None


def plain(form: Any, base: float = 0.1) -> Schedule:
    return Schedule(form, 0, (base,))


FORMS = {
    "clamped cosine": plain(Cosine(10, 0.01, After.CLAMP)),
    "cosine to a power": plain(Cosine(10, 0.01, After.CLAMP, 2.0)),
    "exponential with a limit": plain(Exponential(0.9, 3.5, 4, 0.03)),
    "growing exponential": plain(Exponential(1.01, 1, 0, 0.13)),
    "stairs": plain(Exponential(0.99, 3, 4, None, True)),
    "stairs, steep": plain(Exponential(0.5, 3, 4, None, True)),
    "steps of a gentle factor": plain(Step(4, 0.995)),
    "steps of half a count": plain(Step(2.5, 0.5)),
    "gamma of 0": plain(Exponential(0.0)),
    "pieces": plain(Piecewise((3, 9), (1.0, 0.25, 2.0))),
    "pieces with nothing in them": plain(Piecewise((3, 9), (1.0, 0.0, 2.0))),
    "milestones of a negative gamma": plain(MultiStep(((2, 1), (5, 2)), -0.5)),
    "interpolated": plain(Interpolated((3, 10.5), (0.25, 1.0, 0.5), "cosine")),
    "interpolated from 0": plain(Interpolated((3, 10), (0.0, 1.0, 0.0))),
    "interpolated in half a count": plain(Interpolated((0.5, 10), (0.5, 1.0, 0.25))),
    "inverse time": plain(InverseTime(3, 0.5)),
    "inverse root": plain(InverseSqrt(5, 8)),
    "polynomial": plain(Polynomial(10, 0.5, 0.02, 3)),
    "polynomial that comes again": plain(Polynomial(4, 1.0, 0.02, 0, True)),
    "polynomial that began": plain(Polynomial(10, 2.0, 0.02, -3)),
    "restarts": plain(WarmRestarts(3, 1.5, 0.001, 0.5)),
    "restarts of one length that shrink": plain(WarmRestarts(3, 1, 0.001, 0.5)),
    "a cycle that drops at once": plain(Cyclic(4, 1.0, (0.4,))),
    "parts that count from elsewhere": plain(
        Sequence((Piece(plain(Exponential(0.9)), 0, -3), Piece(plain(Linear(0.2, 1, 9)), 6, 4)))
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_its_code_computes_the_formula(name: str, tolerance: float) -> None:
    run = built(spell(FORMS[name]).code)
    expected = [value(FORMS[name], count) for count in range(40)]
    for count, rate in enumerate(expected):
        assert abs(run(count) - rate) <= tolerance * max(map(abs, expected)), count


def test_it_stays_within_its_tolerance_late_in_a_run() -> None:
    """A million updates in: float32 has lost none of the count."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    try:
        for form, highest in (
            (Exponential(0.999997), 0.1),
            (Cosine(1000), 0.1),
            (Cosine(3_000_000), 0.1),
            (Cyclic(2000, 0.5, (0.4,)), 0.4),
            (WarmRestarts(1000), 0.1),
            (WarmRestarts(1000, 2), 0.1),
            (Step(1000, 0.999), 0.1),
        ):
            run = built(spell(plain(form)).code)
            for count in (999_999, 1_000_000, 1_000_001, 1_000_517):
                off = abs(run(count) - value(plain(form), count))
                assert off <= 2e-7 * highest, (form, count)
    finally:
        jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize(
    ("clock", "counts"),
    [
        (Clock(1, 5), {0: 0, 4: 0, 5: 1, 14: 2}),
        (Clock(8), {0: 0, 1: 8, 3: 24}),
        (Clock(1, 1, 3), {0: 3, 4: 7}),
        (Clock(1, 5, -5), {5: 0, 12: 1}),
    ],
)
def test_its_code_follows_the_clock(clock: Clock, counts: dict[int, int]) -> None:
    schedule = Schedule(Exponential(0.875), 0, (0.1,), clock=clock)
    run = built(spell(schedule).code)
    for updates, count in counts.items():
        assert clock.count(updates) == count
        assert run(updates) == pytest.approx(0.1 * 0.875**count, rel=1e-6)


def test_it_spells_what_a_person_would_write() -> None:
    assert spell(plain(Exponential(0.875)), name="decay").code == (
        "import jax.numpy as jnp\n"
        "import optax\n"
        "\n"
        "decay_of_float = optax.exponential_decay(init_value=0.1, transition_steps=1, "
        "decay_rate=0.875)\n"
        "\n"
        "\n"
        "def decay(count):\n"
        "    return decay_of_float(jnp.asarray(count, float))"
    )


def test_it_says_that_code_is_lost() -> None:
    schedule = Schedule(Code("LambdaLR is code"), 3, (0.1,), (0.05,))
    spelled = spell(schedule)
    assert spelled.fate is Fate.DROPPED
    assert spelled.detail == "LambdaLR is code"
    assert spelled.consequence == "the learning rate stays at 0.05"
    assert built(spelled.code)(3) == pytest.approx(0.05)


# plateaus ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_its_plateau_goes_on_as_torch_does(seed: int) -> None:
    torch = pytest.importorskip("torch")
    dialect = pytest.importorskip("portackpt_torch.dialect.schedules")
    dice = random.Random(seed)
    mode, threshold_mode = dice.choice(["min", "max"]), dice.choice(["rel", "abs"])
    threshold = dice.choice([0.0, 0.05])
    made = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.5)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        made, mode, 0.5, dice.randrange(4), threshold, threshold_mode, dice.randrange(3), 0.001
    )
    for _ in range(25):
        scheduler.step(0.1 + dice.random())
    spelled = spell(dialect.lift(scheduler.state_dict(), made.param_groups), name="plateau")
    assert spelled.fate is Fate.EQUIVALENT
    names: dict[str, Any] = {}
    exec(spelled.code, names)
    fed = eval(f"lambda metric: {spelled.code.split('value=')[-1].split(')')[0]}")
    update = jax.jit(lambda state, metric: names["plateau"].update(jnp.zeros(()), state,
                                                                   value=metric)[1])  # fmt: skip
    state = names["plateau_state"]
    for _ in range(60):
        metric = 0.1 + dice.choice([dice.random(), 0.5])
        scheduler.step(metric)
        state = update(state, fed(metric))
        rate = float(names["plateau_state"].scale) and 0.5 * float(state.scale)
        base = made.param_groups[0]["lr"]
        assert rate * float(spelled.code.split("learning rate = ")[1].split(" ")[0]) / 0.5 == (
            pytest.approx(base, rel=1e-6)
        )


def test_it_says_on_what_condition_a_plateau_is_equivalent() -> None:
    form = Plateau(0.5, 3, maximize=True)
    spelled = spell(Schedule(form, 4, (), (0.1,), plateau=PlateauState(0.3, 2, 1)))
    assert "patience=4" in spelled.code
    assert "value=1 / metric" in spelled.code
    assert "holds for metrics above 0" in spelled.detail


# optax' own constructors -------------------------------------------------------------------------

CONSTRUCTORS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("constant_schedule", {"value": 0.1}),
    ("linear_schedule", {"init_value": 0.0, "end_value": 0.1, "transition_steps": 9,
                         "transition_begin": 2}),
    ("linear_schedule", {"init_value": 0.1, "end_value": 0.0, "transition_steps": 0}),
    ("polynomial_schedule", {"init_value": 0.1, "end_value": 0.01, "power": 2,
                             "transition_steps": 9}),
    ("piecewise_constant_schedule", {"init_value": 0.1,
                                     "boundaries_and_scales": {9: 0.5, 3: 0.25}}),
    ("piecewise_interpolate_schedule", {"interpolate_type": "cosine", "init_value": 0.1,
                                        "boundaries_and_scales": {4: 2.0, 20: 0.125}}),
    ("exponential_decay", {"init_value": 0.1, "transition_steps": 3, "decay_rate": 0.75}),
    ("exponential_decay", {"init_value": 0.1, "transition_steps": 3, "decay_rate": 0.75,
                           "staircase": True}),
    ("exponential_decay", {"init_value": 0.1, "transition_steps": 3, "decay_rate": 0.75,
                           "staircase": True, "transition_begin": 4, "end_value": 0.05}),
    ("exponential_decay", {"init_value": 0.1, "transition_steps": 3, "decay_rate": 0}),
    ("cosine_decay_schedule", {"init_value": 0.1, "decay_steps": 20, "alpha": 0.125}),
    ("cosine_decay_schedule", {"init_value": 0.1, "decay_steps": 20, "exponent": 2.0}),
    ("linear_onecycle_schedule", {"transition_steps": 30, "peak_value": 0.1}),
    ("cosine_onecycle_schedule", {"transition_steps": 30, "peak_value": 0.1}),
    ("warmup_constant_schedule", {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 7}),
    ("warmup_cosine_decay_schedule", {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 7,
                                      "decay_steps": 30, "end_value": 0.01}),
    ("warmup_exponential_decay_schedule", {"init_value": 0.01, "peak_value": 0.1,
                                           "warmup_steps": 7, "transition_steps": 5,
                                           "decay_rate": 0.5}),
    ("sgdr_schedule", {"cosine_kwargs": [
        {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 2, "decay_steps": 10},
        {"init_value": 0.0, "peak_value": 0.05, "warmup_steps": 2, "decay_steps": 20}]}),
)  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), CONSTRUCTORS)
def test_it_knows_the_constructors_of_optax(name: str, arguments: dict[str, Any]) -> None:
    real = jax.jit(getattr(optax, name)(**arguments))
    schedule = lift(f"optax.{name}", arguments, 5)
    assert schedule.position == 5
    again = built(spell(schedule).code)
    for count in range(40):
        # optax divides an int32 count in float32
        rate = float(real(jnp.asarray(count, float)))
        assert value(schedule, count) == pytest.approx(rate, rel=1e-6, abs=2e-8)
        assert again(count) == pytest.approx(rate, rel=1e-6, abs=2e-8)


def test_it_joins_schedules_as_optax_does() -> None:
    parts = [("linear_schedule", {"init_value": 0, "end_value": 0.1, "transition_steps": 5}),
             ("exponential_decay", {"init_value": 0.1, "transition_steps": 1,
                                    "decay_rate": 0.875})]  # fmt: skip
    real = optax.join_schedules([getattr(optax, n)(**a) for n, a in parts], [5])
    schedule = lift("join_schedules", {"schedules": parts, "boundaries": [5]})
    for count in range(12):
        assert value(schedule, count) == pytest.approx(float(real(count)), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("wibble", {}, "unknown schedule 'wibble': known are constant_schedule, "),
        ("constant_schedule", {}, "constant_schedule: .*missing 1 required .*'value'"),
        ("cosine_decay_schedule", {"init_value": 0.1, "decay_steps": 0},
         "a cosine schedule has steps > 0, found 0"),
    ],
)  # fmt: skip
def test_it_says_what_is_no_schedule(name: str, arguments: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lift(name, arguments)
