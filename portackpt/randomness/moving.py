"""Random streams from one library to another: carried in the same engine, else derived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from portackpt.ledger import Fate
from portackpt.randomness.counters import Philox
from portackpt.randomness.derivation import derive
from portackpt.randomness.keys import Key
from portackpt.randomness.stream import Engine, Library, RandomStream
from portackpt.randomness.twister import Twister

# the engines of each library, the usual one first
ENGINES: Mapping[Library, tuple[Engine, ...]] = {
    Library.TORCH_CPU: (Engine.MT19937,),
    Library.TORCH_CUDA: (Engine.PHILOX4X32,),
    Library.TORCH_MPS: (Engine.MPS,),
    Library.NUMPY: (Engine.PCG64, Engine.MT19937, Engine.PCG64DXSM, Engine.SFC64,
                    Engine.PHILOX4X64),
    Library.PYTHON: (Engine.MT19937,),
    Library.TENSORFLOW: (Engine.PHILOX4X32, Engine.TF_THREEFRY),
    Library.KERAS: (Engine.KERAS_SEED,),
    Library.JAX: (Engine.THREEFRY2X32, Engine.RBG, Engine.UNSAFE_RBG),
}  # fmt: skip
DRAWS = "shuffling, dropout and augmentation draw other numbers than an uninterrupted run would"


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a stream; `stream` is None where it was dropped."""

    stream: RandomStream | None
    fate: Fate
    detail: str = ""
    consequence: str = ""


def move(
    stream: RandomStream, library: Library, name: str | None = None, engine: Engine | None = None
) -> Moved:
    """`stream` for `library`, as its stream `name`.

    `engine` is the one the target uses, where its library has several and the target says which;
    else the stream's own if the library has it, else the library's usual one.
    """
    name = stream.name if name is None else name
    offered = ENGINES[library]
    wanted = engine or (stream.engine if stream.engine in offered else offered[0])
    if wanted is not stream.engine:
        return _derived(stream, library, name, wanted, f"{library} has no {stream.engine}")
    moved = replace(stream, name=name, library=library)
    if isinstance(stream.state, Key):
        return Moved(moved, Fate.EXACT, "", _flags(stream.state))
    if library is stream.library:
        return Moved(moved, Fate.EXACT)
    match stream.state:
        case Twister():
            return _twister(moved, stream.state, library, stream.library)
        case Philox():
            return _philox(stream, moved, stream.state, library, name)
    return Moved(moved, Fate.EXACT)


def _flags(key: Key) -> str:
    """The settings of jax under which the key gives the same numbers."""
    found = [f"jax_threefry_partitionable={key.partitionable}"] if (
        key.engine is Engine.THREEFRY2X32 and key.partitionable is not None
    ) else []  # fmt: skip
    if key.x64 is not None:
        found.append(f"jax_enable_x64={key.x64}")
    return f"the same numbers with {' and '.join(found)}" if found else ""


def _derived(
    stream: RandomStream, library: Library, name: str, engine: Engine, reason: str
) -> Moved:
    detail = f"{reason}: seeded anew from SHA-256 of the whole state (portackpt/rng-derive/v1)"
    moved = derive(stream, engine, name, library)
    if isinstance(moved.state, Key) and isinstance(stream.state, Key):
        old = stream.state
        flagged = replace(moved.state, partitionable=old.partitionable, x64=old.x64)
        moved = replace(moved, state=flagged)
    return Moved(moved, Fate.RESEEDED, detail, DRAWS)


def _twister(moved: RandomStream, state: Twister, library: Library, source: Library) -> Moved:
    """The words go on; a normal held back becomes the next one, where there is a place for it."""
    carried, lost = state, ""
    if library is not Library.TORCH_CPU:
        carried = replace(state, float_normal=None)
        if state.normal is None and state.float_normal is not None:
            carried = replace(carried, normal=state.float_normal)
        elif state.float_normal is not None:
            lost = "; the float32 normal deviate held back is lost"
    carried = replace(carried, torch_next=None, seed=state.seed)
    return Moved(
        replace(moved, state=carried),
        Fate.EXACT,
        f"the words of {source}'s Mersenne Twister go on in {library}{lost}",
        f"the same raw stream; {library} makes other uniforms, normals and permutations of it",
    )


def _philox(
    stream: RandomStream, moved: RandomStream, state: Philox, library: Library, name: str
) -> Moved:
    if library is Library.TENSORFLOW and state.taken:
        reason = "tf.random.Generator starts at whole blocks, this state is within one"
        return _derived(stream, library, name, Engine.PHILOX4X32, reason)
    if library is Library.TORCH_CUDA and state.counter >= 1 << 61:
        reason = "torch's CUDA generator has no place for the counter's upper half"
        return _derived(stream, library, name, Engine.PHILOX4X32, reason)
    return Moved(
        moved,
        Fate.EXACT,
        f"key and counter of {stream.library}'s Philox4x32-10 go on in {library}",
        "the same raw blocks; the libraries fill tensors with them in different orders",
    )


def dropped(stream: RandomStream, reason: str) -> Moved:
    """The target keeps no random state of this kind."""
    return Moved(None, Fate.DROPPED, reason, DRAWS)
