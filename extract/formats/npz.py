"""The reader of NumPy archives: a zip of plain arrays, checked entry by entry before anything is decompressed.

It never unpickles: an array of Python objects is refused by its dtype. It refuses to know what the arrays mean.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import CheckpointError
from extract.formats.gates import OpenedFile

#: Tables larger than this are beyond what is enumerated anyway; reading one stays under 500 MB.
_LARGEST_FILE_BYTES = 1 << 27
_LARGEST_ARRAY_BYTES = 1 << 27
_LARGEST_CELLS = 1 << 24
_LARGEST_DIRECTORY_BYTES = 1 << 16
_END_BYTES, _LOCATOR_BYTES = 22, 20
_MAGIC_BYTES = 10
_HEADER_BYTES = 4096
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1
#: What numpy writes, and MLX with other spaces, and nothing else: no Python literal is ever evaluated.
_HEADER = re.compile(
    r"\{'descr': '([^']{1,64})', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,18}(?:, ?\d{1,18}){0,7},? ?)?)\),? ?\} *\n?"
)
_INTEGERS = re.compile(r"[<>|=]?[iu][1248]")
_NUMBERS = re.compile(r"[<>|=]?(?:[iu][1248]|f[248]|b1)")
_DAMAGED = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
    OSError,
    zlib.error,
    OverflowError,
)


@dataclass(frozen=True, slots=True)
class Archive:
    """A file's arrays by name, and the sha256 of its bytes."""

    arrays: dict[str, NDArray[Any]]
    digest: str


def entry_names(file: OpenedFile) -> frozenset[str]:
    """Return the names in a zip archive's list of entries; none if the file is no archive or has no plain list.

    Cost:    reads the list only, and decompresses nothing.
    """
    if file.read(0, 4) != b"PK\x03\x04":
        return frozenset()
    start, count = _directory(file.read(file.size - _END_BYTES, _END_BYTES), file.size)
    listed = file.read(start, count) if start >= 0 and count <= _LARGEST_DIRECTORY_BYTES else b""
    return frozenset(found.decode() for found in re.findall(rb"[A-Za-z0-9_]{1,64}\.npy", listed))


def is_archive(file: OpenedFile) -> bool:
    """Say whether a file is a zip archive that lists, or starts with, an array of NumPy's."""
    is_zip = file.read(0, 4) == b"PK\x03\x04"
    return is_zip and (b".npy" in file.read(0, 4096) or b".npy" in file.read(max(0, file.size - (1 << 16)), 1 << 16))


def read_archive(file: OpenedFile, names: tuple[str, ...]) -> Archive:
    """Read exactly the named arrays of whole numbers from an ``.npz`` file.

    Raises:  CheckpointError naming the entry, for anything else a zip or an array can be.
    """
    return _read(file, names, _INTEGERS)


def read_arrays(file: OpenedFile) -> dict[str, NDArray[Any]]:
    """Read every array of floats, whole numbers or truth values from an ``.npz`` file, by name.

    Raises:  CheckpointError naming the entry, for anything else a zip or an array can be.
    """
    return _read(file, None, _NUMBERS).arrays


def _read(file: OpenedFile, names: tuple[str, ...] | None, dtypes: re.Pattern[str]) -> Archive:
    if file.size > _LARGEST_FILE_BYTES:
        raise CheckpointError(f"has {file.size} bytes, expected at most {_LARGEST_FILE_BYTES}", place=file.place)
    data = file.read(0, file.size)
    _check_directory(data, file.place)
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name, entry in _entries(archive, names, file.place):
                arrays[name] = _array(archive, entry, f"{entry.filename} of {file.place}", dtypes)
    except _DAMAGED as error:
        raise CheckpointError(
            f"is a damaged zip archive: {error}", place=file.place, hint="fetch the file again"
        ) from error
    return Archive(arrays, hashlib.sha256(data).hexdigest())


def _directory(end: bytes, size: int) -> tuple[int, int]:
    """Return where the list of entries starts and its bytes, from the last 22 bytes of a file; (-1, 0) if not plain."""
    if len(end) < _END_BYTES or end[:4] != b"PK\x05\x06" or end[-2:] != b"\0\0":
        return -1, 0
    count, start = (int.from_bytes(end[at : at + 4], "little") for at in (12, 16))
    return (start, count) if start + count == size - _END_BYTES else (-1, 0)


