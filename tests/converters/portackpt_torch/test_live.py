"""Live PyTorch objects: interrupted and restored equals never interrupted, bit for bit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import portackpt  # noqa: E402
from portackpt import dialects  # noqa: E402
from portackpt.errors import UsageError  # noqa: E402
from portackpt.live import capture  # noqa: E402
from portackpt.tensor import Strided  # noqa: E402

nn = torch.nn
optim = torch.optim
rates = torch.optim.lr_scheduler


class Net(nn.Module):  # type: ignore[name-defined, misc]
    """Dropout for the random stream, a frozen part, a tie, a buffer that no state dict keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.conv = nn.Conv1d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm1d(6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight
        self.frozen = nn.Linear(6, 6)
        self.frozen.requires_grad_(False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, tokens: Any) -> Any:
        self.seen += len(tokens)
        x = self.norm(self.conv(self.embed(tokens).transpose(1, 2))).transpose(1, 2)
        x = self.frozen(self.attention(x, x, x, need_weights=False)[0])
        return self.head(self.drop(x))


Build = Callable[[Any], Any]


@dataclass
class Run:
    """One training program, anew; `trained(k)` gives the losses of its next k steps."""

    make_optimizer: Build
    make_schedule: Build | None = None

    def __post_init__(self) -> None:
        self.model = Net()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = self.make_optimizer(trained)
        self.schedule = self.make_schedule(self.optimizer) if self.make_schedule else None
        self.average = optim.swa_utils.AveragedModel(self.model)
        self.scaler = torch.amp.GradScaler("cpu", enabled=True)
        self.generator = torch.Generator().manual_seed(3)

    @property
    def objects(self) -> dict[str, Any]:
        found = {
            "model": self.model, "optimizer": self.optimizer, "ema": self.average,
            "scaler": self.scaler, "rng": portackpt.rng_state(), "generator": self.generator,
        }  # fmt: skip
        return found | ({"schedule": self.schedule} if self.schedule else {})

    def trained(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            tokens = torch.randint(11, (4, 5), generator=self.generator)

            def loss(tokens: Any = tokens) -> Any:
                self.optimizer.zero_grad()
                found = nn.functional.cross_entropy(self.model(tokens).flatten(0, 1),
                                                    tokens.flatten())  # fmt: skip
                found.backward()
                return found

            losses.append(float(self.optimizer.step(loss)))
            self.average.update_parameters(self.model)
            if isinstance(self.schedule, rates.ReduceLROnPlateau):
                self.schedule.step(losses[-1])
            elif self.schedule:
                self.schedule.step()
        return losses


OPTIMIZERS: dict[str, Build] = {
    "sgd": lambda p: optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
    "sgd plain": lambda p: optim.SGD(p, 0.05),
    "adam": lambda p: optim.Adam(p, 1e-2, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, 1e-2),
    "adamw groups": lambda p: optim.AdamW(
        [{"params": p[:2], "lr": 1e-3}, {"params": p[2:], "weight_decay": 0.0}], 1e-2
    ),
    "adam capturable lr": lambda p: optim.Adam(p, torch.tensor(1e-2), foreach=False),
    "adagrad": lambda p: optim.Adagrad(p, 1e-2),
    "rmsprop": lambda p: optim.RMSprop(p, 1e-3, momentum=0.5, centered=True),
    "nadam": lambda p: optim.NAdam(p, 1e-2),
    "radam": lambda p: optim.RAdam(p, 1e-2),
    "adafactor": lambda p: optim.Adafactor(p, 1e-2),
    "rprop": lambda p: optim.Rprop(p, 1e-3),
    "asgd": lambda p: optim.ASGD(p, 1e-2),
    "lbfgs": lambda p: optim.LBFGS(p, 0.1, max_iter=3),
}
SCHEDULES: dict[str, Build] = {
    "lambda": lambda o: rates.LambdaLR(o, lambda step: 0.9**step),
    "cosine": lambda o: rates.CosineAnnealingLR(o, 20),
    "restarts": lambda o: rates.CosineAnnealingWarmRestarts(o, 4),
    "multistep": lambda o: rates.MultiStepLR(o, [3, 6]),
    "one cycle": lambda o: rates.OneCycleLR(o, 0.1, total_steps=40),
    "cyclic": lambda o: rates.CyclicLR(o, 1e-3, 1e-2, cycle_momentum=False),
    "plateau": lambda o: rates.ReduceLROnPlateau(o, patience=1),
    "sequential": lambda o: rates.SequentialLR(
        o, [rates.LinearLR(o, 0.1, total_iters=4), rates.ExponentialLR(o, 0.9)], [4]
    ),
    "chained": lambda o: rates.ChainedScheduler(
        [rates.ConstantLR(o, 0.5, 3), rates.ExponentialLR(o, 0.9)], optimizer=o
    ),
}
CASES = [pytest.param(Run, make, None, id=name) for name, make in OPTIMIZERS.items()] + [
    pytest.param(Run, OPTIMIZERS["sgd"], make, id=name) for name, make in SCHEDULES.items()
]


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's own, of chained schedules
        torch.manual_seed(0)
        yield


def state(run: Run) -> Any:
    objects = run.objects
    return {
        name: value.get_state() if hasattr(value, "get_state") else value.state_dict()
        for name, value in objects.items()
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and bool(
            (one.contiguous().flatten().view(torch.uint8)
             == other.contiguous().flatten().view(torch.uint8)).all()
            if one.numel() else True
        )  # fmt: skip
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "tolist"):
        return bool((one == other).all())
    return type(one) is type(other) and one == other


@pytest.mark.parametrize(("kind", "optimizer", "schedule"), CASES)
def test_it_goes_on_bit_for_bit(
    kind: Any, optimizer: Build, schedule: Build | None, tmp_path: Path
) -> None:
    run = kind(optimizer, schedule)
    run.trained(5)
    portackpt.save(tmp_path / "c", run.objects)
    expected = run.trained(5)
    whole = state(run)

    torch.manual_seed(99)
    again = kind(optimizer, schedule)
    restored = portackpt.restore(tmp_path / "c", again.objects)
    assert restored.ledger.verdict == "exact"
    assert restored.objects["model"] is again.model
    assert again.trained(5) == expected
    assert same(state(again), whole)
    assert int(again.model.seen) == int(run.model.seen)


def test_it_restores_over_slots_that_exist(tmp_path: Path) -> None:
    run = Run(OPTIMIZERS["adamw"])
    run.trained(3)
    portackpt.save(tmp_path / "c", run.objects)
    slot = next(iter(run.optimizer.state.values()))["exp_avg"]
    expected = run.trained(2)
    portackpt.restore(tmp_path / "c", run.objects)
    assert next(iter(run.optimizer.state.values()))["exp_avg"] is slot
    assert run.trained(2) == expected


def test_its_tensors_are_the_memory_of_the_module() -> None:
    model = nn.Linear(2, 2)
    tensor = capture({"model": model}).tree["model"].entries["weight"]
    with torch.no_grad():
        model.weight.fill_(7)
    assert tensor.read().tolist() == [[7, 7], [7, 7]]


def test_it_keeps_ties_layers_and_what_is_trained() -> None:
    entries = capture({"model": Net()}).tree["model"].entries
    assert isinstance(entries["head.weight"].layout, Strided)
    assert entries["head.weight"].layout.source is entries["embed.weight"].layout.source
    told = {name: dict(tensor.attributes) for name, tensor in entries.items()}
    assert told["conv.weight"] == {"role": "parameter", "layer": "conv1d", "axes": "out in ..."}
    assert told["frozen.bias"] == {"role": "parameter", "trained": False, "layer": "linear",
                                   "axes": "out"}  # fmt: skip
    assert told["norm.running_var"]["role"] == "buffer"
    assert told["attention.out_proj.weight"]["layer"] == "multihead_attention"
    assert told["attention.out_proj.weight"]["axes"] == "out (head dim)"


def test_it_is_what_the_dialect_knows() -> None:
    run = Run(OPTIMIZERS["adamw"], SCHEDULES["one cycle"])
    run.trained(2)
    dialect = dialects.get("pytorch")
    assert dialect is not None
    found = dialect.lift(capture(run.objects), {})
    (optimizer,) = found.optimizers
    assert optimizer.title == "adamw"
    assert optimizer.step == 2
    assert set(optimizer.slots) <= set(found.parameters)
    assert "conv.weight" in optimizer.slots
    assert [s.path for s in found.schedules] == ["schedule"]
    assert {s.path for s in found.streams} >= {"rng/torch", "rng/python", "rng/numpy"}
    assert found.scaler


def test_it_reads_a_torch_file_into_live_objects(tmp_path: Path) -> None:
    run = Run(OPTIMIZERS["adam"])
    run.trained(2)
    saved = {"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict()}
    torch.save(saved, tmp_path / "c.pt")
    again = Run(OPTIMIZERS["adam"])
    portackpt.restore(tmp_path / "c.pt", {"model": again.model, "optimizer": again.optimizer})
    assert same(again.optimizer.state_dict(), run.optimizer.state_dict())
    assert same(again.model.state_dict(), run.model.state_dict())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn,
                                   torch.complex64, torch.bool, torch.int64])  # fmt: skip
def test_it_keeps_the_bits_of_every_layout(dtype: Any, tmp_path: Path) -> None:
    base = torch.randint(0, 100, (6, 8), dtype=torch.uint8).to(dtype)
    tensors = {"whole": base.clone(), "turned": base.clone().t(), "part": base.clone()[1:3, ::2],
               "scalar": base[0, 0].clone(), "empty": base[:0].clone()}  # fmt: skip
    portackpt.save(tmp_path / "c", {"t": tensors})
    fresh = {name: torch.zeros_like(value) for name, value in tensors.items()}
    fresh["turned"] = torch.zeros_like(base).t()
    portackpt.restore(tmp_path / "c", {"t": fresh})
    assert same(fresh, tensors)


def test_errors_name_everything_at_once_and_change_nothing(tmp_path: Path) -> None:
    saved = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    portackpt.save(tmp_path / "c", {"model": saved, "step": 3, "extra": 1})
    model = nn.Sequential(nn.Linear(2, 4, bias=False), nn.Linear(3, 1), nn.Linear(1, 1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UsageError) as caught:
        portackpt.restore(tmp_path / "c", {"model": model, "step": "three"})
    assert str(caught.value).splitlines() == [
        "the checkpoint does not fit the objects; nothing was changed:",
        "  extra: in the checkpoint, and not in the objects",
        "  model/2.weight: missing from the checkpoint",
        "  model/2.bias: missing from the checkpoint",
        "  model/0.bias: in the checkpoint, and not in the objects",
        "  model/0.weight: expected float32[4, 2], found float32[3, 2]",
        f"  step: expected a str, found a int, at {tmp_path / 'c'}",
    ]
    assert same(model.state_dict(), before)


def test_it_leaves_out_what_has_no_place_where_it_may(tmp_path: Path) -> None:
    saved = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    portackpt.save(tmp_path / "c", {"model": saved, "extra": 1})
    model = nn.Sequential(nn.Linear(2, 3), nn.Identity(), nn.Linear(1, 1))
    ledger = portackpt.restore(tmp_path / "c", {"model": model}, strict=False).ledger
    assert same(model[0].state_dict(), saved[0].state_dict())
    fates = {(e.source or e.target): str(e.fate) for e in ledger.entries if e.fate != "exact"}
    assert {k: v for k, v in fates.items() if "_metadata" not in k} == {
        "extra": "dropped", "model/1.weight": "dropped", "model/1.bias": "dropped",
        "model/2.weight": "created", "model/2.bias": "created",
    }  # fmt: skip


def test_errors_tell_an_optimizer_of_another_model(tmp_path: Path) -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizer = optim.SGD(other.parameters(), 0.1)
    with pytest.raises(UsageError, match="updates a parameter that no saved module has"):
        portackpt.save(tmp_path / "c", {"model": model, "optimizer": optimizer})
    assert not (tmp_path / "c").exists()


def test_errors_tell_another_optimizer_and_another_order(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    optimizer = optim.SGD(model.parameters(), 0.1)
    portackpt.save(tmp_path / "c", {"model": model, "optimizer": optimizer})
    with pytest.raises(UsageError, match=r"groups/0/betas: missing .* another optimizer than Adam"):
        portackpt.restore(
            tmp_path / "c", {"model": model, "optimizer": optim.Adam(model.parameters())}
        )
    turned = optim.SGD([model.bias, model.weight], 0.1)
    with pytest.raises(UsageError, match="params/0: it is bias here, and was weight when"):
        portackpt.restore(tmp_path / "c", {"model": model, "optimizer": turned})


def test_errors_name_what_cannot_be_saved(tmp_path: Path) -> None:
    objects = {"f": {"a": [1, object()]}, "m": torch.eye(2).to_sparse(), "k": {object(): 1}}
    with pytest.raises(UsageError) as caught:
        portackpt.save(tmp_path / "c", objects)
    told = str(caught.value)
    assert told.startswith("these cannot be saved:\n  f/a/1: a builtins.object, which is no plain")
    assert "\n  m: a tensor of layout torch.sparse_coo, which is several arrays" in told
    assert "its key is a object, which is no plain data" in told


def test_what_an_object_refuses_is_taken_back(tmp_path: Path) -> None:
    class Refuses:
        def state_dict(self) -> dict[str, int]:
            return {"a": 1}

        def load_state_dict(self, state: dict[str, int]) -> None:
            raise KeyError("b")

    model = nn.Linear(1, 1)
    optimizer = optim.SGD(model.parameters(), 0.1)
    schedule = rates.ExponentialLR(optimizer, 0.5)
    portackpt.save(tmp_path / "c", {"m": model, "s": schedule, "x": Refuses()})
    optimizer.step()
    schedule.step()
    with torch.no_grad():
        model.weight.fill_(7)
    with pytest.raises(UsageError, match=r"Refuses\.load_state_dict does not take what was saved"):
        portackpt.restore(tmp_path / "c", {"m": model, "s": schedule, "x": Refuses()})
    assert schedule.last_epoch == 1
    assert float(model.weight) == 7
