"""Random streams: packed and unpacked bit for bit, carried, or derived."""

from __future__ import annotations

import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portackpt.errors import DamagedError, UsageError
from portackpt.ledger import Fate
from portackpt.randomness import (
    ENGINES,
    Engine,
    Library,
    RandomStream,
    derive,
    dropped,
    from_plain,
    move,
    recognize,
    to_plain,
)
from portackpt.randomness.counters import (
    Mps,
    Philox,
    TensorflowThreefry,
    from_tensorflow,
    from_tensorflow_threefry,
    from_torch_cuda,
    from_torch_mps,
    seeded_mps,
    to_tensorflow,
    to_tensorflow_threefry,
    to_torch_cuda,
    to_torch_mps,
)
from portackpt.randomness.derivation import seed
from portackpt.randomness.generators import BitGenerator
from portackpt.randomness.generators import from_numpy as from_generator
from portackpt.randomness.generators import to_numpy as to_generator
from portackpt.randomness.keys import (
    Key,
    Seed,
    from_jax,
    from_keras,
    implementation,
    to_jax,
    to_keras,
)
from portackpt.randomness.twister import (
    Twister,
    from_numpy,
    from_python,
    from_torch,
    to_numpy,
    to_numpy_dict,
    to_python,
    to_torch,
)
from portackpt.tensor import from_array
from portackpt.tree import Object

DRAWS = [0, 1, 17, 623, 624, 625, 5000]
REAL = Path(__file__).parents[2] / "../shared/data/real"


# the Mersenne Twister of three libraries ---------------------------------------------------------


class Torch:
    """torch's generator on the CPU, word by word."""

    def __init__(self, state: Twister | None = None, start: int = 1) -> None:
        self.torch = pytest.importorskip("torch")
        self.generator = self.torch.Generator().manual_seed(start)
        if state is not None:
            data = self.torch.tensor(list(to_torch(state)), dtype=self.torch.uint8)
            self.generator.set_state(data)

    def draw(self, count: int) -> list[int]:
        # a 32-bit word an element, modulo 2**31
        empty = self.torch.empty(count, dtype=self.torch.int32)
        return list(empty.random_(generator=self.generator).tolist())

    def state(self) -> Twister:
        return from_torch(self.generator.get_state().numpy().tobytes())


class Numpy:
    def __init__(self, state: Twister | None = None, start: int = 1) -> None:
        self.generator = np.random.RandomState(start)
        if state is not None:
            packed: Any = to_numpy(state)
            self.generator.set_state(packed)

    def draw(self, count: int) -> list[int]:
        words = self.generator.randint(0, 1 << 32, count, dtype=np.uint32)
        return [int(word) % (1 << 31) for word in words]

    def state(self) -> Twister:
        return from_numpy(self.generator.get_state())


class Python:
    def __init__(self, state: Twister | None = None, start: int = 1) -> None:
        self.generator = random.Random(start)
        if state is not None:
            self.generator.setstate(to_python(state))

    def draw(self, count: int) -> list[int]:
        return [self.generator.getrandbits(32) % (1 << 31) for _ in range(count)]

    def state(self) -> Twister:
        return from_python(self.generator.getstate())


THREE = [Torch, Numpy, Python]
HOMES = {Torch: Library.TORCH_CPU, Numpy: Library.NUMPY, Python: Library.PYTHON}


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("source", THREE)
@pytest.mark.parametrize("target", THREE)
def test_it_carries_the_raw_stream(source: Any, target: Any, draws: int) -> None:
    one = source(start=7)
    one.draw(draws)
    stream = RandomStream("shuffle", HOMES[source], one.state())
    moved = move(stream, HOMES[target])
    assert moved.fate is Fate.EXACT
    assert moved.stream is not None
    state: Any = moved.stream.state
    other = target(state)
    assert other.draw(1300) == one.draw(1300)


@pytest.mark.parametrize("draws", DRAWS)
def test_it_gives_back_the_state_of_torch_bit_for_bit(draws: int) -> None:
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed((1 << 40) + 5)
    if draws:
        torch.empty(draws, dtype=torch.int32).random_(generator=generator)
    for kind in (torch.float64, torch.float32):
        torch.randn(1, dtype=kind, generator=generator)
        data = generator.get_state().numpy().tobytes()
        state = from_torch(data)
        assert to_torch(state) == data
        assert state.seed == (1 << 40) + 5
        stream = RandomStream("cpu", Library.TORCH_CPU, state)
        assert from_plain(json.loads(json.dumps(to_plain(stream)))) == stream


