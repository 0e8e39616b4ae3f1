"""Random streams by their engine and whole state, and how they move.

The modules pack and unpack each engine's state as the libraries keep it, bit for bit: `twister`
(torch on the CPU, numpy's and Python's Mersenne Twister), `counters` (torch CUDA, tf.random, MPS),
`generators` (numpy's bit generators), `keys` (jax, Keras). `move` carries a stream to another
library or, where that has no such engine, starts one from a derived seed.
"""

from portackpt.randomness.derivation import derive
from portackpt.randomness.moving import DRAWS, ENGINES, Moved, dropped, move
from portackpt.randomness.recognition import from_plain, recognize, to_plain
from portackpt.randomness.stream import Engine, Library, RandomStream, State

__all__ = [
    "DRAWS",
    "ENGINES",
    "Engine",
    "Library",
    "Moved",
    "RandomStream",
    "State",
    "derive",
    "dropped",
    "from_plain",
    "move",
    "recognize",
    "to_plain",
]
