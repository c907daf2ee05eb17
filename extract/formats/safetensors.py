"""The safetensors reader: a header of names, dtypes and shapes, checked in full before a byte of weights is read.

It hands out float32 arrays that equal the stored numbers exactly, or refuses. It refuses to know which network the
tensors make.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import CheckpointError
from extract.formats.gates import JSON_LIMIT_BYTES, OpenedFile, parse_json_object, refuse_other_kinds, shown

FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4,
    "U64": 8, "I64": 8,
}  # fmt: skip
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
TENSOR_NAME = re.compile(r"[A-Za-z0-9_.:/~\-]{1,256}", re.ASCII)
LARGEST_DIMENSION = 1 << 20
LARGEST_RANK = 8
LARGEST_COUNT = 4096
_LENGTH_BYTES = 8
_RANGE_SIZE = 2


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What the header says of one tensor. ``start`` and ``stop`` are bytes in the data buffer after the header.

    ``axes`` are the tensor's axes in the order they are stored, slowest first, where that is not their own order.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int
    axes: tuple[int, ...] = ()

    @property
    def is_float(self) -> bool:
        """Whether the tensor can hold weights."""
        return self.dtype in FLOATS

    @property
    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header: tensors in file order, and where in the file their data begins (bytes).

    ``metadata`` is what else a file says as plain data, ``evidence`` sentences on how it was read. ``unpacked`` is the
    data buffer itself where the file stores it compressed.
    """

    tensors: Mapping[str, TensorInfo]
    data_start: int
    data_bytes: int
    metadata: Mapping[str, Any] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    unpacked: bytes | None = None

    @property
    def peak_bytes(self) -> int:
        """An upper estimate of the memory reading takes: the file, float32 copies, one rearranged copy."""
        return self.data_bytes + 2 * sum(4 * t.numel for t in self.tensors.values() if t.is_float)


class Tensors:
    """The bytes of a whole file with its header; arrays are made one at a time, on request."""

    def __init__(self, file: OpenedFile, header: Header) -> None:
        self.header = header
        self.place = file.place
        self._data = bytearray(file.size)
        file.read_into(self._data, 0)
        self.digest = hashlib.sha256(self._data).hexdigest()
        if header.unpacked is not None:
            self._data = bytearray(header.unpacked)

    def array(self, name: str) -> NDArray[np.float32]:
        """Return one tensor as float32, equal to what is stored.

        Raises:  CheckpointError for NaN or infinity (with the place), or a float64 that float32 cannot hold.
        """
        info = self.header.tensors[name]
        stored = self._stored(info)
        self._check_finite(name, info, stored, ~np.isfinite(stored))
        with np.errstate(over="ignore", under="ignore"):
            values = stored.astype(np.float32)
        if info.dtype == "F64":
            self._check_exact(name, info, stored, values)
        return values.reshape(info.shape)

    def refuse_nan(self, name: str) -> None:
        """Refuse a tensor with NaN in it; infinity may be a mask's. Raises: CheckpointError with the place."""
        info = self.header.tensors[name]
        stored = self._stored(info)
        self._check_finite(name, info, stored, np.isnan(stored))

    def _stored(self, info: TensorInfo) -> NDArray[Any]:
        """Return a tensor's numbers as they are stored, flat, in the order of its own axes."""
        if not info.is_float:
            raise CheckpointError(
                f"{info.name} has dtype {info.dtype}, expected one of {_listed(FLOATS)}", place=self.place
            )
        stored = np.frombuffer(self._data, _NUMPY[info.dtype], info.numel, self.header.data_start + info.start)
        if info.dtype == "BF16":
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        if info.axes:
            sizes = [info.shape[axis] for axis in info.axes]
            stored = stored.reshape(sizes).transpose(np.argsort(info.axes)).reshape(-1)
        return stored

    def _check_finite(self, name: str, info: TensorInfo, values: NDArray[Any], is_bad: NDArray[np.bool_]) -> None:
        bad = np.flatnonzero(is_bad)
        if len(bad):
            raise CheckpointError(
                f"{name}{_index(bad[0], info.shape)} is {values[bad[0]]}, expected a finite number",
                place=self.place,
                hint="nothing can be proved about a network with NaN or infinite weights",
            )

    def _check_exact(self, name: str, info: TensorInfo, stored: NDArray[Any], values: NDArray[np.float32]) -> None:
        bad = np.flatnonzero(values.astype(np.float64) != stored)
        if len(bad):
            raise CheckpointError(
                f"{name}{_index(bad[0], info.shape)} is {float(stored[bad[0]])!r}, which float32 cannot hold exactly",
                place=self.place,
                hint="networks are read as float32: round the float64 weights to float32 and save again, "
                "so that what is proved is the network in the file",
            )


