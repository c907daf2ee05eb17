"""The gates every file passes before it is believed: what kind of file it is, how big it may be, how its JSON reads.

A gate refuses with one line that names the file, the value found and what was expected. Nothing here knows a
checkpoint format beyond its first bytes, and nothing here ever unpickles, unpacks or executes anything.
"""

from __future__ import annotations

import json
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from extract.errors import CheckpointError, SpecError

#: A config or header larger than this is not one: the largest honest ones are some tens of kilobytes.
JSON_LIMIT_BYTES = 1 << 20
READS = (
    "docs/formats.md lists what is read: GPT-2, nanoGPT, minGPT, TransformerLens, Tracr, torch encoders, Llama, Qwen, "
    "a neutral layout; from .safetensors, .pt, .bin, .ckpt or .npz with config.json beside it; and tables"
)
_HEAD_BYTES = 4096
#: Larger archives are named without looking at their list of entries.
_LARGEST_ARCHIVE_BYTES = 1 << 26
_LFS = b"version https://git-lfs.github.com/spec/"
_NAME = "name a file of weights that can be read, or the folder that holds it with its config.json"
_RESAVE = (
    "load it once where you trust it, save its state_dict with safetensors.torch.save_file, and put config.json beside"
)
#: First bytes of files that are not safetensors, what to call them, and what to do about it.
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", READS),
    (b"\x93NUMPY", "a NumPy .npy array", READS),
    (b"GGUF", "a GGUF file", READS),
    (b"\x1f\x8b", "a gzip archive", "unpack it first; " + READS),
    (b"\x7fELF", "a program", READS),
)


@contextmanager
def hinting(hint: str) -> Iterator[None]:
    """Add a hint to every refusal inside that has none of its own."""
    try:
        yield
    except (CheckpointError, SpecError) as error:
        error.hinting(hint)
        raise