def test_it_keeps_the_place_after_seeding() -> None:
    torch = pytest.importorskip("torch")
    data = torch.Generator().manual_seed(3).get_state().numpy().tobytes()
    state = from_torch(data)
    assert (state.position, state.torch_next) == (624, 0)
    assert to_torch(state) == data
    assert state.words == Numpy(start=3).state().words


@pytest.mark.parametrize("draws", DRAWS)
def test_it_gives_back_the_states_of_numpy_and_python(draws: int) -> None:
    one, two = Numpy(), Python()
    one.draw(draws)
    two.draw(draws)
    one.generator.standard_normal()
    two.generator.gauss(0, 1)
    legacy: Any = one.generator.get_state()
    name, words, *rest = legacy
    assert to_numpy(one.state()) == (name, tuple(words.tolist()), *rest)
    assert to_python(two.state()) == two.generator.getstate()
    # numpy's dict and a pickled tuple of it say the same
    as_dict = one.generator.get_state(legacy=False)
    assert from_numpy(as_dict) == one.state()
    tree = ("MT19937", from_array(words), *rest)
    assert from_numpy(tree) == one.state()


def test_it_moves_into_a_generator_of_numpy() -> None:
    source = np.random.RandomState(5)
    source.bytes(100)
    generator = np.random.MT19937()
    state: Any = to_numpy_dict(from_numpy(source.get_state()))
    generator.state = state
    assert from_numpy(generator.state).words == from_numpy(source.get_state()).words
    drawn = np.random.Generator(generator).integers(0, 1 << 32, 700, dtype=np.uint32)
    assert drawn.tolist() == source.randint(0, 1 << 32, 700, dtype=np.uint32).tolist()


