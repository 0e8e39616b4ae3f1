"""Every source leaf stands in the ledger once, every target leaf has its origin there."""

from collections import Counter
from pathlib import Path

import pytest
from crosscheck.test_real_files import PATHS, REAL

import portackpt
from portackpt import dialects
from portackpt.conversion import plan_conversion
from portackpt.errors import AmbiguousError, PortackptError
from portackpt.planning import Plan
from portackpt.tree import walk

TARGETS = {"pytorch": "pytorch", "jax": "orbax", "tensorflow": "tensorflow"}
SETTINGS = {"optimizer": "adamw", "lr": "0.001", "decay": "decoupled", "weight_decay": "0.01",
            "beta1": "0.9", "beta2": "0.999", "eps": "1e-8", "momentum": "0.9", "rho": "0.9",
            "eps1": "1e-30", "eps2": "0.001", "beta2_decay": "-0.8",
            "clip_threshold": "1"}  # fmt: skip


def check(plan: Plan, path: Path) -> None:
    source = portackpt.open(path)
    sources = Counter(entry.source for entry in plan.ledger.entries if entry.source is not None)
    leaves = [place for place, _ in walk(source.tree)]
    missing = set(leaves) - set(sources)
    assert not missing, sorted(missing)[:5]
    held = {place for place, _ in walk(plan.checkpoint.tree)}
    told = {entry.target for entry in plan.ledger.entries}
    assert not held - told, sorted(held - told)[:5]
    # containers whose kind changes have an entry of their own, leaves have one
    assert all(sources[leaf] == 1 for leaf in leaves), [p for p in leaves if sources[p] > 1][:5]


@pytest.mark.skipif(not REAL.exists(), reason="no real files beside the project")
def test_it_accounts_for_every_leaf_of_every_real_file(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    for path in PATHS:
        try:
            source = portackpt.open(path)
        except PortackptError:
            continue
        if source.framework is None or dialects.get(source.framework) is None:
            continue
        for framework, target in TARGETS.items():
            if framework == source.framework:
                continue
            goal = tmp_path / "goal"
            try:
                plan = plan_conversion(path, goal, to=target)
                outcomes["moved"] += 1
            except AmbiguousError as error:
                assert "--set" in str(error)
                outcomes["asked"] += 1
                try:
                    plan = plan_conversion(path, goal, to=target, settings=SETTINGS)
                except PortackptError as still:
                    outcomes[type(still).__name__] += 1
                    print(path.relative_to(REAL), target, still)
                    continue
            check(plan, path)
    print(dict(outcomes))
    assert outcomes["moved"] > 50
