"""torch's schedulers: lifted from real state dicts, and lowered to what real ones load."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import schedule_cases as cases
from hypothesis import given, settings
from hypothesis import strategies as st

from portackpt.errors import DamagedError, InputError, PortackptError, RefusedError
from portackpt.ledger import Fate
from portackpt.schedules import (
    After,
    Chain,
    Clock,
    Code,
    Cosine,
    Cyclic,
    Exponential,
    Interpolated,
    Linear,
    OneCycle,
    Piece,
    Plateau,
    PlateauState,
    Polynomial,
    Schedule,
    Sequence,
    WarmRestarts,
    continued,
    declare,
    edits,
    hugging_face,
    observe,
    unknown,
    value,
)
from portackpt.tensor import from_array
from portackpt.tree import Object
from portackpt_torch.dialect.schedule_lowering import lower
from portackpt_torch.dialect.schedules import is_scheduler, lift

torch = pytest.importorskip("torch")
REAL = Path(__file__).parents[3] / "../shared/data/real"


def resumed(lowered: Any, made: Any) -> Any:
    """The scheduler that the lowered code constructs, with the lowered state and rates."""
    names = {"optimizer": made}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(lowered.spelled.code, names)
    scheduler = names["scheduler"]
    scheduler.load_state_dict(cases.live(lowered.state))
    for group, found in zip(made.param_groups, lowered.groups, strict=True):
        beta = found.get("beta1")
        if beta is not None:
            group["betas"] = (beta, *group["betas"][1:])
        group.update({key: rate for key, rate in found.items() if key != "beta1"})
    return scheduler


@pytest.mark.parametrize("name", cases.NAMES)
@pytest.mark.parametrize("count", [0, 5, 17, 40])
def test_it_gives_back_the_state_dict_bit_for_bit(name: str, count: int) -> None:
    made, scheduler = cases.run_to(name, count)
    state = copy.deepcopy(scheduler.state_dict())
    schedule = lift(state, made.param_groups)
    back = cases.live(lower(schedule).state)
    assert repr(back) == repr(state)  # values, types and order
    if "in" not in name:
        assert not schedule.extras  # all of it had a meaning


@pytest.mark.parametrize("name", cases.NAMES)
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_it_goes_on_bit_for_bit(name: str, kind: str) -> None:
    made, scheduler = cases.run_to(name, 17, kind)
    lowered = lower(lift(copy.deepcopy(scheduler.state_dict()), made.param_groups))
    assert lowered.spelled.fate is Fate.EXACT
    assert lowered.kind == type(scheduler).__name__
    other = cases.optimizer(kind)
    again = resumed(lowered, other)
    for _ in range(17, cases.STEPS - 1):
        assert cases.rates(other) == cases.rates(made)
        assert cases.momenta(other) == cases.momenta(made)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cases.tick(made, scheduler)
            cases.tick(other, again)
    assert cases.rates(other) == cases.rates(made)


def test_it_constructs_the_scheduler_in_words() -> None:
    _, scheduler = cases.run_to("sequential", 3)
    assert lower(lift(scheduler.state_dict())).spelled.code == (
        "from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR\n"
        "\n"
        "scheduler_0 = LinearLR(optimizer, start_factor=0.1, end_factor=1.0, total_iters=5)\n"
        "scheduler_1 = CosineAnnealingLR(optimizer, T_max=59, eta_min=0.001)\n"
        "scheduler = SequentialLR(optimizer, [scheduler_0, scheduler_1], milestones=[5])"
    )


def test_it_reads_a_position_within_an_epoch() -> None:
    made = cases.optimizer()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(made, 3, 2)
    for count in range(40):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler.step(count / 4)
        schedule = lift(scheduler.state_dict(), made.param_groups)
        assert schedule.position == pytest.approx(count / 4)
        assert edits(schedule) == ()
        assert repr(cases.live(lower(schedule).state)) == repr(scheduler.state_dict())


def test_it_reads_rates_that_are_tensors() -> None:
    made = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))], lr=torch.tensor(0.1))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(made, 0.99)
    for _ in range(300):
        cases.tick(made, scheduler)
    state = {
        key: [from_array(item.numpy()) for item in item] if isinstance(item, list) else item
        for key, item in scheduler.state_dict().items()
    }
    schedule = lift(state, [{"lr": from_array(made.param_groups[0]["lr"].numpy())}])
    assert list(schedule.base_lrs) == pytest.approx([0.1])
    assert edits(schedule) == ()
    assert value(schedule, 300) == pytest.approx(0.1 * 0.99**300)


def test_it_says_that_a_lambda_is_lost() -> None:
    made = cases.optimizer()
    scheduler = torch.optim.lr_scheduler.LambdaLR(made, lambda count: 1 / (1 + count))
    for _ in range(3):
        cases.tick(made, scheduler)
    schedule = lift(scheduler.state_dict(), made.param_groups)
    assert unknown(schedule) == (
        "LambdaLR and MultiplicativeLR are Python functions of the training program; "
        "no checkpoint holds them"
    )
    lowered = lower(schedule)
    assert lowered.spelled.fate is Fate.EXACT  # as far as torch itself keeps it
    assert lowered.state == scheduler.state_dict()
    assert lower(replace(schedule, framework="jax")).spelled.fate is Fate.DROPPED


def test_a_lambda_in_a_sequence_is_the_program_s_too() -> None:
    from torch.optim import lr_scheduler as s

    made = cases.optimizer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = [s.LambdaLR(made, lambda count: (count + 1) / 5), s.CosineAnnealingLR(made, 20)]
        scheduler = s.SequentialLR(made, parts, [5])
        for _ in range(3):
            cases.tick(made, scheduler)
        schedule = lift(scheduler.state_dict(), made.param_groups)
        lowered = lower(schedule)
        assert lowered.spelled.fate is Fate.EXACT
        assert "functions of the training program" in lowered.spelled.detail
        assert repr(cases.live(lowered.state)) == repr(scheduler.state_dict())
        for _ in range(3):
            cases.tick(made, scheduler)
        # past the warm-up, nothing of it is needed any more
        later = lift(scheduler.state_dict(), made.param_groups)
        assert unknown(later) == ""
        later = continued(later)
        for count in range(6, 30):
            assert value(later, count) == pytest.approx(cases.rates(made)[0], rel=1e-12)
            cases.tick(made, scheduler)


def test_it_says_how_often_to_step() -> None:
    schedule = Schedule(Exponential(0.9), 3, (0.1,), clock=Clock(1, 500))
    assert lower(schedule).spelled.detail == "step() is called 1 times every 500 updates"


def test_it_says_that_a_scale_function_is_lost() -> None:
    made = cases.optimizer()
    scheduler = torch.optim.lr_scheduler.CyclicLR(
        made, 0.1, 0.5, step_size_up=4, scale_fn=lambda x: 1 / (1 + x), scale_mode="iterations"
    )
    schedule = lift(scheduler.state_dict(), made.param_groups)
    assert "scale_fn" in unknown(schedule)
    # in the mode of the class itself a function leaves no trace but the rates
    scheduler = torch.optim.lr_scheduler.CyclicLR(
        made, 0.1, 0.5, step_size_up=4, scale_fn=lambda x: 0.9**x
    )
    for _ in range(3):
        cases.tick(made, scheduler)
    assert edits(lift(scheduler.state_dict(), made.param_groups))


def test_it_wants_the_groups_of_one_cycle() -> None:
    made, scheduler = cases.run_to("onecycle", 3)
    assert "max_lr, min_lr and its momenta" in unknown(lift(scheduler.state_dict()))
    assert unknown(lift(scheduler.state_dict(), made.param_groups)) == ""


def test_it_names_the_state_of_a_class_it_does_not_know() -> None:
    state = {"base_lrs": [0.1], "last_epoch": 3, "_last_lr": [0.1], "wibble": 3, "wobble": None}
    schedule = lift(state)
    assert unknown(schedule) == "a scheduler of an unknown class with the state wibble, wobble"
    assert lower(schedule).state == {
        **state, "_step_count": 4, "_is_initial": False, "_get_lr_called_within_step": False,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_it_restores_a_plateau_with_its_counters(seed: int) -> None:
    import random

    dice = random.Random(seed)
    make = torch.optim.lr_scheduler.ReduceLROnPlateau
    made = cases.optimizer()
    scheduler = make(made, "max", 0.5, 2, 0.01, "rel", 2, [0.0, 0.01])
    for _ in range(15):
        scheduler.step(dice.random())
    schedule = lift(scheduler.state_dict(), made.param_groups)
    assert repr(lower(schedule).state) == repr(scheduler.state_dict())
    assert not schedule.extras or [*schedule.extras] == ["default_min_lr"]
    other = cases.optimizer()
    again = resumed(lower(schedule), other)
    state, rates = schedule.plateau, tuple(cases.rates(made))
    assert isinstance(schedule.form, Plateau)
    for _ in range(40):
        metric = dice.random()
        scheduler.step(metric)
        again.step(metric)
        assert state is not None
        state, rates = observe(schedule.form, state, rates, metric)
        assert cases.rates(other) == cases.rates(made) == list(rates)


def as_written(state: Any) -> Any:
    """A state dict as a reader of pickles gives it."""
    from collections import Counter

    if isinstance(state, Counter):
        return Object("collections.Counter", entries=dict(state))
    if isinstance(state, dict):
        return {key: as_written(item) for key, item in state.items()}
    return [as_written(item) for item in state] if isinstance(state, list) else state


@pytest.mark.parametrize("name", ["multistep_repeated", "sequential_of_three"])
def test_it_reads_the_nodes_of_a_file(name: str) -> None:
    made, scheduler = cases.run_to(name, 9)
    state = as_written(scheduler.state_dict())
    whole = Object("collections.OrderedDict", entries=state)
    assert is_scheduler(whole)
    schedule = lift(whole, made.param_groups)
    assert schedule == lift(scheduler.state_dict(), made.param_groups)


def test_it_reads_states_of_older_versions() -> None:
    """torch 1.1 to 2.6: `verbose`, no `_is_initial`; OneCycleLR kept its function by name."""
    made, scheduler = cases.run_to("onecycle_three_phases", 9)
    state = scheduler.state_dict()
    old = {key: item for key, item in state.items() if key not in ("_is_initial",)}
    old["verbose"] = False
    del old["_anneal_func_type"]
    old["anneal_func"] = Object(
        "builtins.getattr",
        args=(Object("torch.optim.lr_scheduler.OneCycleLR"), "_annealing_linear"),
    )
    schedule = lift(old, made.param_groups)
    assert schedule.form == lift(state, made.param_groups).form
    assert edits(schedule) == ()
    assert lower(schedule).state["verbose"] is False


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"last_epoch": "3", "base_lrs": []}, "expected a number, found str, at last_epoch"),
        ({"last_epoch": 3, "base_lrs": {}}, "expected a list of numbers, found dict, at base_lrs"),
        ({"last_epoch": 3}, "the state has no 'base_lrs'"),
        ({"last_epoch": math.nan, "base_lrs": []}, "expected a finite number, found nan, at "
         "last_epoch"),
        ({"last_epoch": 1 << 70, "base_lrs": []}, "expected a number below 2**63, found a larger "
         "one, at last_epoch"),
        ({"last_epoch": 3, "base_lrs": [0.1], "T_max": 0, "eta_min": 0},
         "a cosine schedule has steps > 0, found 0"),
        ({"last_epoch": 3, "base_lrs": [0.1], "milestones": [1], "gamma": 0.1},
         "expected a Counter of milestones, at milestones"),
        ({"_schedulers": []}, "expected a list of schedulers, at _schedulers"),
        ({"_schedulers": [3]},
         "expected the state dict of a scheduler, found something else, at _schedulers[0]"),
        ({"_schedulers": [{"last_epoch": 0, "base_lrs": [], "gamma": 1}], "_milestones": [1],
          "last_epoch": 0},
         "expected 0 milestones for 1 schedulers, found 1, at _milestones"),
        (3, "expected the state dict of a scheduler, found something else"),
    ],
)  # fmt: skip
def test_it_says_what_is_wrong_with_a_state(state: Any, message: str) -> None:
    with pytest.raises(DamagedError) as caught:
        lift(state)
    assert str(caught.value) == message


def test_a_counter_is_not_written_out() -> None:
    """A milestone given a thousand million times is one number in the file, and here."""
    state = {"last_epoch": 3, "base_lrs": [0.1], "milestones": {5: 10**9}, "gamma": 0.5}
    schedule = lift(state)
    assert value(schedule, 5) == 0.0
    assert "milestones={5: 1000000000}" in lower(schedule).spelled.code
    with pytest.raises(RefusedError, match="5000 milestones, at most 4096 are read"):
        lift({**state, "milestones": dict.fromkeys(range(5000), 1)})


def test_it_refuses_schedulers_without_end() -> None:
    state: Any = {"last_epoch": 0, "base_lrs": [0.1], "gamma": 0.5}
    for _ in range(40):
        state = {"_schedulers": [state]}
    with pytest.raises(RefusedError, match="schedulers inside schedulers, more than 16 deep"):
        lift(state)


numbers = st.one_of(
    st.integers(), st.floats(), st.none(), st.booleans(), st.text(max_size=3),
    st.lists(st.integers(-3, 3) | st.floats(), max_size=3),
    st.dictionaries(st.integers() | st.text(max_size=2), st.integers() | st.floats(), max_size=3),
)  # fmt: skip
KEYS = """
last_epoch base_lrs _last_lr gamma step_size milestones T_max eta_min T_0 T_i T_mult T_cur
total_iters factor power start_factor end_factor max_lrs total_size step_ratio mode patience
num_bad_epochs cycle_momentum _schedule_phases total_steps lr_lambdas best
""".split()  # noqa: SIM905


states = st.fixed_dictionaries(
    {"last_epoch": st.integers(-2, 1 << 62) | numbers, "base_lrs": st.lists(st.floats()) | numbers},
    optional=dict.fromkeys(KEYS[2:], numbers),
)


@given(states, states)
@settings(max_examples=300, deadline=None)
def test_any_state_is_read_or_refused(state: dict[str, Any], other: dict[str, Any]) -> None:
    whole = {"_schedulers": [state, other], "_milestones": [2], "last_epoch": 1}
    for node in (state, whole, {"_schedulers": [state, other]}):
        try:
            schedule = lift(node)
        except InputError:
            continue
        try:
            edits(schedule)
            lower(schedule)
        except PortackptError:
            pass


# from other frameworks ---------------------------------------------------------------------------


def foreign(form: Any, bases: tuple[float, ...] = (0.1, 0.2)) -> Schedule:
    return Schedule(form, 0, bases, framework="jax")


FOREIGN = {
    "clamped cosine": foreign(Cosine(10, 0.01, After.CLAMP)),
    "warm-up and cosine": foreign(
        Sequence(
            (
                Piece(foreign(Linear(0.0, 1.0, 5))),
                Piece(foreign(Cosine(20, 0.0, After.CLAMP)), 5, 5),
            )
        )
    ),
    "sequence in sequence": foreign(
        Sequence(
            (
                Piece(foreign(Exponential(0.9))),
                Piece(
                    foreign(
                        Sequence(
                            (
                                Piece(foreign(Exponential(0.5))),
                                Piece(foreign(Linear(0.1, 1, 5)), 4, 4),
                            )
                        )
                    ),
                    6,
                    6,
                ),
            )
        )
    ),
    "linear to zero": foreign(Interpolated((3, 30), (0.0, 1.0, 0.0))),
    "polynomial to a floor": foreign(Polynomial(20, 2.0, 0.01)),
    "restarts that shrink": foreign(WarmRestarts(3, 1.5, 0.001, 0.5)),
    "a pair in a chain": foreign(
        Chain((Piece(foreign(Linear(0.5, 1.0, 4))), Piece(foreign(Exponential(0.9)))))
    ),
    "half a one-cycle": foreign(OneCycle(30, (8.5, 29), (0.3, 0.4), (0.0, 0.001))),
    "uneven cycles": foreign(Cyclic(7, 1 / 7, (0.3, 0.4), "triangular2")),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("count", [0, 1, 7, 19])
def test_it_runs_what_others_had(name: str, count: int) -> None:
    from portackpt.schedules import at

    schedule = at(FOREIGN[name], count)
    lowered = lower(schedule)
    assert lowered.spelled.fate is Fate.EQUIVALENT
    made = torch.optim.SGD(
        [
            {"params": [torch.nn.Parameter(torch.zeros(2))], "lr": rate}
            for rate in schedule.base_lrs
        ],
        lr=1.0,
    )
    scheduler = resumed(lowered, made)
    for later in range(count, 29):
        for group, rate in enumerate(cases.rates(made)):
            assert rate == pytest.approx(value(schedule, later, group), rel=1e-12, abs=1e-15)
        cases.tick(made, scheduler)


def test_it_runs_a_plateau_from_elsewhere() -> None:
    form = Plateau(0.5, 3, 0.01, False, smallest=(0.0,))
    schedule = Schedule(form, 4, (), (0.1,), plateau=PlateauState(0.3, 2, 0), framework="jax")
    made = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=1.0)
    scheduler = resumed(lower(schedule), made)
    for rate in (0.1, 0.05, 0.05, 0.05, 0.05, 0.025):
        scheduler.step(0.31)
        assert cases.rates(made) == [rate]


def test_it_drops_what_is_code_elsewhere() -> None:
    lowered = lower(Schedule(Code("a closure"), 3, (0.1,), (0.05,), framework="jax"))
    assert lowered.spelled.fate is Fate.DROPPED
    assert lowered.spelled.consequence == "the learning rate stays as it is"


# real files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 3])
def test_it_lifts_the_scheduler_of_a_trainer(step: int) -> None:
    path = REAL / f"hf-trainer/octavio_results/checkpoint-{step}/scheduler.pt"
    if not path.exists():
        pytest.skip("the real files are not here")
    state = torch.load(path, weights_only=True)
    schedule = lift(state)
    assert isinstance(schedule.form, Code)
    assert schedule.position == step
    named = declare(schedule, hugging_face("linear", schedule.base_lrs, 500, 1000))
    assert value(named, step) == pytest.approx(5e-5 * step / 500)
    assert lower(schedule).state.items() >= state.items()


@pytest.mark.parametrize("folder", ["allennlp_tmpout7", "allennlp_tmpout_den"])
def test_it_lifts_the_plateau_of_an_old_file(folder: str) -> None:
    paths = [*(REAL / "torch-legacy" / folder).glob("training_state_epoch_*.th")]
    if not paths:
        pytest.skip("the real files are not here")
    state = torch.load(paths[0], weights_only=True)
    groups = state["optimizer"]["param_groups"]
    found = state["learning_rate_scheduler"]
    assert is_scheduler(found)
    schedule = lift(found, groups)
    assert isinstance(schedule.form, Plateau)
    assert schedule.form.maximize
    assert schedule.plateau == PlateauState(found["best"], found["num_bad_epochs"], 0)
    assert lower(schedule).state.items() >= found.items()