def read_header(file: OpenedFile) -> Header:
    """Read and check the header of a safetensors file; costs at most 1 MiB whatever the file claims.

    Raises:  CheckpointError naming the first thing that is wrong.
    """
    refuse_other_kinds(file)
    length = int.from_bytes(file.read(0, _LENGTH_BYTES), "little")
    if file.size < _LENGTH_BYTES:
        raise CheckpointError(
            f"has {file.size} bytes, expected a safetensors header of at least {_LENGTH_BYTES}", place=file.place
        )
    if length > JSON_LIMIT_BYTES:
        raise CheckpointError(
            f"says its header has {length} bytes, expected at most {JSON_LIMIT_BYTES}",
            place=file.place,
            hint="this is probably not a safetensors file",
        )
    if _LENGTH_BYTES + length > file.size:
        raise CheckpointError(
            f"is truncated: {file.size} bytes, but its header alone needs {_LENGTH_BYTES + length}",
            place=file.place,
            hint="fetch the file again",
        )
    place = f"header of {file.place}"
    table = parse_json_object(file.read(_LENGTH_BYTES, length), place)
    _check_metadata(table.pop("__metadata__", {}), place)
    if not table:
        raise CheckpointError("names no tensors, expected the weights of a network", place=place)
    if len(table) > LARGEST_COUNT:
        raise CheckpointError(f"names {len(table)} tensors, expected at most {LARGEST_COUNT}", place=place)
    tensors = {name: _tensor_info(name, entry, place) for name, entry in table.items()}
    data_start = _LENGTH_BYTES + length
    _check_cover(tensors, file.size - data_start, file.place)
    return Header(tensors, data_start, file.size - data_start)


def _check_metadata(metadata: object, place: str) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckpointError(f"__metadata__ is {shown(metadata)}, expected an object of texts", place=place)


def _tensor_info(name: str, entry: object, place: str) -> TensorInfo:
    if not TENSOR_NAME.fullmatch(name):
        raise CheckpointError(
            f"the tensor name {shown(name)} is not plain, expected 1 to 256 letters, digits or _.:/~-", place=place
        )
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(
            f"{name} is described by {shown(entry)}, expected dtype, shape and data_offsets", place=place
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise CheckpointError(f"{name} has dtype {shown(dtype)}, expected one of {_listed(ITEM_BYTES)}", place=place)
    if not _is_integers(shape) or len(shape) > LARGEST_RANK:
        raise CheckpointError(
            f"{name} has shape {shown(shape)}, expected at most {LARGEST_RANK} whole numbers", place=place
        )
    for size in shape:
        if not 1 <= size <= LARGEST_DIMENSION:
            raise CheckpointError(
                f"{name} has shape {shown(shape)}, expected sizes between 1 and {LARGEST_DIMENSION}", place=place
            )
    if not _is_integers(offsets) or len(offsets) != _RANGE_SIZE:
        raise CheckpointError(f"{name} has data_offsets {shown(offsets)}, expected two whole numbers", place=place)
    start, stop = offsets
    needed = math.prod(shape) * ITEM_BYTES[dtype]
    if start < 0 or stop - start != needed:
        raise CheckpointError(
            f"{name} {dtype}{shape} has data_offsets {shown(offsets)}, expected a range of {needed} bytes", place=place
        )
    return TensorInfo(name, dtype, tuple(shape), start, stop)


def _check_cover(tensors: Mapping[str, TensorInfo], data_bytes: int, place: str) -> None:
    end = 0
    for info in sorted(tensors.values(), key=lambda t: (t.start, t.stop)):
        if info.start != end:
            problem = "overlaps the tensor before it" if info.start < end else "leaves a gap before it"
            raise CheckpointError(f"{info.name} starts at byte {info.start} and {problem}, expected {end}", place=place)
        end = info.stop
    if end > data_bytes:
        raise CheckpointError(
            f"is truncated: {data_bytes} bytes of tensors, but its header promises {end}",
            place=place,
            hint="fetch the file again",
        )
    if end < data_bytes:
        raise CheckpointError(
            f"has {data_bytes} bytes of tensors, {data_bytes - end} more than its header names", place=place
        )


def _is_integers(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _index(flat: np.intp, shape: tuple[int, ...]) -> list[int]:
    return [int(i) for i in np.unravel_index(flat, shape)]


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(names)
