"""The arrows between modules point one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRAMEWORKS = {"torch", "jax", "jaxlib", "flax", "optax", "orbax", "tensorflow", "keras"}
# from the bottom to the top: a module imports only from lines above its own
LAYERS = (
    "errors collector wording discovery",
    "box dtypes bytesource strides",
    "tensor ziparchive",
    "tree layouts",
    "matching packs",
    "checkpoint ledger ties renaming vocabulary streaming storage",
    "schedules randomness page",
    "standins deferred elementwise",
    "spelling plugins optimizers",
    "run",
    "moved settings",
    "dialects description",
    "templates roles",
    "models",
    "carrying accounting streams",
    "translation",
    "planning store",
    "conversion live rng",
    "saving",
    "inspection comparison validation",
    "manager",
    "cli __main__",
)
LEVEL = {name: level for level, line in enumerate(LAYERS) for name in line.split()}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path, top_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("path", modules("portackpt"), ids=lambda p: str(p.relative_to(ROOT)))
def test_it_imports_downward_only(path: Path) -> None:
    parts = path.relative_to(ROOT / "portackpt").with_suffix("").parts
    if parts[0] == "__init__":
        return
    own = LEVEL[parts[0]]
    for name in imported(path):
        target = name.split(".")
        if target[0] == "portackpt" and len(target) > 1 and target[1] in LEVEL:
            assert target[1] == parts[0] or LEVEL[target[1]] < own or LEVEL[target[1]] == own, name
            assert LEVEL[target[1]] <= own, f"{path.name} imports {name} from above"


@pytest.mark.parametrize(
    "path", modules("portackpt") + modules("converters"), ids=lambda p: str(p.relative_to(ROOT))
)
def test_it_imports_no_framework(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imported(path)}
    assert not tops & FRAMEWORKS
    if path.is_relative_to(ROOT / "portackpt"):
        assert not any(top.startswith("portackpt_") for top in tops)
