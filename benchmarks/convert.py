"""Conversion against the limit of this machine: copying the source file and syncing it.

    python -m benchmarks.convert [--gb 1.5 4] [--runs 3] [--json FILE]

The source is a GPT-2-like training state (parameters and two Adam moments, float32), warm in the
page cache; the target is synced; times are of whole processes, from start to end, limit and case in
turn, median of the runs. Memory is the peak above an interpreter that does nothing.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

_PORTACKPT = [sys.executable, "-m", "portackpt", "convert", "--json"]


@dataclass(frozen=True)
class Case:
    """`ratio` is to be at most `goal`; memory is in MiB above the interpreter."""

    name: str
    gigabytes: float
    seconds: float
    limit: float
    ratio: float
    goal: float
    memory: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gb", type=float, nargs="+", default=[1.5, 4.0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    cases = []
    for gigabytes in options.gb:
        place = Path(tempfile.mkdtemp(prefix="portackpt-bench-"))
        try:
            cases += _measure(place, gigabytes, options.runs, options.only)
        finally:
            shutil.rmtree(place)
    if options.json:
        options.json.write_text(json.dumps([asdict(case) for case in cases], indent=1) + "\n")


def _measure(place: Path, gigabytes: float, runs: int, only: str) -> list[Case]:
    saved = place / "state.pt"
    _run_python(_TRAIN, saved, gigabytes)
    neutral = place / "state.portackpt"
    subprocess.run([*_PORTACKPT, str(saved), str(neutral), "--to", "portackpt"],
                   check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    stock = place / "stock.orbax"
    plan = [
        ("pytorch → portackpt", saved, "portackpt", 1.3),
        ("pytorch → safetensors", saved, "safetensors", 1.4),
        ("pytorch → tensorflow", saved, "tensorflow", 1.4),
        ("pytorch → orbax", saved, "orbax", 2.2),
        ("portackpt → pytorch", neutral, "pytorch", 1.4),
        ("orbax (stock, zstd) → portackpt", stock, "portackpt", 4.0),
    ]
    idle = _child([sys.executable, "-c", "pass"])[1]
    print(f"{gigabytes:g} GB{'':30}{'time':>8}{'limit':>8}{'ratio':>7}{'goal':>6}{'memory':>9}")
    cases = []
    for name, source, target, goal in plan:
        if only not in name:
            continue
        if source is stock and not stock.exists():
            _run_python(_STOCK_ORBAX, saved, stock)
        times, limits, peaks = [], [], []
        for _ in range(runs):
            limits.append(_copy(saved, place / "copy.pt"))
            _warm(source)
            seconds, peak = _child(
                [*_PORTACKPT, str(source), str(place / "target"), "--to", target]
            )
            times.append(seconds)
            peaks.append(peak - idle)
            _remove(place, "target")
        seconds, limit = statistics.median(times), statistics.median(limits)
        case = Case(name, gigabytes, seconds, limit, seconds / limit, goal, max(peaks) / 1024)
        print(f"  {name:34}{seconds:7.2f}s{limit:7.2f}s{case.ratio:7.2f}{goal:6.1f}"
              f"{case.memory:6.0f} MiB", flush=True)  # fmt: skip
        cases.append(case)
    cases.append(_inspect(saved, gigabytes, runs, idle))
    return cases


def _inspect(saved: Path, gigabytes: float, runs: int, idle: int) -> Case:
    found = [
        _child([sys.executable, "-m", "portackpt", "inspect", str(saved)]) for _ in range(runs)
    ]
    seconds = statistics.median(seconds for seconds, _ in found)
    memory = (max(peak for _, peak in found) - idle) / 1024
    print(f"  {'inspect':34}{seconds:7.2f}s{'':8}{'':7}{0.25:5.2f}s{memory:6.0f} MiB", flush=True)
    return Case("inspect", gigabytes, seconds, 0.25, seconds / 0.25, 1.0, memory)


def _copy(source: Path, target: Path) -> float:
    """Seconds to copy the file and sync it: the limit."""
    _warm(source)
    started = time.perf_counter()
    subprocess.run(["cp", "--reflink=never", source, target], check=True)
    subprocess.run(["sync", target], check=True)
    seconds = time.perf_counter() - started
    target.unlink()
    os.sync()
    return seconds


def _child(command: list[str]) -> tuple[float, int]:
    """Seconds and peak KiB of a process, from start to end."""
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} exited with {child.returncode}")
    return seconds, usage.ru_maxrss


def _warm(source: Path) -> None:
    """The source into the page cache, and memory back from the host, so that touching is fast.

    In a process of its own: a child's peak memory counts from what its parent has.
    """
    _run_python(_WARM, source)


def _remove(place: Path, prefix: str) -> None:
    for path in place.glob(f"{prefix}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (place / "checkpoint").unlink(missing_ok=True)
    os.sync()


def _run_python(code: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


_WARM = """
import pathlib, sys
source = pathlib.Path(sys.argv[1])
for path in [source] if source.is_file() else source.rglob("*"):
    if path.is_file():
        with path.open("rb") as file:
            while file.read(16 << 20):
                pass
block = bytearray(512 << 20)
block[::4096] = bytes(len(block) // 4096)
"""

_TRAIN = """
import sys, torch
path, gigabytes = sys.argv[1], float(sys.argv[2])
width = 768 if gigabytes < 3 else 1024
torch.manual_seed(0)
def draw(*shape): return torch.randn(*shape) * 0.02
model = {"wte.weight": draw(50257, width), "wpe.weight": draw(1024, width)}
layer = 0
def size(): return sum(t.numel() * 12 for t in model.values())
while size() < gigabytes * 1e9:
    h = f"h.{layer}."
    for name, shape in {"ln_1.weight": (width,), "ln_1.bias": (width,),
            "attn.c_attn.weight": (width, 3 * width), "attn.c_attn.bias": (3 * width,),
            "attn.c_proj.weight": (width, width), "attn.c_proj.bias": (width,),
            "ln_2.weight": (width,), "ln_2.bias": (width,),
            "mlp.c_fc.weight": (width, 4 * width), "mlp.c_fc.bias": (4 * width,),
            "mlp.c_proj.weight": (4 * width, width), "mlp.c_proj.bias": (width,)}.items():
        model[h + name] = draw(*shape)
    layer += 1
state = {i: {"step": torch.tensor(1000.0), "exp_avg": t * 0.1, "exp_avg_sq": t * t}
         for i, t in enumerate(model.values())}
group = {"lr": 3e-4, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1,
         "params": list(range(len(model)))}
optimizer = {"state": state, "param_groups": [group]}
torch.save({"model": model, "optimizer": optimizer, "step": 1000}, path)
"""

_STOCK_ORBAX = """
import sys, pathlib, torch, numpy as np, orbax.checkpoint as ocp
state = torch.load(sys.argv[1], mmap=True, weights_only=True)
tree = {"model": {k: v.numpy() for k, v in state["model"].items()},
        "optimizer": {str(i): {k: v.numpy() for k, v in s.items()}
                      for i, s in state["optimizer"]["state"].items()}}
with ocp.StandardCheckpointer() as saver:
    saver.save(pathlib.Path(sys.argv[2]).absolute(), tree)
"""

if __name__ == "__main__":
    main()
