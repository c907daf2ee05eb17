"""PyTorch files, ``.pt .pth .bin .ckpt``: zip archives and the older plain ones, read without torch.

``read_torch_header`` gives the ``Header`` that the safetensors reader gives, and ``Tensors`` reads its arrays: a torch
file stores every tensor as one plain range of bytes, so names, shapes, dtypes, ranges, and sha256 of the whole file
are all there is, and every detector works on it unchanged. One of ``state_dict``, ``model_state_dict``,
``model_state``, ``model`` (or the spec's ``state_dict_key``) is unwrapped, and ``_orig_mod.``, ``module.``, ``model.``
are taken off where every name has them. What else the file says (nanoGPT's ``model_args``, Lightning's
``hyper_parameters`` ...) is in ``header.metadata``: texts, numbers, truth values, small lists, mappings of them.

Why not ``torch.load(weights_only=True)``: in a child process it takes 2.7 s and 230 MB before it reads a byte, and it
runs the constructors it allows. Reading the pickle as data takes milliseconds and runs nothing; tests compare it with
torch's reader, and what that refuses is refused here. Nothing is ever unpickled, so there is nothing to fall back to.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping

from extract.errors import CheckpointError
from extract.formats.gates import OpenedFile
from extract.formats.pickled import Pairs, PickleDamage, Unpickled, unpickle
from extract.formats.safetensors import Header
from extract.formats.torch_state import Storages, refuse_calls, state_header, storage_widths

#: A data.pkl larger than this is not that of a small network.
LARGEST_PICKLE_BYTES = 4 << 20
_LARGEST_DIRECTORY_BYTES = 2 << 20
#: The number that old files start with, pickled in any protocol.
_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LOCAL_BYTES, _END_BYTES, _LOCATOR_BYTES, _LARGE_END_BYTES = 30, 22, 20, 56
_ENCRYPTED = 0x1
_DAMAGED = (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, OSError, struct.error, OverflowError)
_FETCH = "fetch the file again"


def is_torch_archive(file: OpenedFile) -> bool:
    """Say whether a zip archive is torch's: its first entries are named ``.../data.pkl``, or it lists one."""
    return b"/data.pkl" in file.read(0, 256) or b"/data.pkl" in file.read(max(0, file.size - (1 << 16)), 1 << 16)


def is_old_torch_file(file: OpenedFile) -> bool:
    """Say whether a file starts as ``torch.save`` wrote before version 1.6."""
    head = file.read(0, 32)
    return head[:1] == b"\x80" and _MAGIC.to_bytes(10, "little") in head


def read_torch_header(file: OpenedFile, state_dict_key: str | None = None) -> Header:
    """Read what a torch file says of its tensors; costs its pickle and its list of entries, not its weights.

    ``state_dict_key`` names the entry of the outer dict that holds the weights, where there are several.
    Raises:  CheckpointError naming the first thing that is wrong; SpecError for a ``state_dict_key`` it has not.
    """
    pickled, storages, n_bytes = (_archive if file.read(0, 2) == b"PK" else _old)(file)
    refuse_calls(pickled, file.place)
    kind = "a PyTorch zip archive" if file.read(0, 2) == b"PK" else "a PyTorch file from before version 1.6"
    return state_header(pickled.value, storages, n_bytes, file, kind, state_dict_key)


def _unpickle(data: bytes, start: int, file: OpenedFile) -> Unpickled:
    try:
        return unpickle(data, start)
    except PickleDamage as error:
        raise CheckpointError(f"is damaged, or no file of weights: {error}", place=file.place, hint=_FETCH) from error


def _archive(file: OpenedFile) -> tuple[Unpickled, Storages, int]:
    """Return an archive's pickle and where its storages are: first byte in the file, number of bytes."""
    _check_directory(file)
    try:
        with file.stream() as stream, zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
    except _DAMAGED as error:
        raise CheckpointError(f"is a damaged zip archive: {error}", place=file.place, hint=_FETCH) from error
    ranges: dict[str, tuple[int, int]] = {}
    for info in entries:
        name = _inner_name(info, ranges, entries, file.place)
        ranges[name] = _stored_range(info, file)
    _check_overlap(ranges, file.place)
    if "data.pkl" not in ranges:
        raise CheckpointError("is a zip archive without data.pkl, expected a PyTorch file", place=file.place)
    if "constants.pkl" in ranges or any(name.startswith("code/") for name in ranges):
        raise CheckpointError(
            "is a TorchScript program, expected weights",
            place=file.place,
            hint="save its state_dict: torch.save(torch.jit.load(path).state_dict(), path)",
        )
    start, count = ranges["data.pkl"]
    if count > LARGEST_PICKLE_BYTES:
        raise CheckpointError(
            f"has a data.pkl of {count} bytes, expected at most {LARGEST_PICKLE_BYTES}",
            place=file.place,
            hint="save the state_dict alone",
        )
    order = file.read(*ranges["byteorder"]) if "byteorder" in ranges and ranges["byteorder"][1] < 16 else b"little"
    if order != b"little":
        raise CheckpointError(f"has byte order {order.decode('latin-1')!r}, expected 'little'", place=file.place)
    storages = {name[5:]: where for name, where in ranges.items() if name.startswith("data/")}
    return _unpickle(file.read(start, count), 0, file), storages, file.size


