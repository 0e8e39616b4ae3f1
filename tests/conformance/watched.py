"""Read all vectors under watch: `python watched.py VECTORS events|memory` prints a JSON document.

`escaped` are exceptions that are not ours, `events` what the interpreter's audit hook must not see,
`memory` vectors for which Python's allocator was asked for more than 4 MiB.
"""

from __future__ import annotations

import json
import os
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

from portackpt.errors import PortackptError
from portackpt.store.format import FORMAT
from portackpt.tensor import Tensor
from portackpt.tree import walk
from portackpt.validation import validate

FORBIDDEN = ("import", "exec", "compile", "marshal.", "pickle.", "ctypes.", "socket.", "os.system",
             "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "subprocess.", "os.remove",
             "os.rename", "os.mkdir", "os.rmdir", "shutil.")  # fmt: skip


def read(path: Path, ask: int | None) -> None:
    for act in (lambda: read_all(path, ask), lambda: validate(path)):
        with suppress(PortackptError):
            act()


def read_all(path: Path, ask: int | None) -> None:
    for _, leaf in walk(FORMAT.open(path, step=ask).tree):
        if isinstance(leaf, Tensor):
            leaf.read()


def main() -> None:
    vectors, mode = Path(sys.argv[1]), sys.argv[2]
    work = []
    for kind in ("valid", "invalid"):
        for folder in sorted((vectors / kind).iterdir()):
            expected = json.loads((folder / "expectation.json").read_text())
            work.append((folder / "checkpoint", expected.get("ask")))
    for path, ask in work:  # imports what reading needs, once
        if path.parent.parent.name == "valid":
            read(path, ask)
    found: dict[str, list[str]] = {"escaped": [], "events": [], "memory": []}
    here = str(vectors)
    current = ""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            # files below a checkpoint are opened by plain names, relative to its descriptor
            outside = isinstance(path, str) and path.startswith("/") and not path.startswith(here)
            if writes or outside or ".." in str(path):
                found["events"].append(f"{current}: open {path}")
        elif event.startswith(FORBIDDEN) and event != "socket.__new__":
            found["events"].append(f"{current}: {event} {str(arguments)[:80]}")

    if mode == "events":
        sys.addaudithook(watch)
    else:
        tracemalloc.start()
    for path, ask in work:
        current = path.parent.name
        tracemalloc.reset_peak() if mode == "memory" else None
        try:
            read(path, ask)
        except Exception as error:
            found["escaped"].append(f"{current}: {type(error).__name__}: {error}")
        if mode == "memory" and tracemalloc.get_traced_memory()[1] > 4 << 20:
            found["memory"].append(f"{current}: {tracemalloc.get_traced_memory()[1]}")
    current = "the end"
    os.write(1, json.dumps(found).encode())
    os._exit(0)


main()
