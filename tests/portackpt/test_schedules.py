"""Canonical schedules: closed forms against torch's real schedulers, edits, clocks, plateaus."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import schedule_cases as torch_cases
from hypothesis import given, settings
from hypothesis import strategies as st

from portackpt.errors import UsageError
from portackpt.schedules import (
    After,
    Chain,
    Clock,
    Code,
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Form,
    Interpolated,
    InverseSqrt,
    InverseTime,
    Linear,
    MultiStep,
    OneCycle,
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
    continued,
    declare,
    edits,
    evaluate,
    expression,
    hugging_face,
    infer_clock,
    momentum,
    observe,
    unknown,
    value,
)
from portackpt.schedules.expression import COUNT, PYTHON, Printer, lookup, named, where
from portackpt.schedules.expression import less as less_than
from portackpt.schedules.regrouping import regrouped
from portackpt.tree import Object


def plain(form: Form, base: float = 0.1, position: int = 0) -> Schedule:
    return Schedule(form, position, (base,))


def lifted(name: str, count: int) -> tuple[Schedule, Any, Any]:
    dialect = pytest.importorskip("portackpt_torch.dialect.schedules")
    made, scheduler = torch_cases.run_to(name, count)
    return dialect.lift(scheduler.state_dict(), made.param_groups), made, scheduler


# closed forms ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", torch_cases.NAMES)
def test_it_gives_the_rates_of_torch(name: str) -> None:
    pytest.importorskip("torch")
    schedule = continued(lifted(name, 0)[0])
    for count, rates in enumerate(torch_cases.trace(name)):
        for group, rate in enumerate(rates):
            assert value(schedule, count, group) == pytest.approx(rate, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("name", torch_cases.NAMES)
@pytest.mark.parametrize("start", [3, 17, 40])
def test_it_gives_the_rates_of_torch_from_the_middle(name: str, start: int) -> None:
    pytest.importorskip("torch")
    schedule = continued(lifted(name, start)[0])
    assert schedule.position == start
    for count, rates in list(enumerate(torch_cases.trace(name)))[start:]:
        for group, rate in enumerate(rates):
            assert value(schedule, count, group) == pytest.approx(rate, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize(
    "name", ["onecycle", "onecycle_three_phases", "cyclic_triangular", "cyclic_exp_range"]
)
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_it_gives_the_momentum_of_torch(name: str, kind: str) -> None:
    pytest.importorskip("torch")
    dialect = pytest.importorskip("portackpt_torch.dialect.schedules")
    made, scheduler = torch_cases.build(name, kind)
    schedule = dialect.lift(scheduler.state_dict(), made.param_groups)
    for count in range(torch_cases.STEPS):
        for group, found in enumerate(torch_cases.momenta(made)):
            formula = momentum(schedule, group)
            assert formula is not None
            assert evaluate(formula, count) == pytest.approx(found, rel=1e-13)
        if count < torch_cases.STEPS - 1:
            torch_cases.tick(made, scheduler)


@pytest.mark.parametrize("name", sorted({*torch_cases.NAMES} - torch_cases.QUIRKS))
def test_it_finds_no_edit_where_there_was_none(name: str) -> None:
    pytest.importorskip("torch")
    for count in (0, 1, 9, 30, 63):
        assert edits(lifted(name, count)[0]) == ()


@pytest.mark.parametrize("name", torch_cases.NAMES)
def test_it_gives_other_groups_their_rates(name: str) -> None:
    pytest.importorskip("torch")
    schedule = continued(lifted(name, 9)[0])
    groups = [(schedule.groups - 1, 2.0), (0, 1.0), (schedule.groups - 1, 1.0)]
    found = regrouped(schedule, groups)
    if found is None:
        assert regrouped(schedule, [(index, 1.0) for index, _ in groups]) is not None
        return
    if unknown(schedule):
        return
    for count in (9, 12, 30):
        for group, (index, factor) in enumerate(groups):
            expected = factor * value(schedule, count, index)
            assert value(found, count, group) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_it_moves_a_schedule_to_another_count() -> None:
    pytest.importorskip("torch")
    for name in torch_cases.NAMES:
        if name in torch_cases.QUIRKS:
            continue
        moved = at(lifted(name, 5)[0], 31)
        real = lifted(name, 31)[0]
        assert moved.position == 31
        assert moved.last_lrs == pytest.approx(real.last_lrs, rel=1e-12)
        if isinstance(moved.form, Sequence) and isinstance(real.form, Sequence):
            ours = [piece.schedule.position for piece in moved.form.pieces]
            assert ours == [max(p.schedule.position, -1) for p in real.form.pieces] or (
                name == "sequential_in_sequential"
            )


@pytest.mark.parametrize(
    ("form", "rates"),
    [
        (Constant(), [0.1, 0.1, 0.1, 0.1]),
        (Piecewise((1, 3), (1.0, 2.0, 0.5)), [0.1, 0.2, 0.2, 0.05]),
        (InverseTime(2, 1.0), [0.1, 0.1 / 1.5, 0.05, 0.04]),
        (InverseTime(2, 1.0, staircase=True), [0.1, 0.1, 0.05, 0.05]),
        (InverseSqrt(2, 2), [0.0, 0.05, 0.1, 0.1 / math.sqrt(1.5)]),
        (InverseSqrt(0, 1), [0.1, 0.1 / math.sqrt(2), 0.1 / math.sqrt(3), 0.05]),
        (Interpolated((2, 3), (0.0, 1.0, 0.5)), [0.0, 0.05, 0.1, 0.05]),
        (Cosine(2, 0.02, After.CLAMP), [0.1, 0.06, 0.02, 0.02]),
        (Cosine(2, 0.02), [0.1, 0.06, 0.02, 0.06]),
        (Cosine(2, 0.0, After.CLAMP, 2), [0.1, 0.025, 0.0, 0.0]),
        (Exponential(0.5, 1, 2), [0.1, 0.1, 0.1, 0.05]),
        (Exponential(0.5, 1, 0, 0.04), [0.1, 0.05, 0.04, 0.04]),
        (Exponential(2.0, 1, 0, 0.3), [0.1, 0.2, 0.3, 0.3]),
        (Exponential(0.5, 2, 1, None, True), [0.1, 0.1, 0.1, 0.05]),
        (Polynomial(2, 1, 0.02, 1), [0.1, 0.1, 0.06, 0.02]),
        (Polynomial(2, 1, 0.0, 0, True), [0.1, 0.05, 0.0, 0.025]),
        (Polynomial(0), [0.1, 0.1, 0.1, 0.1]),
        (WarmRestarts(1, 2.0, 0.0, 0.5), [0.1, 0.05, 0.025, 0.025]),
        (Linear(0.5, 1.0, 0), [0.05, 0.05, 0.05, 0.05]),
        (MultiStep(((-1, 3), (2, 0), (3, 1)), 0.1), [0.1, 0.1, 0.1, 0.01]),
    ],
)
def test_it_computes_what_the_formula_says(form: Form, rates: list[float]) -> None:
    found = [value(plain(form), count) for count in range(4)]
    assert found == pytest.approx(rates, rel=1e-14, abs=1e-17)


@given(
    first=st.integers(1, 1000),
    growth=st.integers(1, 5),
    count=st.integers(0, 1_000_000),
)
@settings(max_examples=60)
def test_it_restarts_exactly_where_whole_cycles_end(first: int, growth: int, count: int) -> None:
    start, length = 0, first
    if growth == 1:
        start = count // first * first
    else:
        while start + length <= count:
            start, length = start + length, length * growth
    expected = 0.1 * (1 + math.cos(math.pi * (count - start) / length)) / 2
    found = value(plain(WarmRestarts(first, growth)), count)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-16)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cosine(0), "a cosine schedule has steps > 0, found 0"),
        (lambda: Step(0, 0.1), "a step schedule has size > 0, found 0"),
        (lambda: WarmRestarts(5, 0), "cycles grow by a factor >= 1, found 0"),
        (lambda: Cyclic(8, 0.5, (0.1,), "square"), "unknown mode of a cyclic schedule: 'square'"),
        (lambda: OneCycle(8, (7,), (0.1,), (0.0,)), "one cycle has two or three phases, found 1"),
        (lambda: Sequence(()), "a sequence has pieces in their order"),
        (lambda: Plateau(1.5, 3), "a plateau schedule has a factor < 1, found 1.5"),
        (lambda: Clock(0), "a clock has ticks > 0 per updates > 0"),
    ],
)
def test_it_refuses_what_is_no_schedule(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}$"):
        make()


def test_it_says_where_a_formula_has_no_value() -> None:
    with pytest.raises(UsageError, match="the schedule has no value at count 100000"):
        value(plain(Exponential(1e300)), 100_000)
    with pytest.raises(UsageError, match="the schedule has no real value at count 1"):
        value(plain(Exponential(-0.5, 2)), 1)
    with pytest.raises(UsageError, match="there is no parameter group 1: the schedule knows 1"):
        value(plain(Constant()), 0, 1)


# expressions -------------------------------------------------------------------------------------


def printed(formula: Any) -> str:
    printer = Printer(PYTHON)
    result = printer.print(formula)
    return "\n".join([*printer.lines, result])


@pytest.mark.parametrize(
    ("formula", "code"),
    [
        (2 * (1 + COUNT) / 3, "2 * (1 + count) / 3"),
        (1 - (2 - COUNT), "1 - (2 - count)"),
        (0.5 ** (COUNT - 1), "0.5 ** (count - 1)"),
        ((-1 * COUNT) ** 2, "((-1) * count) ** 2"),
        (where(less_than(COUNT, 3), COUNT, 1.0), "(count if count < 3 else 1.0)"),
        (lookup(COUNT, (3,), (0.1, 0.2)), "(0.1 if count < 3 else 0.2)"),
        (lookup(COUNT, (3, 4), (1, 2, 3)), "(1, 2, 3)[bisect_right((3, 4), count)]"),
        (named("a", COUNT + 1) * named("a", COUNT + 1), "a = count + 1\na * a"),
        (named("a", COUNT + 1) * named("a", COUNT + 2), "a = count + 1\na_2 = count + 2\na * a_2"),
    ],
)
def test_it_prints_python(formula: Any, code: str) -> None:
    assert printed(formula) == code


@pytest.mark.parametrize("name", torch_cases.NAMES)
def test_its_printed_code_computes_what_it_computes(name: str) -> None:
    pytest.importorskip("torch")
    schedule = continued(lifted(name, 12)[0])
    formula = expression(schedule, 1)
    if formula is None:
        assert isinstance(schedule.form, Chain)
        return
    body = printed(formula).splitlines()
    lines = ["import math", "from bisect import bisect_right", "def rate(count):"]
    lines += [f"    {line}" for line in body[:-1]] + [f"    return {body[-1]}"]
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    for count in range(80):
        assert names["rate"](count) == evaluate(formula, count)


# edits -------------------------------------------------------------------------------------------


def test_it_says_which_rate_was_edited() -> None:
    schedule = Schedule(Exponential(0.5), 2, (0.1, 0.2), (0.025, 0.07))
    (edit,) = edits(schedule)
    assert str(edit) == (
        "parameter group 1 has the learning rate 0.07, where its schedule gives 0.05"
    )


@pytest.mark.parametrize("name", torch_cases.NAMES)
@pytest.mark.parametrize("count", [7, 10, 21, 45])
def test_it_goes_on_from_an_edit_as_torch_does(name: str, count: int) -> None:
    pytest.importorskip("torch")
    dialect = pytest.importorskip("portackpt_torch.dialect.schedules")
    made, scheduler = torch_cases.run_to(name, count)
    for group in made.param_groups:
        group["lr"] = group["lr"] * 0.7 + 0.001
    schedule = dialect.lift(scheduler.state_dict(), made.param_groups)
    assert edits(schedule)
    schedule = continued(schedule)
    for later in range(count + 1, torch_cases.STEPS):
        torch_cases.tick(made, scheduler)
        for group, rate in enumerate(torch_cases.rates(made)):
            assert value(schedule, later, group) == pytest.approx(rate, rel=1e-11, abs=1e-13)


def test_it_holds_the_rate_of_a_part_that_is_code_and_over() -> None:
    code = Schedule(Code("a lambda"), 4, (0.1,))
    cosine = Schedule(Cosine(10), 2, (0.1,))
    form = Sequence((Piece(code), Piece(cosine, 5, 5)))
    schedule = Schedule(form, 7, (0.1,), (value(cosine, 2),))
    assert unknown(schedule) == ""
    assert unknown(replace(schedule, position=3)) == "a lambda"
    formula = expression(continued(schedule))
    assert formula is not None
    assert evaluate(formula, 9) == value(cosine, 4)


def test_it_knows_only_the_present_rate_of_code() -> None:
    schedule = Schedule(Code("LambdaLR is code"), 3, (0.1,), (0.05,))
    assert value(schedule, 3) == 0.05
    with pytest.raises(UsageError, match="the rate at count 4 is not known: LambdaLR is code"):
        value(schedule, 4)


# clocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("position", "updates", "clock"),
    [
        (7, 7, Clock()),
        (0, 0, Clock()),
        (10, 5000, Clock(1, 500)),
        (80, 10, Clock(8)),
        (1005, 1000, Clock(1, 1, 5)),
        (10, 5017, None),
        (0, 12, None),
        (5, 0, None),
        (2.5, 5, None),
    ],
)
def test_it_tells_the_clock(position: float, updates: int, clock: Clock | None) -> None:
    found = infer_clock(position, updates)
    assert found == clock
    assert found is None or found.count(updates) == position


@given(st.integers(1, 1000), st.integers(0, 100_000), st.integers(0, 50))
@settings(max_examples=50)
def test_it_counts_epochs_of_a_known_length(per: int, updates: int, position: int) -> None:
    clock = infer_clock(position, updates, per)
    assert clock is not None
    assert clock.count(updates) == position
    assert clock.count(updates + per) == position + 1


# plateaus ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_it_lowers_rates_on_a_plateau_as_torch_does(seed: int) -> None:
    torch = pytest.importorskip("torch")
    dice = random.Random(seed)
    mode, threshold_mode = dice.choice(["min", "max"]), dice.choice(["rel", "abs"])
    plateau = Plateau(
        0.5, dice.randrange(4), 0.05, threshold_mode == "rel", mode == "max",
        dice.randrange(3), (0.001, 0.01), 1e-3,
    )  # fmt: skip
    made = torch_cases.optimizer()
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        made, mode, 0.5, plateau.patience, 0.05, threshold_mode, plateau.cooldown,
        [0.001, 0.01], 1e-3,
    )  # fmt: skip
    state = plateau.start
    rates: tuple[float, ...] = torch_cases.RATES
    for _ in range(120):
        metric = dice.choice([dice.random(), 0.5, 0.4, -0.1])
        scheduler.step(metric)
        state, rates = observe(plateau, state, rates, metric)
        assert list(rates) == torch_cases.rates(made)
        real = (scheduler.best, scheduler.num_bad_epochs, scheduler.cooldown_counter)
        assert state == PlateauState(*real)


# declared ----------------------------------------------------------------------------------------


def hugging_face_factor(name: str, step: int, warmup: int, total: int) -> float:
    """transformers/optimization.py, in a few lines."""
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    match name:
        case "linear":
            return max(0.0, (total - step) / max(1, total - warmup))
        case "cosine":
            return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
        case "cosine_with_restarts":
            if progress >= 1.0:
                return 0.0
            return max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((2 * progress) % 1.0))))
        case "polynomial":
            if step > total:
                return 1e-7 / 0.1
            return ((0.1 - 1e-7) * (1 - progress) ** 2 + 1e-7) / 0.1
        case "inverse_sqrt":
            return 1.0 / math.sqrt((step + (warmup or 10_000) - warmup) / (warmup or 10_000))
        case "cosine_with_min_lr":
            return 0.5 * (1.0 + math.cos(math.pi * progress)) * 0.9 + 0.1
    return 1.0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("constant_with_warmup", {}),
        ("linear", {}),
        ("cosine", {}),
        ("cosine_with_restarts", {"num_cycles": 2}),
        ("polynomial", {"power": 2}),
        ("inverse_sqrt", {}),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
    ],
)
@pytest.mark.parametrize("warmup", [0, 7])
def test_it_knows_the_schedules_of_hugging_face(name: str, options: Any, warmup: int) -> None:
    form = hugging_face(name, (0.1,), warmup, 47, **options)
    for step in range(48):
        expected = 0.1 * hugging_face_factor(name, step, warmup, 47)
        found = value(Schedule(form, 0, (0.1,)), step)
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-16)


def test_it_checks_a_declared_schedule_against_the_rates() -> None:
    saved = Schedule(Code("LambdaLR"), 3, (5e-5, 5e-5), (3e-7, 3e-7))
    right = hugging_face("linear", saved.base_lrs, 500, 2000)
    assert value(declare(saved, right), 1000) == pytest.approx(5e-5 * 2 / 3)
    wrong = hugging_face("linear", saved.base_lrs, 100, 2000)
    with pytest.raises(
        UsageError,
        match=r"the declared schedule is not the one that was saved: after 3 ticks parameter "
        r"group 0 has the learning rate 3e-07, where its schedule gives 1.5\d*e-06",
    ):
        declare(saved, wrong)


def test_it_names_the_schedules_it_knows() -> None:
    with pytest.raises(UsageError, match="unknown schedule 'lineal': known are constant, "):
        hugging_face("lineal", (0.1,), 0)
    with pytest.raises(UsageError, match=r"linear: .*unexpected keyword argument 'power'"):
        hugging_face("linear", (0.1,), 0, 10, power=2)


# without torch -----------------------------------------------------------------------------------

WRITTEN = json.loads((Path(__file__).parents[1] / "data/schedules/torch.json").read_text())


def as_node(value: Any) -> Any:
    """A value of the file as a reader of pickles gives it."""
    if isinstance(value, dict) and [*value] == ["Counter"]:
        return Object("collections.Counter", entries=dict(value["Counter"]))
    if isinstance(value, dict):
        return {key: as_node(item) for key, item in value.items()}
    return [as_node(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", torch_cases.NAMES)
def test_it_goes_on_from_what_torch_wrote(name: str) -> None:
    """The same as above, from a file that torch wrote (tests/data/make_schedules.py)."""
    from portackpt_torch.dialect.schedules import lift

    found = WRITTEN[name]
    schedule = continued(lift(as_node(found["state"]), found["groups"]))
    for count, rates in found["rates"].items():
        for group, rate in enumerate(rates):
            assert value(schedule, int(count), group) == pytest.approx(rate, rel=1e-12, abs=1e-14)
