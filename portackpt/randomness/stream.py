"""The neutral random stream: an engine, its whole state, and who draws from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from portackpt.errors import DamagedError
from portackpt.tensor import Tensor
from portackpt.tree import Node, Object


class Engine(StrEnum):
    """The generators that training programs use."""

    MT19937 = "mt19937"
    PHILOX4X32 = "philox4x32"
    PHILOX4X64 = "philox4x64"
    PCG64 = "pcg64"
    PCG64DXSM = "pcg64dxsm"
    SFC64 = "sfc64"
    THREEFRY2X32 = "threefry2x32"
    RBG = "rbg"
    UNSAFE_RBG = "unsafe_rbg"
    TF_THREEFRY = "tf-threefry"
    KERAS_SEED = "keras-seed"
    MPS = "mps-philox"


class Library(StrEnum):
    """Who draws: what one engine's words become depends on it."""

    TORCH_CPU = "torch-cpu"
    TORCH_CUDA = "torch-cuda"
    TORCH_MPS = "torch-mps"
    NUMPY = "numpy"
    PYTHON = "python"
    TENSORFLOW = "tensorflow"
    KERAS = "keras"
    JAX = "jax"


class State(Protocol):
    """The whole state of one engine, independent of how a library packs it."""

    @property
    def engine(self) -> Engine: ...

    def essence(self) -> bytes:
        """Every bit that decides what is drawn next; equal for equal states only."""

    def to_plain(self) -> Mapping[str, Any]:
        """The state as JSON can hold it: integers beyond 53 bits as decimal strings."""


@dataclass(frozen=True, slots=True)
class RandomStream:
    """A named source of random numbers at a point of a run."""

    name: str
    library: Library
    state: State

    @property
    def engine(self) -> Engine:
        return self.state.engine


def integers(node: Node, count: int, bits: int, what: str) -> tuple[int, ...]:
    """`count` unsigned integers below 2**bits, from a list, a tuple or an array of any shape."""
    values = listed(node)
    if values is None or len(values) != count:
        found = "something else" if values is None else f"{len(values)}"
        raise DamagedError(f"expected {count} integers, found {found}", what)
    return tuple([integer(value, bits, what) for value in values])


def integer(node: Node, bits: int, what: str) -> int:
    """An unsigned integer below 2**bits; also as a decimal string, or a tensor of one."""
    if isinstance(node, Tensor) and node.size == 1:
        node = node.read().reshape(())[()].item()
    elif isinstance(node, str) and node.isascii() and node.isdigit() and len(node) < 64:
        node = int(node)
    elif hasattr(node, "item") and not isinstance(node, Object | Tensor):
        node = node.item()
    if isinstance(node, bool) or not isinstance(node, int) or not 0 <= node < 1 << bits:
        shown = node if isinstance(node, int) else type(node).__name__
        raise DamagedError(f"expected an unsigned integer of {bits} bits, found {shown}", what)
    return node


def listed(node: Node) -> list[Any] | None:
    """The items of a list, tuple, `Tensor` or numpy array, in C order; None for anything else."""
    if isinstance(node, Tensor):
        if node.nbytes > 1 << 20:
            return None
        if node.dtype.name == "uint8":
            return list(node.to_bytes())
        node = node.read()
    if hasattr(node, "reshape") and hasattr(node, "tolist"):
        return list(node.reshape(-1).tolist())
    return list(node) if isinstance(node, list | tuple) else None


def raw(node: Node, what: str) -> bytes:
    """The bytes of a uint8 tensor or array, or bytes as they are."""
    if isinstance(node, bytes | bytearray | memoryview):
        return bytes(node)
    values = listed(node)
    if values is None or not all(isinstance(v, int) and 0 <= v < 256 for v in values):
        raise DamagedError("expected a tensor of bytes, found something else", what)
    return bytes(values)


def entries(node: Node, what: str) -> Mapping[Any, Any]:
    """A dict, or the entries of an object that is one."""
    if isinstance(node, Object) and node.entries is not None:
        return node.entries
    if not isinstance(node, Mapping):
        raise DamagedError("expected a dict, found something else", what)
    return node
