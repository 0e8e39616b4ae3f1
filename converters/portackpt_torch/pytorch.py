"""The format `pytorch`: what `torch.save` writes and `torch.load` reads, without torch.

    PREFIX/data.pkl      a pickle of the object, with persistent ids in place of storages
    PREFIX/data/0 …      the bytes of each storage
    PREFIX/version …     see `reading`; the zip archive around them is in `archive`

Source: torch/serialization.py and torch/_utils.py of torch 2.13. Archives of every version since
1.6 are read, the streams before (`legacy`) and bare pickles; archives are written as torch 2.13
does. The pickle is interpreted as data (`pickle_reader`), nothing in it is ever called.
"""

from __future__ import annotations

from pathlib import Path

from portackpt.bytesource import File, FileRange
from portackpt.checkpoint import Checkpoint
from portackpt.errors import DamagedError, UsageError
from portackpt.plugins import Probe, Progress
from portackpt.storage.local import Writer, staged_file
from portackpt_torch.recognition import recognize
from portackpt_torch.vocabulary import VOCABULARY


class PyTorch:
    """`torch.save` files."""

    name = "pytorch"
    framework = "pytorch"
    summary = "torch.save archives (.pt, .pth, .ckpt, .bin), legacy streams, bare pickles"
    suffixes = (".pt", ".pth")
    vocabulary = VOCABULARY
    holds_steps = False

    def recognize(self, probe: Probe) -> bool:
        return recognize(probe)

    def steps(self, path: Path) -> tuple[int, ...]:
        return ()

    def open(self, path: Path, *, step: int | None = None) -> Checkpoint:
        from portackpt_torch.reading import read

        if step is not None:
            raise UsageError(f"a torch.save file holds one checkpoint, there is no step {step}")
        if not path.is_file():
            raise DamagedError("not a file", str(path))
        file = File(path)
        return read(FileRange(file, 0, file.size), str(path))

    def write(
        self,
        checkpoint: Checkpoint,
        path: Path,
        *,
        overwrite: bool,
        step: int | None,
        progress: Progress,
    ) -> None:
        from portackpt_torch.writing import write_archive

        if step is not None:
            raise UsageError("a torch.save file holds one checkpoint and no step")
        details = checkpoint.details_for(self.name)
        with staged_file(path, overwrite=overwrite) as staged, Writer(staged) as file:
            write_archive(file, checkpoint.tree, details, progress)

    def resume(self, path: Path, step: int | None) -> str:
        return f"import torch\n\nstate = torch.load({str(path)!r}, weights_only=True)\n"


FORMAT = PyTorch()
