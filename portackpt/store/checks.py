"""What a manifest says has to fit together: every fault of it, without opening another file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod

from portackpt import box as boxes
from portackpt.dtypes import BY_NAME, STRING, DType
from portackpt.errors import RefusedError
from portackpt.store import manifest as m
from portackpt.store.digest import algorithm
from portackpt.store.fault import Fault
from portackpt.store.index import extent
from portackpt.store.reference import is_reference

MAX_RANK = 64
MAX_HEADER = 8 + 100_000_000
_MAX_BYTES = (1 << 63) - 1
_CHUNKS = frozenset(1 << power for power in range(12, 25))
_HEX = re.compile(r"[0-9a-f]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def faults(manifest: m.Manifest) -> Iterator[Fault]:
    """Every fault, in the order of the file."""
    digits = algorithm(manifest.digest_algorithm).digits
    if manifest.chunk_size not in _CHUNKS:
        yield _fault(
            "G-2", f"chunk size {manifest.chunk_size} is no power of two from 2^12 to 2^24"
        )
    yield from _file_faults(manifest, digits)
    yield from _name_faults(manifest)
    for number, tensor in enumerate(manifest.tensors):
        dtype = BY_NAME.get(tensor.dtype)
        if dtype is None:
            yield _fault("T-2", f"unknown dtype {tensor.dtype!r}", tensor)
        elif len(tensor.shape) > MAX_RANK:
            yield _fault("L-3", f"{len(tensor.shape)} dimensions, at most {MAX_RANK}", tensor)
        elif prod(tensor.shape) * dtype.itemsize > _MAX_BYTES:
            yield _fault("L-4", f"shape {list(tensor.shape)} has more than 2^63 bytes", tensor)
        elif (tensor.boxes is None) is (tensor.view is None):
            yield _fault("T-4", "expected either boxes or a view", tensor)
        elif tensor.boxes is not None:
            if _is_ordinary(manifest, tensor, dtype, digits):
                continue  # as nearly all are
            yield from _box_faults(manifest, tensor, tensor.boxes, dtype, digits)
        else:
            assert tensor.view is not None
            yield from _view_faults(manifest, number, tensor.view, dtype)


def _fault(code: str, message: str, tensor: m.Tensor | None = None) -> Fault:
    return Fault(code, message, m.NAME, tensor=None if tensor is None else tensor.name)


def _file_faults(manifest: m.Manifest, digits: int) -> Iterator[Fault]:
    names = [manifest.state.file, *(shard.file for shard in manifest.shards)]
    for name in names:
        if not is_reference(name):
            yield _fault("D-3", f"{name!r} is no file name that a manifest may refer to")
    seen = {m.NAME}
    for name in names:
        if name.lower() in seen:
            yield _fault("D-4", f"the file {name!r} is named twice (letter case set aside)")
        seen.add(name.lower())
    digests = [manifest.state.digest, *(shard.header_digest for shard in manifest.shards)]
    for name, digest in zip(names, digests, strict=True):
        if len(digest) != digits or not _HEX.fullmatch(digest):
            yield _fault("G-3", f"expected a digest of {digits} digits for {name!r}")
    for shard in manifest.shards:
        if shard.header_size > MAX_HEADER:
            told = f"{shard.file!r} has a header of {shard.header_size} bytes, at most {MAX_HEADER}"
            yield _fault("L-8", told)
        if not 8 <= shard.header_size <= shard.size:
            yield _fault(
                "S-1", f"{shard.file!r} of {shard.size} bytes has a header of {shard.header_size}"
            )


def _name_faults(manifest: m.Manifest) -> Iterator[Fault]:
    names = [tensor.name for tensor in manifest.tensors]
    if len(set(names)) == len(names) and all(names) and not _CONTROL.search("".join(names)):
        return
    seen: set[str] = set()
    for tensor in manifest.tensors:
        if not tensor.name or _CONTROL.search(tensor.name):
            yield _fault("T-1", "a name is empty or holds a control character", tensor)
        if tensor.name in seen:
            yield _fault("T-1", "two tensors have this name", tensor)
        seen.add(tensor.name)


def _is_ordinary(manifest: m.Manifest, tensor: m.Tensor, dtype: DType, digits: int) -> bool:
    """True for one box that is the whole tensor, of at most one chunk, without a fault."""
    if tensor.boxes is None or len(tensor.boxes) != 1 or dtype is STRING:
        return False
    box = tensor.boxes[0]
    if box.start is not None or box.shape is not None or box.nbytes is not None:
        return False
    if box.shard >= len(manifest.shards):
        return False
    shard = manifest.shards[box.shard]
    nbytes = prod(tensor.shape) * dtype.itemsize
    return (
        shard.header_size <= box.offset <= shard.size - nbytes
        and 0 < nbytes <= manifest.chunk_size
        and len(box.digests) == digits
        and _HEX.fullmatch(box.digests) is not None
    )


def _box_faults(
    manifest: m.Manifest, tensor: m.Tensor, stored: tuple[m.Box, ...], dtype: DType, digits: int
) -> Iterator[Fault]:
    yield from _tiling_faults(tensor, stored, dtype)
    for box in stored:
        if (box.nbytes is None) is (dtype is STRING):
            told = "needs" if dtype is STRING else "must not have"
            yield _fault("T-10", f"a box of a {dtype} tensor {told} nbytes", tensor)
            continue
        if box.shard >= len(manifest.shards):
            told = f"shard {box.shard} of {len(manifest.shards)}"
            yield _fault("T-6", f"a box lies in {told}", tensor)
            continue
        nbytes = box_nbytes(tensor, box)
        shard = manifest.shards[box.shard]
        if box.offset < shard.header_size or box.offset + nbytes > shard.size:
            yield _fault(
                "T-6",
                f"bytes {box.offset} to {box.offset + nbytes} lie outside the data of "
                f"{shard.file!r}, {shard.header_size} to {shard.size}",
                tensor,
            )
        chunks = -(-nbytes // manifest.chunk_size)
        if len(box.digests) != chunks * digits or not _HEX.fullmatch(box.digests):
            yield _fault(
                "T-7",
                f"expected {chunks} digests of {digits} digits, "
                f"found {len(box.digests)} characters",
                tensor,
            )


def _tiling_faults(tensor: m.Tensor, stored: tuple[m.Box, ...], dtype: DType) -> Iterator[Fault]:
    if len(stored) == 1 and stored[0].start is None and stored[0].shape is None:
        return
    if dtype is STRING:
        yield _fault("T-10", "a string tensor has one box, which is the whole", tensor)
        return
    regions = regions_of(tensor, stored)
    try:
        whole = boxes.covers(tensor.shape, regions)
    except RefusedError as error:
        yield _fault("L-5", error.message, tensor)
        return
    if not whole:
        yield _fault("T-5", f"its boxes do not tile the shape {list(tensor.shape)}", tensor)


def regions_of(tensor: m.Tensor, stored: tuple[m.Box, ...]) -> list[boxes.Box]:
    """Where in a tensor its boxes lie."""
    origin = (0,) * len(tensor.shape)
    return [
        boxes.Box(
            origin if box.start is None else box.start,
            tensor.shape if box.shape is None else box.shape,
        )
        for box in stored
    ]


def _view_faults(manifest: m.Manifest, number: int, view: m.View, dtype: DType) -> Iterator[Fault]:
    tensor = manifest.tensors[number]
    owner = manifest.tensors[view.of] if view.of < len(manifest.tensors) else None
    base = None if owner is None else BY_NAME.get(owner.dtype)
    if owner is None or owner.boxes is None or base is None:
        yield _fault("T-11", f"it is a view of tensor {view.of}, which has no boxes", tensor)
        return
    if not follow(owner, owner.boxes):
        yield _fault("T-12", f"the boxes of {owner.name!r} do not follow each other", tensor)
    held = storage_nbytes(owner, owner.boxes, base)
    if dtype is STRING:
        if view.strides or view.offset:
            yield _fault("T-13", "a view of dtype string has no offset and no strides", tensor)
        return
    if len(view.strides) != len(tensor.shape):
        yield _fault(
            "T-13", f"{len(view.strides)} strides for {len(tensor.shape)} dimensions", tensor
        )
        return
    end = extent(dtype, tensor.shape, view.offset, view.strides)
    if end > held:
        yield _fault("T-13", f"it ends at byte {end} of {owner.name!r}, which has {held}", tensor)


def box_nbytes(tensor: m.Tensor, box: m.Box) -> int:
    """Bytes of a box."""
    if box.nbytes is not None:
        return box.nbytes
    shape = tensor.shape if box.shape is None else box.shape
    return prod(shape) * BY_NAME[tensor.dtype].itemsize


def storage_nbytes(tensor: m.Tensor, stored: tuple[m.Box, ...], dtype: DType) -> int:
    """Bytes that a tensor with boxes holds."""
    if dtype is STRING:
        return sum(box.nbytes or 0 for box in stored)
    return prod(tensor.shape) * dtype.itemsize


def follow(tensor: m.Tensor, stored: tuple[m.Box, ...]) -> bool:
    """True when the boxes, in their order, are consecutive runs of the tensor in C order."""
    if len(stored) == 1 and stored[0].start is None:
        return True
    shape = tensor.shape
    end = 0
    for region in regions_of(tensor, stored):
        if len(region.start) != len(shape) or len(region.shape) != len(shape):
            return False
        first = next((i for i, n in enumerate(region.shape) if n != 1), len(shape))
        if region.shape[first + 1 :] != shape[first + 1 :]:
            return False
        place = 0
        for start, n in zip(region.start, shape, strict=True):
            place = place * n + start
        if region.size and place != end:
            return False
        end += region.size
    return True