def test_a_normal_held_back_is_the_next_one() -> None:
    """A deviate made in a pair and not yet given out goes with the stream."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(11)
    torch.randn(1, dtype=torch.float64, generator=generator)
    state = from_torch(generator.get_state().numpy().tobytes())
    held = torch.randn(1, dtype=torch.float64, generator=generator).item()
    for library, target in ((Library.NUMPY, Numpy), (Library.PYTHON, Python)):
        moved = move(RandomStream("cpu", Library.TORCH_CPU, state), library)
        assert moved.stream is not None
        carried: Any = moved.stream.state
        one: Any = target(carried)
        twister: Any = one.generator
        drawn = twister.standard_normal() if library is Library.NUMPY else twister.gauss(0, 1)
        assert drawn == held
    back = np.random.RandomState(5)
    back.standard_normal()
    again = Torch(from_numpy(back.get_state()))
    drawn = torch.randn(1, dtype=torch.float64, generator=again.generator).item()
    assert drawn == back.standard_normal()


def test_it_says_which_normal_is_lost() -> None:
    state = Twister((1,) * 624, 3, 0.5, 0.25)
    moved = move(RandomStream("cpu", Library.TORCH_CPU, state), Library.PYTHON)
    assert moved.detail == (
        "the words of torch-cpu's Mersenne Twister go on in python; the float32 normal deviate "
        "held back is lost"
    )
    assert moved.consequence == (
        "the same raw stream; python makes other uniforms, normals and permutations of it"
    )
    alone = Twister((1,) * 624, 3, None, 0.25)
    moved = move(RandomStream("cpu", Library.TORCH_CPU, alone), Library.PYTHON)
    assert moved.stream is not None
    assert moved.stream.state == Twister((1,) * 624, 3, 0.25)


def test_it_reads_the_state_of_old_torch() -> None:
    """5048 bytes, whose normal is kept as a radius and an angle (aten, until 1.2)."""
    state = Twister(tuple(range(1, 625)), 17, 0.125, None, 9)
    old = bytearray(to_torch(state)[:5048])
    struct.pack_into("<dddi", old, 5016, 0.2, 0.9, 1.5, 1)
    found = from_torch(bytes(old))
    assert found.normal == 1.5 * math.sin(2 * math.pi * 0.2)
    assert (found.words, found.position, found.seed) == (state.words, 17, 9)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "torch's generator has a state of 5056 bytes (5048 before 1.2), found 0"),
        (bytes(5056), "torch's generator was never seeded, or its place is lost: seeded 0, "
         "0 words left, the next 0"),
        (struct.pack("<QiiQ", 1, 600, 1, 26) + bytes(5032), "torch's generator was never seeded, "
         "or its place is lost: seeded 1, 600 words left, the next 26"),
        (struct.pack("<QiiQQ", 1, 600, 1, 25, 1 << 32) + bytes(5024), "expected an unsigned "
         "integer of 32 bits, found 4294967296, at key"),
    ],
)  # fmt: skip
def test_it_says_what_is_wrong_with_a_state_of_torch(data: bytes, message: str) -> None:
    with pytest.raises(DamagedError) as caught:
        from_torch(data)
    assert str(caught.value) in (message, message.replace("key", "words"))


@pytest.mark.parametrize(
    ("read", "node", "message"),
    [
        (from_numpy, ("PCG64", 1, 2), "expected ('MT19937', words, position, has_gauss, gauss)"),
        (from_numpy, ("MT19937", [1], 2), "expected 624 integers, found 1, at key"),
        (from_numpy, ("MT19937", [1.5] * 624, 2), "expected an unsigned integer of 32 bits, found "
         "float, at key"),
        (from_numpy, {"bit_generator": "PCG64"}, "expected an MT19937, found 'PCG64'"),
        (from_numpy, 3, "expected a dict, found something else, at state"),
        (from_python, (2, (), None), "expected (3, words and position, gauss_next)"),
        (from_python, (3, (1,) * 625, "x"), "expected a finite number, found 'x', at gauss_next"),
        (from_python, (3, (1,) * 624 + (625,), None), "a Mersenne Twister has 624 words and a "
         "position up to 624, found 624 and 625"),
        (from_generator, {"bit_generator": "wibble"}, "expected one of numpy's bit generators, "
         "found 'wibble'"),
        (from_generator, {"bit_generator": "SFC64", "state": {"state": [1]}},
         "expected 4 integers, found 1, at state"),
        (from_torch_cuda, b"12", "torch's CUDA generator has a state of 16 bytes (816 until 1.8), "
         "found 2"),
        (from_torch_cuda, struct.pack("<Qq", 1, -4), "expected an offset of 0 or more, found -4, "
         "at offset"),
        (from_torch_mps, b"1", "torch's MPS generator has 36 or 44 bytes, found 1"),
        (from_tensorflow, [1, 2], "expected 3 int64, found something else"),
        (from_tensorflow, [1, 2, 1 << 64], "expected an int64, found 18446744073709551616"),
        (from_keras, [1], "a SeedGenerator's state is [seed, counter], found [1]"),
        (from_jax, [1, 2, 3], "threefry2x32 keys end in an axis of 2, found (3,)"),
        (implementation, "wibble", "unknown implementation of jax keys 'wibble': known are "
         "threefry2x32, fry, rbg, unsafe_rbg, urbg"),
    ],
)  # fmt: skip
def test_it_says_what_is_wrong(read: Any, node: Any, message: str) -> None:
    with pytest.raises(DamagedError) as caught:
        read(node)
    assert str(caught.value) == message


# counters ----------------------------------------------------------------------------------------


def philox(key: int, counter: int) -> list[int]:
    """Philox4x32-10, from the paper (Salmon et al., 2011)."""
    mask = 0xFFFFFFFF
    c = [counter >> shift & mask for shift in (0, 32, 64, 96)]
    k = [key & mask, key >> 32 & mask]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 ^ c[1] ^ k[0], b & mask, a >> 32 ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c


def test_the_state_of_tensorflow_is_the_cipher_s() -> None:
    tensorflow = pytest.importorskip("tensorflow")
    start = [5, 3, -(1 << 62) + 7]
    generator = tensorflow.random.Generator.from_state(start, alg="philox")
    state = from_tensorflow(generator.state.numpy())
    assert to_tensorflow(state) == tuple(start)
    drawn = generator.uniform_full_int([8], dtype=tensorflow.uint32).numpy().tolist()
    assert drawn == philox(state.key, state.counter) + philox(state.key, state.counter + 1)
    after = from_tensorflow(generator.state.numpy())
    assert after.key == state.key
    assert after.counter > state.counter


def test_the_state_of_cuda_goes_to_tensorflow_and_back() -> None:
    data = struct.pack("<Qq", (1 << 63) + 9, 4 * 1000)
    stream = RandomStream("cuda", Library.TORCH_CUDA, from_torch_cuda(data))
    assert stream.state == Philox((1 << 63) + 9, 1000)
    moved = move(stream, Library.TENSORFLOW, "generator")
    assert moved.fate is Fate.EXACT
    assert moved.stream is not None
    assert moved.stream.name == "generator"
    assert isinstance(moved.stream.state, Philox)
    assert to_tensorflow(moved.stream.state) == (1000, 0, (1 << 63) + 9 - (1 << 64))
    back = move(moved.stream, Library.TORCH_CUDA)
    assert back.stream is not None
    assert isinstance(back.stream.state, Philox)
    assert to_torch_cuda(back.stream.state) == data
    assert from_torch_cuda(b"\xff" * 800 + data) == stream.state  # until 1.8


def test_it_derives_where_the_counter_does_not_fit() -> None:
    inside = RandomStream("cuda", Library.TORCH_CUDA, Philox(1, 2, 3))
    moved = move(inside, Library.TENSORFLOW)
    assert moved.fate is Fate.RESEEDED
    assert "starts at whole blocks" in moved.detail
    high = RandomStream("tf", Library.TENSORFLOW, from_tensorflow([1, 2, 3]))
    moved = move(high, Library.TORCH_CUDA)
    assert moved.fate is Fate.RESEEDED
    assert "no place for the counter's upper half" in moved.detail
    for pack in (lambda: to_torch_cuda(Philox(1, 1 << 64)), lambda: to_tensorflow(Philox(1, 1, 2))):
        with pytest.raises(UsageError):
            pack()


def test_threefry_of_tensorflow_stays_there() -> None:
    tensorflow = pytest.importorskip("tensorflow")
    generator = tensorflow.random.Generator.from_state([7, -3], alg="threefry")
    state = from_tensorflow_threefry(generator.state.numpy())
    assert state == TensorflowThreefry(7, (1 << 64) - 3)
    assert to_tensorflow_threefry(state) == (7, -3)
    stream = RandomStream("tf", Library.TENSORFLOW, state)
    assert move(stream, Library.TENSORFLOW).fate is Fate.EXACT
    assert move(stream, Library.JAX).fate is Fate.RESEEDED


@pytest.mark.parametrize("size", [36, 44])
def test_it_gives_back_the_state_of_mps(size: int) -> None:
    data = bytes(range(size))
    assert to_torch_mps(from_torch_mps(data)) == data
    fresh = seeded_mps((5 << 32) + 6)
    assert fresh == Mps((1, 1, 1, 1, 1, 6, 5), (5 << 32) + 6, 0)


# numpy's bit generators --------------------------------------------------------------------------

KINDS = ["PCG64", "PCG64DXSM", "SFC64", "Philox"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("draws", [0, 1, 5])
def test_it_gives_back_numpy_s_generators(kind: str, draws: int) -> None:
    generator = np.random.Generator(getattr(np.random, kind)(9))
    generator.integers(0, 1 << 32, draws, dtype=np.uint32)  # odd: half a word is held back
    state = from_generator(generator.bit_generator.state)
    other = np.random.Generator(getattr(np.random, kind)(1))
    other.bit_generator.state = to_generator(state)
    assert repr(other.bit_generator.state) == repr(generator.bit_generator.state)
    stream = RandomStream("augment", Library.NUMPY, state)
    again = from_plain(json.loads(json.dumps(to_plain(stream))))
    assert again == stream
    assert other.random(5).tolist() == generator.random(5).tolist()
    assert isinstance(again.state, BitGenerator)
    other.bit_generator.state = to_generator(again.state, listed=True)
    assert from_generator(other.bit_generator.state) == state


# keys --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["threefry2x32", "rbg", "unsafe_rbg"])
@pytest.mark.parametrize("split", [None, 3])
def test_it_gives_back_the_keys_of_jax(name: str, split: int | None) -> None:
    jax = pytest.importorskip("jax")
    key = jax.random.key(7, impl=name)
    if split:
        key = jax.random.split(key, split)
    state = from_jax(np.asarray(jax.random.key_data(key)), str(jax.random.key_impl(key)), True)
    assert state.engine == name
    assert implementation(str(key.dtype)) is state.engine
    back = jax.random.wrap_key_data(to_jax(state), impl=str(state.engine))
    assert (jax.random.key_data(back) == jax.random.key_data(key)).all()
    stream = RandomStream("dropout", Library.JAX, state)
    assert from_plain(json.loads(json.dumps(to_plain(stream)))) == stream


def test_it_says_under_which_settings_a_key_is_the_same() -> None:
    key = Key(Engine.THREEFRY2X32, (1, 2), (), True, False)
    moved = move(RandomStream("dropout", Library.JAX, key), Library.JAX)
    assert moved.fate is Fate.EXACT
    assert moved.consequence == (
        "the same numbers with jax_threefry_partitionable=True and jax_enable_x64=False"
    )
    bare = move(RandomStream("dropout", Library.JAX, Key(Engine.RBG, (1, 2, 3, 4))), Library.JAX)
    assert bare.consequence == ""
    other = move(RandomStream("dropout", Library.JAX, key), Library.JAX, engine=Engine.RBG)
    assert other.fate is Fate.RESEEDED
    assert other.stream is not None
    assert isinstance(other.stream.state, Key)
    assert other.stream.state.partitionable is True


def test_it_gives_back_a_seed_generator_of_keras() -> None:
    keras = pytest.importorskip("keras")
    generator = keras.random.SeedGenerator(1337)
    generator.next()
    state = from_keras(generator.state.numpy())
    assert state == Seed(1337, 1, str(generator.state.numpy().dtype))
    other = keras.random.SeedGenerator(1)
    other.state.assign(to_keras(state))
    assert keras.random.uniform((3,), seed=other).numpy().tolist() == (
        keras.random.uniform((3,), seed=generator).numpy().tolist()
    )


# derivation --------------------------------------------------------------------------------------


def test_the_derivation_is_the_documented_one() -> None:
    """A vector: it may never change."""
    stream = RandomStream("dropout", Library.JAX, Key(Engine.THREEFRY2X32, (1, 2)))
    assert stream.state.essence().hex() == "0100000002000000ffffffffffffffffffff"
    assert seed(stream, Engine.MT19937, "cpu").hex() == DERIVED
    moved = derive(stream, Engine.MT19937, "cpu", Library.TORCH_CPU)
    assert isinstance(moved.state, Twister)
    assert moved.state.words[:2] == FIRST
    assert moved.state.position == 624


DERIVED = "2ed691862e62dcb3cb501d7ba7c0cd4bd50768db7dc550c17c34cead8080e890"
FIRST = (3151736927, 1529285888)

engines = st.sampled_from(list(Engine))
states = st.one_of(
    st.builds(
        Twister,
        st.lists(st.integers(0, (1 << 32) - 1), min_size=624, max_size=624).map(tuple),
        st.integers(0, 624),
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
        st.none() | st.integers(0, (1 << 64) - 1),
    ),
    st.builds(
        Philox,
        st.integers(0, (1 << 64) - 1),
        st.integers(0, (1 << 128) - 1),
        st.integers(0, 3),
    ),
    st.builds(
        Key,
        st.just(Engine.THREEFRY2X32),
        st.tuples(*[st.integers(0, (1 << 32) - 1)] * 2),
        st.just(()),
        st.none() | st.booleans(),
        st.none() | st.booleans(),
        st.none() | st.integers(0, (1 << 32) - 1),
    ),
    st.builds(Seed, st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 1 << 40)),
)


@given(states, engines, st.text(max_size=8))
@settings(max_examples=60, deadline=None)
def test_every_stream_can_be_derived_and_written(state: Any, engine: Engine, name: str) -> None:
    stream = RandomStream("a", Library.JAX, state)
    assert from_plain(json.loads(json.dumps(to_plain(stream)))) == stream
    derived = derive(stream, engine, name)
    assert derived.engine is engine
    assert derive(stream, engine, name) == derived  # deterministic
    assert from_plain(json.loads(json.dumps(to_plain(derived)))) == derived
    other = derive(stream, engine, f"{name}'")
    assert other.state != derived.state


def test_one_draw_more_derives_another_stream() -> None:
    one = Numpy()
    first = derive(RandomStream("a", Library.NUMPY, one.state()), Engine.THREEFRY2X32, "a")
    one.draw(1)
    second = derive(RandomStream("a", Library.NUMPY, one.state()), Engine.THREEFRY2X32, "a")
    assert first != second


@pytest.mark.parametrize("library", list(Library))
def test_a_derived_stream_runs_in_its_library(library: Library) -> None:
    source = RandomStream("a", Library.JAX, Key(Engine.THREEFRY2X32, (1, 2)))
    for engine in ENGINES[library]:
        moved = move(source, library, "b", engine)
        if library is Library.JAX and engine is source.engine:
            assert moved.fate is Fate.EXACT
            continue
        assert moved.fate is Fate.RESEEDED
        assert moved.stream is not None
        assert (moved.stream.name, moved.stream.library) == ("b", library)
        assert moved.stream.engine is engine
        drawn = run(moved.stream)
        assert drawn is None or len({*drawn}) == len(drawn)


def run(stream: RandomStream) -> list[float] | None:
    """Some numbers of the stream, by the library itself; None where it cannot run here."""
    state: Any = stream.state
    match stream.library:
        case Library.TORCH_CPU:
            return list(Torch(state).draw(5))
        case Library.PYTHON:
            return list(Python(state).draw(5))
        case Library.NUMPY if stream.engine is Engine.MT19937:
            return list(Numpy(state).draw(5))
        case Library.NUMPY:
            names = {"philox4x64": "Philox"}
            kind = names.get(stream.engine, stream.engine.upper())
            generator = np.random.Generator(getattr(np.random, kind)(1))
            generator.bit_generator.state = to_generator(state)
            return list(generator.random(5).tolist())
        case Library.JAX:
            jax = pytest.importorskip("jax")
            key = jax.random.wrap_key_data(to_jax(state), impl=str(stream.engine))
            return list(jax.random.uniform(key, (5,)).tolist())
        case Library.TENSORFLOW if stream.engine is Engine.PHILOX4X32:  # the other needs XLA
            tensorflow = pytest.importorskip("tensorflow")
            generator = tensorflow.random.Generator.from_state(to_tensorflow(state), "philox")
            return list(generator.uniform([5]).numpy().tolist())
        case Library.KERAS:
            keras = pytest.importorskip("keras")
            generator = keras.random.SeedGenerator(1)
            generator.state.assign(to_keras(state))
            return list(keras.random.uniform((5,), seed=generator).numpy().tolist())
    return None


def test_it_says_what_a_dropped_stream_means() -> None:
    stream = RandomStream("python", Library.PYTHON, Python().state())
    moved = dropped(stream, "the target keeps no state of Python's random")
    assert (moved.stream, moved.fate) == (None, Fate.DROPPED)
    assert moved.consequence == (
        "shuffling, dropout and augmentation draw other numbers than an uninterrupted run would"
    )


# recognition -------------------------------------------------------------------------------------


def test_it_recognizes_states_by_what_they_are() -> None:
    twister = Twister(tuple(range(1, 625)), 17)
    cuda = np.frombuffer(to_torch_cuda(Philox(1, 2)), np.uint8)
    nodes: list[tuple[Any, Library | None]] = [
        (from_array(np.frombuffer(to_torch(twister), np.uint8)), Library.TORCH_CPU),
        (from_array(cuda), Library.TORCH_CUDA),
        (from_array(np.arange(44, dtype=np.uint8)), Library.TORCH_MPS),
        (to_numpy(twister), Library.NUMPY),
        (list(to_numpy(twister)), Library.NUMPY),
        (to_numpy_dict(twister), Library.NUMPY),
        (Object("builtins.dict", entries=to_numpy_dict(twister)), Library.NUMPY),
        (to_generator(from_generator(np.random.PCG64(1).state)), Library.NUMPY),
        (to_python(twister), Library.PYTHON),
        (from_array(np.arange(16)), None),
        (from_array(np.zeros(17, np.uint8)), None),
        ((3, (1, 2), None), None),
        ({"state": 3}, None),
        ({"bit_generator": "wibble", "state": 3}, None),
        (None, None),
        ("MT19937", None),
    ]
    for node, library in nodes:
        stream = recognize(node, "rng")
        assert (stream.library if stream else None) == library
        if stream and isinstance(stream.state, Twister):
            assert stream.state.words == twister.words


def test_it_finds_the_streams_of_a_trainer() -> None:
    path = REAL / "hf-trainer/octavio_results/checkpoint-2/rng_state.pth"
    torch = pytest.importorskip("torch")
    if not path.exists():
        pytest.skip("the real files are not here")
    state = torch.load(path, weights_only=False)  # a file of our own choice, in a test
    cpu = recognize(from_array(state["cpu"].numpy()), "cpu")
    assert cpu is not None
    assert isinstance(cpu.state, Twister)
    assert to_torch(cpu.state) == state["cpu"].numpy().tobytes()
    assert recognize(state["numpy"], "numpy") is not None
    assert recognize(state["python"], "python") is not None
