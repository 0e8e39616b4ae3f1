"""What survives: `python recover.py OUT FORMAT` prints `RECOVERED N`, the newest whole step.

Exits with 1 when something that claims to be there cannot be read, or holds mixed values.
"""

import sys
from pathlib import Path

import portackpt
from portackpt.errors import PortackptError


def main() -> None:
    out, format = Path(sys.argv[1]), sys.argv[2]
    place = out / "root" if (out / "root").exists() else out / "target"
    there = place.exists() or place.with_name("target.index").exists()
    if not there or (place.is_dir() and not any(place.iterdir())):
        print("RECOVERED 0")
        return
    try:
        tree = portackpt.open(place, format=format).tree
    except PortackptError as error:
        if "no complete" in str(error) or "not a committed" in str(error):
            print("RECOVERED 0")
            return
        raise
    step = int(tree["step"].read())
    assert (tree["w"].read() == step).all(), "values of two saves in one checkpoint"
    print(f"RECOVERED {step}")


main()
