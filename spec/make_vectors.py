"""Makes the conformance vectors: small checkpoints, valid and invalid, each with what it means.

python spec/make_vectors.py            writes spec/vectors
python spec/make_vectors.py --check    exits with 1 where spec/vectors is anything else
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from making import invalid, invalid_tensors, invalid_trees, valid, valid_tensors
from making.draft import Document, Files, Vector

VECTORS = Path(__file__).parent / "vectors"


def main() -> int:
    made: Files = {}
    for kind, sources in (
        ("valid", (valid.vectors(), valid_tensors.vectors())),
        ("invalid", (invalid.vectors(), invalid_tensors.vectors(), invalid_trees.vectors())),
    ):
        for vectors in sources:
            for name, vector in vectors.items():
                made.update(_files(f"{kind}/{name}", vector))
    if "--check" in sys.argv[1:]:
        return _compare(made)
    shutil.rmtree(VECTORS, ignore_errors=True)
    for name, data in made.items():
        path = VECTORS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return 0


def _files(folder: str, vector: Vector) -> Files:
    files, expectation = vector
    return {
        f"{folder}/expectation.json": _text(expectation),
        **{f"{folder}/checkpoint/{name}": data for name, data in files.items()},
    }


def _text(document: Document) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()


def _compare(made: Files) -> int:
    there = {
        path.relative_to(VECTORS).as_posix(): path.read_bytes()
        for path in VECTORS.rglob("*")
        if path.is_file()
    }
    different = {n for n in made.keys() | there.keys() if made.get(n) != there.get(n)}
    for name in sorted(different):
        print(f"differs: {name}", file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
