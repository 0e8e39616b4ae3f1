"""Writing tensors that are laid out another way, against writing the same tensors as they are.

    python -m benchmarks.relayout [--gb 1] [--runs 5]

Linear and convolution weights in a file, warm in the page cache, become a safetensors file that is
synced: transposed by our transforms, and untransposed, in turn; best of the runs. The goal is at
most twice the time. Memory is the peak of the process, in MiB above what it had before.
"""

import argparse
import resource
import shutil
import tempfile
import time
from math import prod
from pathlib import Path

from portackpt import plugins
from portackpt.bytesource import File, FileRange
from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import named
from portackpt.layouts.transforms import Permute
from portackpt.tensor import Tensor, contiguous

SHAPES = ((4096, 4096), (50257, 1024), (1024, 50257), (768, 3072), (512, 512, 3, 3))
_FLOAT32 = named("float32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="portackpt-bench-"))
    try:
        print(f"{'shape':16}{'as it is':>10}{'turned':>10}{'ratio':>7}{'memory':>9}")
        for shape in SHAPES:
            count = max(1, round(options.gb * 1e9 / (4 * prod(shape))))
            _case(place, shape, count, options.runs)
    finally:
        shutil.rmtree(place)


def _case(place: Path, shape: tuple[int, ...], count: int, runs: int) -> None:
    source = place / "source.bin"
    _fill(source, 4 * prod(shape) * count)
    file = File(source)
    nbytes = 4 * prod(shape)
    plain = [contiguous(_FLOAT32, shape, FileRange(file, i * nbytes, nbytes)) for i in range(count)]
    order = Permute((1, 0) if len(shape) == 2 else (2, 3, 1, 0))
    turned = [order.apply(tensor) for tensor in plain]
    times: tuple[list[float], list[float]] = ([], [])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(runs):
        for tensors, found in zip((plain, turned), times, strict=True):
            found.append(_write(place / "target.safetensors", tensors))
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    best = [min(found) for found in times]
    print(f"{'×'.join(map(str, shape)):16}{best[0]:9.2f}s{best[1]:9.2f}s{best[1] / best[0]:7.2f}"
          f"{memory:6.0f} MiB")  # fmt: skip


def _write(path: Path, tensors: list[Tensor]) -> float:
    tree = {f"weight{index}": tensor for index, tensor in enumerate(tensors)}
    start = time.perf_counter()
    plugins.get("safetensors").write(
        Checkpoint(tree, "safetensors"),
        path,
        overwrite=True,
        step=None,
        progress=lambda count: None,
    )
    return time.perf_counter() - start


def _fill(path: Path, nbytes: int) -> None:
    """A file of that size, warm: each byte is read once."""
    block = bytes(range(256)) * 4096
    with path.open("wb") as file:
        for start in range(0, nbytes, len(block)):
            file.write(block[: nbytes - start])


if __name__ == "__main__":
    main()
