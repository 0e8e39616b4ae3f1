"""What a user says with `--set`."""

import re

import pytest

from portackpt.cli.settings import read
from portackpt.errors import UsageError
from portackpt.optimizers import Decay, Epsilon
from portackpt.settings import hyperparameters


def test_it_reads_hyperparameters_as_values() -> None:
    given = read(["optimizer=adamw", "lr=1e-3", "nesterov=true", "decay=decoupled",
                  "eps_form=hat", "amsgrad=none", "ns_steps=5"])  # fmt: skip
    assert hyperparameters(given) == {
        "lr": 1e-3,
        "nesterov": True,
        "decay": Decay.DECOUPLED,
        "eps_form": Epsilon.HAT,
        "amsgrad": None,
        "ns_steps": 5,
    }


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("lr", "expected NAME=VALUE with a known name, found 'lr'"),
        ("rate=1", "expected NAME=VALUE with a known name, found 'rate=1'"),
        ("lr=fast", "lr has to be a number, found 'fast'"),
        ("nesterov=1", "nesterov has to be true or false, found '1'"),
        ("decay=half", "decay has to be one of none, l2, decoupled, found 'half'"),
    ],
)
def test_it_says_what_it_expected(pair: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        read([pair])
