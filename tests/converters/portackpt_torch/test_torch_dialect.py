"""Torch's checkpoints by their meaning; torch itself writes them."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

import portackpt
from portackpt import dialects
from portackpt.run import Run
from portackpt_torch.dialect.assignment import Model, assign

torch = pytest.importorskip("torch")
REAL = Path(__file__).parents[3] / "../shared/data/real"

CLASSES: list[tuple[str, dict[str, Any], str, set[str]]] = [
    ("SGD", {"lr": 0.1}, "sgd", set()),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}, "sgd", {"momentum"}),
    ("Adam", {}, "adam", {"first_moment", "second_moment"}),
    ("Adam", {"weight_decay": 0.1}, "adam", {"first_moment", "second_moment"}),
    ("Adam", {"amsgrad": True}, "adam", {"first_moment", "second_moment", "max_second_moment"}),
    ("AdamW", {}, "adamw", {"first_moment", "second_moment"}),
    ("Adamax", {}, "adamax", {"first_moment", "infinity_norm"}),
    ("NAdam", {}, "nadam", {"first_moment", "second_moment", "momentum_product"}),
    ("RAdam", {}, "radam", {"first_moment", "second_moment"}),
    ("RMSprop", {"momentum": 0.9, "centered": True}, "rmsprop",
     {"second_moment", "momentum", "mean_gradient"}),
    ("Adagrad", {}, "adagrad", {"sum_of_squares"}),
    ("Adadelta", {}, "adadelta", {"second_moment", "mean_squared_update"}),
    ("Adafactor", {}, "adafactor", {"row_moment", "column_moment", "second_moment"}),
    ("Rprop", {}, "rprop", {"previous_sign", "step_size"}),
    ("ASGD", {}, "asgd", {"average", "eta", "mu"}),
    ("LBFGS", {}, "lbfgs", {"d", "prev_flat_grad", "H_diag"}),
]  # fmt: skip


def model() -> Any:
    return torch.nn.Sequential(OrderedDict(
        a=torch.nn.Linear(3, 4), norm=torch.nn.BatchNorm1d(4), b=torch.nn.Linear(4, 2),
    ))  # fmt: skip


def trained(optimizer: Any, network: Any, steps: int = 3) -> None:
    def closure() -> Any:
        optimizer.zero_grad()
        loss = network(torch.ones(5, 3)).square().sum()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)


def lift(path: Path, **settings: str) -> Run:
    checkpoint = portackpt.open(path)
    assert checkpoint.framework is not None
    dialect = dialects.get(checkpoint.framework)
    assert dialect is not None
    return dialect.lift(checkpoint, settings)


@pytest.mark.parametrize(("name", "options", "title", "slots"), CLASSES)
def test_it_recognizes_the_optimizer(
    name: str, options: dict[str, Any], title: str, slots: set[str], tmp_path: Path
) -> None:
    network = model()
    optimizer = getattr(torch.optim, name)(network.parameters(), **options)
    trained(optimizer, network)
    torch.save({"model": network.state_dict(), "optimizer": optimizer.state_dict()},
               tmp_path / "run.pt")  # fmt: skip
    run = lift(tmp_path / "run.pt")
    (found,) = run.optimizers
    assert (found.title, found.ambiguity) == (title, "")
    assert {str(slot) for own in found.slots.values() for slot in own} >= slots
    assert found.step == (None if name == "SGD" else 3 if name != "LBFGS" else found.step)
    assert found.groups[0].parameters == tuple(dict(network.named_parameters()))
    assert run.unrecognized == ()
    for parameter, own in found.slots.items():
        state = optimizer.state[dict(network.named_parameters())[parameter]]
        for slot in own.values():
            native = slot.path.rpartition("/")[2]
            assert slot.value.read().tobytes() == state[native].numpy().tobytes()


def test_it_finds_muon(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(3, 4))
    optimizer = torch.optim.Muon([weight])
    weight.grad = torch.ones(3, 4)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    (found,) = lift(tmp_path / "optimizer.pt").optimizers
    assert (found.title, found.name) == ("muon", "")
    assert found.assumptions == (
        "no model stands beside the optimizer: its parameters keep their numbers",
    )


def test_it_tells_parameters_from_buffers_and_ties(tmp_path: Path) -> None:
    network = model()
    state = network.state_dict()
    state["tied"] = state["a.weight"]
    torch.save(state, tmp_path / "model.pt")
    run = lift(tmp_path / "model.pt")
    assert list(run.parameters) == [name for name, _ in network.named_parameters()]
    assert list(run.buffers) == [name for name, _ in network.named_buffers()]
    assert run.ties == {"tied": "a.weight"}


def test_it_names_the_parameters_of_several_groups(tmp_path: Path) -> None:
    network = model()
    named = dict(network.named_parameters())
    decayed = [p for p in named.values() if p.dim() > 1]
    rest = [p for p in named.values() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": rest, "weight_decay": 0.0}])
    trained(optimizer, network)
    torch.save({"model": network.state_dict(), "opt": optimizer.state_dict()}, tmp_path / "r.pt")
    (found,) = lift(tmp_path / "r.pt").optimizers
    assert found.groups[0].parameters == ("a.weight", "b.weight")
    assert set(found.groups[1].parameters) == set(named) - {"a.weight", "b.weight"}
    assert found.assumptions == (
        "6 numbered parameters are the model's, in its order (shapes agree)",
    )


def test_it_takes_the_names_that_the_file_says(tmp_path: Path) -> None:
    network = model()
    optimizer = torch.optim.SGD(list(network.named_parameters())[::-1], lr=0.1)
    torch.save({"model": network.state_dict(), "o": optimizer.state_dict()}, tmp_path / "r.pt")
    (found,) = lift(tmp_path / "r.pt").optimizers
    assert found.groups[0].parameters[0] == "b.bias"
    assert found.assumptions == ()


def old_adam(tmp_path: Path, decay: float) -> Path:
    network = torch.nn.Linear(3, 4)
    optimizer = torch.optim.Adam(network.parameters(), weight_decay=decay)
    trained(optimizer, network)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["decoupled_weight_decay"]
    torch.save({"model": network.state_dict(), "optimizer": state}, tmp_path / "old.pt")
    return tmp_path / "old.pt"


def test_it_asks_whether_adam_was_adamw(tmp_path: Path) -> None:
    path = old_adam(tmp_path, 0.01)
    (found,) = lift(path).optimizers
    assert found.title == "adam or adamw"
    assert found.ambiguity == (
        "Adam or AdamW? This file was written before torch said which, and its weight decay is "
        "0.01: choose with --set optimizer=adam or --set optimizer=adamw"
    )
    (told,) = lift(path, optimizer="adamw").optimizers
    assert (told.title, told.ambiguity) == ("adamw", "")
    assert portackpt.inspect(path, settings={"optimizer": "adam"}).optimizers[0]["algorithm"] == (
        "adam"
    )


def test_it_does_not_ask_without_weight_decay(tmp_path: Path) -> None:
    assert lift(old_adam(tmp_path, 0.0)).optimizers[0].title == "adam"


def test_it_says_that_it_does_not_know_an_optimizer(tmp_path: Path) -> None:
    state = {"state": {0: {"foo": torch.ones(2)}}, "param_groups": [{"zeal": 1, "params": [0]}]}
    torch.save(state, tmp_path / "odd.pt")
    (found,) = lift(tmp_path / "odd.pt").optimizers
    assert found.title is None
    assert found.ambiguity == (
        "no known optimizer has the options zeal; name it with --set optimizer=NAME"
    )
    assert "foo" in found.slots["0"]


@pytest.mark.parametrize(
    ("model", "shapes", "names", "said"),
    [
        ({"a": (2,), "b": (2,)}, [(2,), (2,)], {0: "a", 1: "b"}, "in its order"),
        ({"a": (2,), "b": (3,)}, [(3,)], {0: "b"}, "in its order"),
        ({"a": (2,), "b": (2,)}, [(2,)], {}, "may be 'a' or 'b'"),
        ({"a": (2,)}, [(3,)], {}, "no order of them fits the shapes"),
        ({"a": (2,)}, [(2,), (2,)], {}, "has 2 parameters in 1 groups, the model 1"),
    ],
)
def test_it_assigns_by_shape_and_order(
    model: dict[str, tuple[int, ...]], shapes: list[Any], names: dict[int, str], said: str
) -> None:
    found = assign([list(range(len(shapes)))], dict(enumerate(shapes)), Model(model, True))
    assert found.names == names
    assert said in found.assumption + found.ambiguity
    assert not found.ambiguity or "pass --set parameters=FILE" in found.ambiguity


def test_it_trusts_no_order_of_sorted_names() -> None:
    sorted_names = Model({"a": (2,), "b": (2,), "c": (3,)}, False)
    assert assign([[0]], {0: (3,)}, sorted_names).names == {0: "c"}
    found = assign([[0, 1, 2]], {0: (2,), 1: (2,), 2: (3,)}, sorted_names)
    assert found.ambiguity.startswith(
        "parameter 0 of the optimizer may be 'a' or 'b': the model's names are sorted, and their "
        "order tells nothing"
    )


def test_it_finds_schedules_streams_scaler_and_progress(tmp_path: Path) -> None:
    import random

    network = model()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    scaler = {"scale": 2.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 10,
              "_growth_tracker": 3}  # fmt: skip
    torch.save({
        "state_dict": network.state_dict(), "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [scheduler.state_dict()], "epoch": 2, "global_step": 3, "scaler": scaler,
        "rng": {"torch": torch.get_rng_state(), "python": random.getstate()}, "mine": object,
        "ema": network.state_dict(),
    }, tmp_path / "run.pt")  # fmt: skip
    found = portackpt.inspect(tmp_path / "run.pt")
    assert found.step == 3
    assert found.progress == {"epoch": 2, "step": 3}
    assert [(s["name"], s["kind"], s["position"], s["lrs"]) for s in found.schedules] == [
        ("lr_schedulers/0", "step", 3, [0.05])
    ]
    assert found.schedules[0]["parameters"] == {"size": 2, "gamma": 0.5}
    assert found.randomness == (
        {"name": "rng/torch", "engine": "mt19937", "library": "torch-cpu"},
        {"name": "rng/python", "engine": "mt19937", "library": "python"},
    )
    assert found.unrecognized == ("mine",)
    roles = {fact.name: str(fact.role) for fact in found.tensors}
    assert roles["rng/torch"] == "randomness"
    assert roles["state_dict/norm.running_mean"] == "buffer"
    run = lift(tmp_path / "run.pt")
    assert run.scaler["growth_tracker"].value == 3
    assert set(run.averages["ema"]) == set(network.state_dict())
    assert "a.weight" in run.parameters


def test_it_survives_what_only_looks_like_training_state(tmp_path: Path) -> None:
    odd = {
        "optimizer": {"state": {0: {"step": float("nan")}}, "param_groups": [
            {"params": [0, (1, 2)], "betas": 3, "amsgrad": 1}]},
        "empty": {"state": {}, "param_groups": []},
        "scheduler": {"last_epoch": 1, "base_lrs": "none", "step_size": 0, "gamma": 1},
        "rng_state": torch.zeros(5056, dtype=torch.uint8),
        "epoch": "three",
    }  # fmt: skip
    torch.save(odd, tmp_path / "odd.pt")
    found = portackpt.inspect(tmp_path / "odd.pt")
    assert [optimizer["name"] for optimizer in found.optimizers] == ["optimizer", "empty"]
    assert "scheduler" in found.unrecognized
    assert any("scheduler is not recognized: " in note for note in found.notes)


@pytest.mark.parametrize(
    ("path", "title", "step", "schedules", "streams"),
    [
        ("hf-trainer/octavio_results/checkpoint-2", "adam or adamw", 2, ["code"], 3),
        ("lightning/opsml_v0/checkpoints/epoch=0-step=10.ckpt", "adam", 10, [], 0),
        ("lightning/darts_logs/unittest-model-lstm/checkpoints/last-epoch=2.ckpt", "adam", 12, [],
         0),
        ("torch-legacy/allennlp_tmpout_den/training_state_epoch_39.th", "adam", 160, ["plateau"],
         0),
        ("torch-train/composer_ep1_No0/rank_0/first/ep1.pt", "adam", 5, ["code"], 3),
    ],
)  # fmt: skip
def test_it_reads_what_others_trained(
    path: str, title: str, step: int, schedules: list[str], streams: int
) -> None:
    place = (REAL / path).resolve()
    if not place.exists():
        pytest.skip(f"{path} is not here")
    found = portackpt.inspect(place)
    assert [optimizer["algorithm"] for optimizer in found.optimizers] == [title]
    assert (found.optimizers[0]["step"], found.step) == (step, step)
    assert [schedule["kind"] for schedule in found.schedules] == schedules
    assert len(found.randomness) == streams
