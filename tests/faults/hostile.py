"""Open untrusted files under watch: `python hostile.py WARM_FOLDER < paths > results`.

A result is one JSON line a path: the outcome, the seconds, and every forbidden event that the
interpreter's audit hook saw: an import, code being compiled or run, a file opened for writing
outside a temporary folder, a process, a socket.
"""

import importlib
import json
import os
import pkgutil
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

OURS = ("portackpt", "numpy", "ml_dtypes", "msgspec", "msgpack", "isal", "google_crc32c", "xxhash",
        "zstandard", "tensorstore", "safetensors")  # fmt: skip
FORBIDDEN = ("exec", "compile", "marshal.", "pickle.find_class", "ctypes.dlopen", "socket.",
             "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "pty.")  # fmt: skip
LIMIT_S = 10
# asked for here, since asking opens a file, which would ask again
TEMPORARY = tempfile.gettempdir()
seen: list[str] = []
armed = False


def watch(event: str, arguments: tuple[object, ...]) -> None:
    if not armed:
        return
    if event == "import":
        if not str(arguments[0]).startswith(OURS):
            seen.append(f"import {arguments[0]}")
    elif event == "open":
        path, mode, flags = arguments
        writing = any(c in str(mode or "") for c in "wax+") or int(str(flags or 0)) & (
            os.O_WRONLY | os.O_RDWR | os.O_CREAT
        )
        pipe = isinstance(path, int)
        if writing and not pipe and not str(path).startswith(TEMPORARY):
            seen.append(f"open {path} for writing")
    elif event == "subprocess.Popen":
        if "portackpt_keras" not in str(arguments[1]):
            seen.append(f"process {arguments[1]}")
    elif event == "shutil.rmtree":
        if not str(arguments[0]).startswith(TEMPORARY):
            seen.append(f"{event} {arguments[0]}")
    elif event.startswith(FORBIDDEN) and event != "socket.__new__":
        seen.append(f"{event} {str(arguments)[:100]}")


def read_all(path: str) -> str:
    import portackpt
    from portackpt.tree import tensors, walk

    checkpoint = portackpt.open(path)
    for _ in walk(checkpoint.tree):
        pass
    count = 0
    for _, tensor in tensors(checkpoint.tree):
        for piece in tensor.pieces():
            count += piece.nbytes
        if count > 1 << 30:
            break
    return f"data {checkpoint.format} {count}"


def outcome(path: str) -> str:
    from portackpt.errors import PortackptError

    signal.alarm(LIMIT_S)
    try:
        return read_all(path)
    except PortackptError as error:
        return f"error {type(error).__name__}: {str(error)[:300]}"
    except BaseException as error:
        return f"ESCAPED {type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.alarm(0)


def warm() -> None:
    """Import all of ours, so that no module of it is compiled while watched."""
    for package in [m.name for m in pkgutil.iter_modules() if m.name.startswith("portackpt")]:
        for module in pkgutil.walk_packages(
            importlib.import_module(package).__path__, f"{package}."
        ):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def main() -> None:
    global armed
    warm()
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("10 s")))
    for path in sorted(Path(sys.argv[1]).rglob("*")):
        if path.is_file():
            outcome(str(path))
    for codec in ("raw_unicode_escape", "unicode_escape", "latin1", "utf-16"):
        "".encode(codec)  # the codecs of the interpreter itself, which the opcodes name
    sys.addaudithook(watch)
    armed = True
    for line in sys.stdin:
        path = line.rstrip("\n")
        started = time.monotonic()
        result = outcome(path)
        document = {
            "path": path,
            "outcome": result,
            "seconds": time.monotonic() - started,
            "events": list(seen),
        }
        seen.clear()
        print(json.dumps(document), flush=True)


main()