def _check_directory(file: OpenedFile) -> None:
    """Refuse archives whose list of entries is not at the very end, or long: zipfile would read all of it."""
    tail = file.read(max(0, file.size - _END_BYTES - _LOCATOR_BYTES - _LARGE_END_BYTES), 1 << 10)
    end = tail[-_END_BYTES:]
    if len(end) < _END_BYTES or end[:4] != b"PK\x05\x06" or end[-2:] != b"\0\0":
        raise CheckpointError(
            "is a damaged zip archive: its list of entries is not at its end, as torch.save writes it",
            place=file.place,
            hint=_FETCH,
        )
    count, start = struct.unpack_from("<LL", end, 12)
    at = file.size - _END_BYTES
    if tail[-_END_BYTES - _LOCATOR_BYTES :][:4] == b"PK\x06\x07":
        at -= _LOCATOR_BYTES + _LARGE_END_BYTES
        large = tail[:_LARGE_END_BYTES]
        if len(large) < _LARGE_END_BYTES or large[:4] != b"PK\x06\x06":
            raise CheckpointError("is a damaged zip archive: its zip64 end record is lost", place=file.place)
        count, start = struct.unpack_from("<QQ", large, 40)
    if start + count != at:
        raise CheckpointError(
            f"is a damaged zip archive: its list of entries should be at byte {start} of {file.size}, and is not",
            place=file.place,
            hint=_FETCH,
        )
    if count > _LARGEST_DIRECTORY_BYTES:
        raise CheckpointError(
            f"lists {count} bytes of entries, expected at most {_LARGEST_DIRECTORY_BYTES}", place=file.place
        )


def _inner_name(info: zipfile.ZipInfo, seen: Mapping[str, object], entries: list[zipfile.ZipInfo], place: str) -> str:
    """Return an entry's name inside the archive's one folder, refusing every name torch would not write."""
    folder, _, inner = info.filename.partition("/")
    parts = inner.split("/")
    if (
        folder != entries[0].filename.partition("/")[0]
        or folder in ("", ".", "..")
        or any(part in ("", ".", "..") for part in parts)
        or not inner.isascii()
        or "\\" in info.orig_filename
        or "\0" in info.orig_filename
    ):
        raise CheckpointError(
            f"holds an entry named {ascii(info.orig_filename)[:60]}, expected plain names in one folder", place=place
        )
    if inner in seen:
        raise CheckpointError(f"holds {ascii(inner)[:60]} twice, expected distinct entries", place=place)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & _ENCRYPTED or info.compress_size != info.file_size:
        raise CheckpointError(
            f"{ascii(inner)[:60]} is compressed or encrypted, expected it stored as torch.save writes it",
            place=place,
            hint="unpacking could take any time; load it where you trust it and save it again",
        )
    return inner


def _stored_range(info: zipfile.ZipInfo, file: OpenedFile) -> tuple[int, int]:
    """Return where an entry's bytes are, as its own header in front of them says."""
    local = file.read(info.header_offset, _LOCAL_BYTES) if info.header_offset >= 0 else b""
    if len(local) < _LOCAL_BYTES or local[:4] != b"PK\x03\x04":
        raise CheckpointError(
            f"is a damaged zip archive: no entry starts at byte {info.header_offset}", place=file.place, hint=_FETCH
        )
    method, n_name, n_extra = (*struct.unpack_from("<H", local, 8), *struct.unpack_from("<HH", local, 26))
    start = info.header_offset + _LOCAL_BYTES + n_name + n_extra
    name = file.read(info.header_offset + _LOCAL_BYTES, n_name)
    if name != info.orig_filename.encode("utf-8") or method != zipfile.ZIP_STORED or start + info.file_size > file.size:
        raise CheckpointError(
            f"is a damaged zip archive: {ascii(info.orig_filename)[:60]} is not what its list of entries says",
            place=file.place,
            hint=_FETCH,
        )
    return start, info.file_size


def _check_overlap(ranges: Mapping[str, tuple[int, int]], place: str) -> None:
    end = 0
    for name, (start, count) in sorted(ranges.items(), key=lambda item: item[1]):
        if start < end:
            raise CheckpointError(f"{ascii(name)[:60]} overlaps the entry before it in the archive", place=place)
        end = start + count


def _old(file: OpenedFile) -> tuple[Unpickled, Storages, int]:
    """Return an old file's pickle and its storages: five pickles, then a count and the bytes of each storage."""
    data = file.read(0, LARGEST_PICKLE_BYTES)
    magic = _unpickle(data, 0, file)
    protocol = _unpickle(data, magic.end, file)
    system = _unpickle(data, protocol.end, file)
    if magic.value != _MAGIC or protocol.value != _LEGACY_PROTOCOL or not isinstance(system.value, Pairs):
        raise CheckpointError("is a PyTorch file of an unknown version", place=file.place, hint=_FETCH)
    if not any(key == "little_endian" and value is True for key, value in system.value.items):
        raise CheckpointError("was saved on a big-endian machine, expected little-endian", place=file.place)
    pickled = _unpickle(data, system.end, file)
    keys = _unpickle(data, pickled.end, file)
    if not isinstance(keys.value, list) or not all(isinstance(key, str) for key in keys.value):
        raise CheckpointError("is damaged: its list of storages is none", place=file.place, hint=_FETCH)
    storages: dict[str, tuple[int, int]] = {}
    widths = storage_widths(pickled.references)
    at = keys.end
    for key in keys.value:
        count = int.from_bytes(file.read(at, 8), "little") * widths.get(key, 0)
        if key not in widths or key in storages or at + 8 + count > file.size:
            raise CheckpointError(
                f"is truncated or damaged: storage {ascii(key)[:40]} is not in its {file.size} bytes",
                place=file.place,
                hint=_FETCH,
            )
        storages[key] = (at + 8, count)
        at += 8 + count
    return pickled, storages, file.size
