"""Which class of torch goes on as an optimizer did, with which options, and its slots' names.

A stock class where one has the same rule; else a stock class with hooks, or a class of `bridges`,
and the code for the target's program holds them.

Source: torch/optim/*.py (2.13).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from portackpt.errors import UsageError
from portackpt.moved import Moved, MovedOptimizer
from portackpt.optimizers import Decay, Epsilon, Group, Slot
from portackpt_torch.dialect import bridges

EXACT = 1e-12
"""What values that are recomputed in float64 may differ by, relatively."""
Change = Callable[[Moved, Group], Moved]
Options = dict[str, Any]
Builder: TypeAlias = "Callable[[MovedOptimizer, bool], Target]"


@dataclass(frozen=True, slots=True)
class Target:
    """How torch runs one optimizer.

    `kind` is a class of torch.optim, or one that `rules` define; `groups` have all options in
    torch's order. `slots` maps canonical names to torch's and what is done to the values, where
    something is. `condition` says what the rules and hooks are for: with them the run goes on
    exactly. Of the slots torch needs all of one of `required`; the constructor takes the options
    in `accepted`.
    """

    kind: str
    groups: tuple[Options, ...]
    slots: Mapping[str, tuple[str, Change | None]]
    required: tuple[frozenset[str], ...] = (frozenset(),)
    accepted: frozenset[str] = frozenset()
    rules: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    condition: str = ""
    counted: bool = True


MOMENTS: Mapping[str, tuple[str, Change | None]] = {
    Slot.FIRST_MOMENT: ("exp_avg", None),
    Slot.SECOND_MOMENT: ("exp_avg_sq", None),
}
BOTH = (frozenset(("exp_avg", "exp_avg_sq")),)
HAND = {"foreach": None, "capturable": False, "differentiable": False}


@dataclass(slots=True)
class Draft:
    """A target in the making: one group's options after another."""

    optimizer: MovedOptimizer
    kind: str
    slots: dict[str, tuple[str, Change | None]]
    stock: Options
    required: tuple[frozenset[str], ...] = (frozenset(),)
    counted: bool = True
    accepted: set[str] = field(default_factory=set)
    groups: list[Options] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def add(self, group: Group, **options: Any) -> Options:
        """One more group, with torch's own options as they were found or as torch has them."""
        known = {name: group.native.get(name, value) for name, value in self.stock.items()}
        plain = {"maximize": bool(group.hyperparameters.get("maximize"))}
        rate = {"lr": group.hyperparameters.get("lr")}
        self.groups.append({**rate, **options, **plain, **known})
        self.accepted |= self.groups[-1].keys()
        return self.groups[-1]

    def rule(self, kind: str, text: str, reason: str, **options: Any) -> None:
        """Another class, derived from the stock one, with more options in every group."""
        self.kind = kind
        self.rules = [bridges.BASE, text]
        self.reasons.append(reason)
        for group in self.groups:
            group.update({name: value for name, value in options.items() if name not in group})

    def hook(self, name: str, option: str, values: list[Any], reason: str) -> None:
        """A hook before each step; `values` are its option in each group."""
        self.hooks.append(name)
        self.reasons.append(reason)
        for options, value in zip(self.groups, values, strict=True):
            options[option] = value

    def decay(self, own: Decay) -> None:
        """Weight decay by the option that the class has, which means `own`, or by a hook."""
        found = [decay_of(group) for group in self.optimizer.groups]
        for options, (kind, rate) in zip(self.groups, found, strict=True):
            options["weight_decay"] = rate if kind is own or not rate else 0
        other = Decay.L2 if own is Decay.DECOUPLED else Decay.DECOUPLED
        rates = [rate if kind is other else 0 for kind, rate in found]
        if not any(rates):
            return
        if other is Decay.DECOUPLED:
            self.hook("decoupled_decay", "decoupled_decay", rates,
                      f"torch.optim.{self.kind} adds weight decay to the gradient")  # fmt: skip
        else:
            self.hook("l2_decay", "l2_decay", rates, f"{self.kind} decouples weight decay")

    def done(self) -> Target:
        return Target(
            self.kind, tuple(self.groups), self.slots, self.required,
            frozenset(self.accepted), tuple(self.rules), tuple(self.hooks),
            "; ".join(self.reasons), self.counted,
        )  # fmt: skip


def decay_of(group: Group) -> tuple[Decay, float]:
    rate = group.hyperparameters.get("weight_decay", 0)
    rate = 0 if rate is None else rate
    return (group.hyperparameters["decay"] if rate else Decay.NONE), rate


def has(optimizer: MovedOptimizer, slot: Slot) -> bool:
    return any(slot in own for own in optimizer.slots.values())


def forms(optimizer: MovedOptimizer) -> set[Epsilon]:
    """Where epsilon stands in the groups, where it is not 0."""
    if any(group.hyperparameters.get("eps") for group in optimizer.groups):
        optimizer.need("eps_form")
    return {
        Epsilon(group.hyperparameters["eps_form"])
        for group in optimizer.groups
        if group.hyperparameters.get("eps")
    }


def foreign(optimizer: MovedOptimizer, what: str) -> UsageError:
    return UsageError(
        f"{optimizer.algorithm} with {what} has no counterpart in torch; carry its state as it "
        "stands with --set optimizer=native"
    )