def _check_directory(data: bytes, place: str) -> None:
    """Refuse archives whose list of entries is not at the end, or long: zipfile would read all of it."""
    start, count = _directory(data[-_END_BYTES:], len(data))
    is_large = data[-_END_BYTES - _LOCATOR_BYTES :][:4] == b"PK\x06\x07"
    if start < 0 or is_large:
        raise CheckpointError(
            "is a damaged or unusual zip archive: its list of entries is not where numpy puts it",
            place=place,
            hint="write it with numpy.savez",
        )
    if count > _LARGEST_DIRECTORY_BYTES:
        raise CheckpointError(f"lists {count} bytes of entries, expected a few arrays", place=place)


def _entries(archive: zipfile.ZipFile, names: tuple[str, ...] | None, place: str) -> list[tuple[str, zipfile.ZipInfo]]:
    """Return the entries by name without ``.npy``; all there are if ``names`` is None, which must then be distinct."""
    found = archive.infolist()
    listed = [info.filename for info in found]
    if names is None:
        names = tuple(name.removesuffix(".npy") for name in listed)
        if len(set(listed)) < len(listed) or not all(name.endswith(".npy") for name in listed):
            raise CheckpointError("holds an array twice, or entries that are no arrays", place=place)
        if sum(info.file_size for info in found) > _LARGEST_ARRAY_BYTES:
            raise CheckpointError(f"would unpack to more than {_LARGEST_ARRAY_BYTES} bytes", place=place)
    if sorted(listed) != sorted(f"{name}.npy" for name in names):
        shown = ", ".join(repr(name) for name in listed[:4]) or "nothing"
        wanted = " and ".join(f"{name}.npy" for name in names)
        raise CheckpointError(f"holds {shown}, expected {wanted} and nothing else", place=place)
    for info in found:
        mode = info.external_attr >> 16
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise CheckpointError(f"{info.filename} is not a plain file (mode {mode:o})", place=place)
        if info.compress_type not in _METHODS or info.flag_bits & _ENCRYPTED:
            raise CheckpointError(f"{info.filename} is encrypted or packed in a way numpy does not use", place=place)
        if info.file_size > _LARGEST_ARRAY_BYTES:
            raise CheckpointError(
                f"{info.filename} would unpack to {info.file_size} bytes, expected at most {_LARGEST_ARRAY_BYTES}",
                place=place,
            )
    return [(name, archive.getinfo(f"{name}.npy")) for name in names]


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, place: str, dtypes: re.Pattern[str]) -> NDArray[Any]:
    with archive.open(info) as stream:
        magic = stream.read(_MAGIC_BYTES)
        if magic[:6] != b"\x93NUMPY" or magic[6:8] not in (b"\1\0", b"\2\0", b"\3\0"):
            raise CheckpointError("is not a NumPy array", place=place)
        extra = 2 if magic[6] > 1 else 0
        n_header = int.from_bytes(magic[8:10] + stream.read(extra), "little")
        if n_header > _HEADER_BYTES:
            raise CheckpointError(f"has a header of {n_header} bytes, expected at most {_HEADER_BYTES}", place=place)
        dtype, shape, is_fortran = _parsed(stream.read(n_header), place, dtypes)
        n_cells = math.prod(shape)
        expected = _MAGIC_BYTES + extra + n_header + n_cells * dtype.itemsize
        if n_cells > _LARGEST_CELLS or expected != info.file_size:
            raise CheckpointError(
                f"says it is {dtype}{list(shape)}, which is not what its {info.file_size} bytes hold", place=place
            )
        # one byte more than promised: reading to the end is what makes zipfile compare the checksum
        raw = stream.read(n_cells * dtype.itemsize + 1)
    if len(raw) != n_cells * dtype.itemsize:
        raise CheckpointError(f"holds {len(raw)} bytes of numbers, expected {n_cells * dtype.itemsize}", place=place)
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if is_fortran else "C")


def _parsed(header: bytes, place: str, dtypes: re.Pattern[str]) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    match = _HEADER.fullmatch(header.decode("latin-1"))
    if match is None:
        raise CheckpointError(
            "has a header numpy does not write for an array of numbers", place=place, hint="save a plain integer array"
        )
    descr, order, sizes = match.groups()
    if "O" in descr:
        raise CheckpointError(
            f"holds Python objects (a pickle, which can run code when it is loaded), expected {_expected(dtypes)}",
            place=place,
            hint="save plain arrays of numbers; in a table, -1 past the end of each row",
        )
    if not dtypes.fullmatch(descr):
        raise CheckpointError(
            f"has dtype {descr!r}, expected {_expected(dtypes)}",
            place=place,
            hint="list ids, not names" if dtypes is _INTEGERS else None,
        )
    return np.dtype(descr), tuple(int(n) for n in sizes.split(",") if n.strip()), order == "True"


def _expected(dtypes: re.Pattern[str]) -> str:
    return "whole numbers such as int16" if dtypes is _INTEGERS else "numbers such as float32"
