"""Result files: written whole or not at all, and never over somebody else's work.

A file is written under a temporary name, synced and renamed. An existing file is replaced only when asked, when it
already holds the same bytes, or when it is this tool's own result for the same checkpoint and spec.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from extract.errors import OutputError

_OWN_SCHEMAS = ("extract.certificate/", "extract.result/")
_LARGEST_OWN = 64 << 20


@dataclass(frozen=True, slots=True)
class Subject:
    """What a result is about: the digests of the checkpoint and of the spec."""

    checkpoint: str
    spec: str


def refuse_overwrite(path: Path, subject: Subject | None, *, force: bool) -> None:
    """Check before the work that a file may be written after it.

    Raises:  OutputError if the file exists and is not to be replaced, or its folder does not take files.
    """
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{folder} is not a folder, expected one to write {path.name} to")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder} is not writable, expected to write {path.name} there")
    if path.is_dir():
        raise OutputError(f"{path} is a folder, expected a file name")
    if path.exists() and path.is_file() and not force and not _is_own(path, subject):
        raise OutputError(f"{path} exists and is not an earlier result of the same checkpoint and spec",
                          hint="--force replaces it")  # fmt: skip


def write_file(path: Path, data: bytes, subject: Subject | None = None, *, force: bool = False) -> None:
    """Write a file under a temporary name, sync it, rename it; a device or pipe is written directly.

    Raises:  OutputError if it exists and is not to be replaced, or cannot be written; nothing is left behind.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
            return
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return
        refuse_overwrite(path, subject, force=force)
        replace_file(path, data)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def replace_file(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, sync it, rename it over whatever is there. Raises: OSError."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _is_own(path: Path, subject: Subject | None) -> bool:
    """Say whether a file is this tool's certificate or result for the same subject."""
    if subject is None or path.stat().st_size > _LARGEST_OWN:
        return False
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError):
        return False
    if not isinstance(value, dict) or not str(value.get("schema")).startswith(_OWN_SCHEMAS):
        return False
    return _subject_of(value) == subject


def _subject_of(value: dict[str, object]) -> Subject | None:
    model, task = value.get("model"), value.get("task")
    checkpoint, spec = value.get("checkpoint"), value.get("spec")
    if isinstance(model, dict) and isinstance(task, dict):
        return Subject(str(model.get("sha256")), str(task.get("spec_sha256")))
    if isinstance(checkpoint, dict) and isinstance(spec, dict):
        return Subject(str(checkpoint.get("sha256")), str(spec.get("sha256")))
    return None