class OpenedFile:
    """A regular file opened for bounded reading; its size in bytes is taken once, from the open descriptor."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = path.name or str(path)
        try:
            _refuse_special(os.stat(path).st_mode, self.place)
            # Non-blocking, so that opening a FIFO without a writer returns instead of waiting for ever.
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            raise CheckpointError("no such file", place=self.place, hint="check the path") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise CheckpointError(f"cannot be opened: {reason}", place=self.place, hint=_NAME) from error
        try:
            status = os.fstat(self._descriptor)
            _refuse_special(status.st_mode, self.place)
            self.size = status.st_size
        except CheckpointError:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> OpenedFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def stream(self) -> BinaryIO:
        """Return the same open file as a stream, for readers of the standard library; close it when done."""
        stream = os.fdopen(os.dup(self._descriptor), "rb")
        stream.seek(0)
        return stream

    def read_into(self, buffer: bytearray | memoryview, start: int) -> None:
        """Fill a buffer with the bytes from ``start`` on.

        Raises:  CheckpointError if the file ends, or the device fails, before the buffer is full.
        """
        view, done = memoryview(buffer), 0
        try:
            os.lseek(self._descriptor, start, os.SEEK_SET)
            while done < len(view):
                piece = os.read(self._descriptor, min(len(view) - done, 1 << 24))
                if not piece:
                    raise CheckpointError(
                        f"ends at byte {start + done}, expected {start + len(view)}: the file shrank while it was read",
                        place=self.place,
                    )
                view[done : done + len(piece)] = piece
                done += len(piece)
        except OSError as error:
            raise CheckpointError(f"cannot be read: {error.strerror}", place=self.place) from error

    def read(self, start: int, count: int) -> bytes:
        """Return at most ``count`` bytes from ``start`` on, fewer where the file is shorter."""
        buffer = bytearray(max(0, min(count, self.size - start)))
        self.read_into(buffer, start)
        return bytes(buffer)


def refuse_other_kinds(file: OpenedFile) -> None:
    """Refuse by name every file whose first bytes say that it is not a safetensors file.

    Raises:  CheckpointError for empty files, Git LFS pointers, PyTorch and NumPy archives, pickles, and so on.
    """
    head = file.read(0, _HEAD_BYTES)
    if int.from_bytes(head[:8], "little") <= JSON_LIMIT_BYTES and head[8:9] == b"{":
        return  # a header length and a brace: safetensors, whatever the length's bytes spell
    if not head:
        raise CheckpointError("is empty (0 bytes), expected a checkpoint", place=file.place, hint="fetch it again")
    if head.startswith(_LFS):
        raise CheckpointError(
            f"is a Git LFS pointer of {file.size} bytes, not the weights",
            place=file.place,
            hint="run `git lfs pull` where it was cloned, or download the file itself",
        )
    if head.startswith(b"PK\x03\x04"):
        _refuse_archive(file, head)
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        raise CheckpointError(
            "is a Python pickle, which can run code when it is loaded, and no PyTorch file",
            place=file.place,
            hint=_RESAVE,
        )
    for signature, name, hint in _SIGNATURES:
        if head.startswith(signature):
            raise CheckpointError(f"is {name}, expected a safetensors file", place=file.place, hint=hint)


def parse_json_object(data: bytes, place: str) -> dict[str, Any]:
    """Parse a JSON object strictly: UTF-8, no key twice, no NaN, bounded nesting and size.

    Raises:  CheckpointError with the line and column of the first error.
    """
    if len(data) > JSON_LIMIT_BYTES:
        raise CheckpointError(f"has {len(data)} bytes, expected at most {JSON_LIMIT_BYTES}", place=place)
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"byte {error.start} is not UTF-8, expected JSON text", place=place) from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise CheckpointError(f"is not JSON at {where}: {error.msg}", place=place) from error
    except RecursionError:
        raise CheckpointError("is nested too deeply, expected a flat JSON object", place=place) from None
    except _StrictnessError as error:
        raise CheckpointError(str(error), place=place) from error
    except ValueError as error:
        raise CheckpointError(f"holds a number that cannot be read: {error}", place=place) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"is a JSON {type(value).__name__}, expected an object", place=place)
    return value


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of at most ``JSON_LIMIT_BYTES``. Raises: CheckpointError."""
    with OpenedFile(path) as file:
        if file.size > JSON_LIMIT_BYTES:
            raise CheckpointError(f"has {file.size} bytes, expected at most {JSON_LIMIT_BYTES}", place=file.place)
        return parse_json_object(file.read(0, file.size), file.place)


def shown(value: object) -> str:
    """Return a value of untrusted JSON for a message: its JSON text, cut to 60 characters."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


class _StrictnessError(ValueError):
    """JSON that Python's reader takes and this project does not."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _StrictnessError(f"the key {shown(key)} occurs twice, expected distinct keys")
        found[key] = value
    return found


def _refuse_constant(text: str) -> Any:
    raise _StrictnessError(f"holds {text}, which is not JSON; expected finite numbers")


def _refuse_archive(file: OpenedFile, head: bytes) -> None:
    if file.size <= _LARGEST_ARCHIVE_BYTES:
        try:
            with file.stream() as stream:
                zipfile.ZipFile(stream).close()  # reads the list of entries only, and decompresses nothing
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise CheckpointError(
                f"is a damaged zip archive: {error}", place=file.place, hint="fetch the file again"
            ) from error
    if b".npy" in head:
        raise CheckpointError("is a NumPy .npz archive, expected a safetensors file", place=file.place, hint=READS)
    if b"data.pkl" in head:
        raise CheckpointError(
            "is a zip archive with a pickle inside, not laid out as torch.save does it",
            place=file.place,
            hint=_RESAVE,
        )
    raise CheckpointError("is a zip archive, expected a safetensors file", place=file.place, hint=READS)


def _refuse_special(mode: int, place: str) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = (
        (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
    )  # fmt: skip
    found = next((name for test, name in kinds if test(mode)), "not a regular file")
    raise CheckpointError(f"is {found}, expected a regular file", place=place, hint=_NAME)
