"""The checker's own reading of a table of inputs and outputs, and its answers by binary search among sorted rows.

Nothing is rounded: an answer that the table has is decided, whatever its margin would be; one that it lacks never is.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from extract.check.language import Bools, Ints
from extract.check.reader import Unreadable, read_bytes
from extract.check.spec import ABSENT, Task
from extract.check.weights import Floats

_FILE_BYTES, _ARRAY_BYTES, _HEADER_BYTES, _LIST_BYTES = 1 << 27, 1 << 27, 4096, 1 << 16
_MALFORMED = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError, KeyError)


def find_table(checkpoint: Path, facts: dict[str, Any]) -> Path | None:
    """Return the table that a checkpoint path means, None if it means a network."""
    is_told = facts.get("format") == "table"
    if not checkpoint.is_dir():
        return checkpoint if _is_table(checkpoint, is_told) else None
    if not is_told and (checkpoint / "model.safetensors").exists():
        return None
    named, every = checkpoint / "table.npz", sorted(checkpoint.glob("*.npz"))
    found = named if named.exists() else every[0] if len(every) == 1 else None
    return found if found is not None and _is_table(found, is_told) else None


def _is_table(path: Path, is_told: bool) -> bool:
    """Say whether a file is a zip archive of a table's two arrays, or any zip archive where the spec says so."""
    try:
        if path.exists() and not path.is_file():
            raise Unreadable(f"{path}: not a regular file")
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":
                return False
        with zipfile.ZipFile(path) as archive:
            return is_told or {"inputs.npy", "outputs.npy"} <= set(archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return is_told
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror or error}") from error


class TableRows:
    """A table's distinct rows in lexicographic order, as ids, -1 past the end; ``digest`` is of the file.

    Raises:  Unreadable for a file that is no such table, or one that answers an input in two ways.
    """

    def __init__(self, path: Path) -> None:
        self.facts: dict[str, Any] = {"format": "table"}
        data = read_bytes(path, _FILE_BYTES)
        self.digest = hashlib.sha256(data).hexdigest()
        try:
            inputs, outputs = _arrays(data)
        except (*_MALFORMED, MemoryError) as error:
            raise Unreadable(f"{path}: not a table of inputs and outputs: {error}") from error
        for ids in (inputs, outputs):
            if ids.size and (ids.min() < -1 or ((ids[:, 1:] >= 0) & (ids[:, :-1] < 0)).any()):
                raise Unreadable(f"{path}: a row has an id below -1, or one after -1")
        order = np.lexsort((np.zeros(len(inputs)), *inputs.T[::-1]))
        inputs, outputs = inputs[order], outputs[order]
        same = (inputs[1:] == inputs[:-1]).all(axis=1)
        if (same & (outputs[1:] != outputs[:-1]).any(axis=1)).any():
            raise Unreadable(f"{path}: two rows answer one input differently")
        self.inputs, self.outputs = inputs, outputs

    def find(self, tokens: Ints) -> Ints:
        """Return the place of each string of one length, -1 where there is none. Shapes: [n, length], [n]."""
        width = self.inputs.shape[1]
        if tokens.shape[1] > width:
            return np.full(len(tokens), -1, np.int64)
        wanted = np.pad(tokens, ((0, 0), (0, width - tokens.shape[1])), constant_values=-1)
        low, high = np.zeros(len(tokens), np.int64), np.full(len(tokens), len(self.inputs), np.int64)
        while (low < high).any():
            middle = (low + high) // 2
            is_less = (low < high) & _before(self.inputs[np.minimum(middle, len(self.inputs) - 1)], wanted)
            low, high = np.where(is_less, middle + 1, low), np.where(is_less, high, np.where(low < high, middle, high))
        place = np.minimum(low, len(self.inputs) - 1)
        return np.where((self.inputs[place] == wanted).all(axis=1), place, -1)


def _before(left: Ints, right: Ints) -> Any:
    """Say which rows come before others of the same width, in lexicographic order."""
    differs = left != right
    first = differs.argmax(axis=1) if left.shape[1] else np.zeros(len(left), np.int64)
    rows = np.arange(len(left))
    return differs.any(axis=1) & (left[rows, first] < right[rows, first]) if left.shape[1] else differs.any(axis=1)


def _arrays(data: bytes) -> tuple[Ints, Ints]:
    end = data.rfind(b"PK\x05\x06")
    if end < 0 or int.from_bytes(data[end + 12 : end + 16], "little") > _LIST_BYTES:
        raise ValueError("no list of a few entries at the end")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sorted(archive.namelist()) != ["inputs.npy", "outputs.npy"]:
            raise ValueError(f"holds {archive.namelist()[:4]}")
        inputs, outputs = (_array(archive, name) for name in ("inputs.npy", "outputs.npy"))
    outputs = outputs[:, None] if outputs.ndim == 1 else outputs
    if inputs.ndim != 2 or outputs.ndim != 2 or not len(inputs) == len(outputs) > 0:
        raise ValueError(f"shapes {inputs.shape} and {outputs.shape}")
    return inputs, outputs


def _array(archive: zipfile.ZipFile, name: str) -> Ints:
    if archive.getinfo(name).file_size > _ARRAY_BYTES:
        raise ValueError(f"{name} is too large")
    with archive.open(name) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(stream, max_header_size=_HEADER_BYTES)
        if dtype.kind not in "iu":
            raise ValueError(f"{name} has dtype {dtype}, expected whole numbers")
        flat = np.frombuffer(stream.read(_ARRAY_BYTES), dtype)
    return flat.reshape(shape, order="F" if is_fortran else "C").astype(np.int64)


class TableAnswers:
    """A table read out as a task says, in the shape of ``answers.Model``."""

    work = 1

    def __init__(self, task: Task, rows: TableRows) -> None:
        self.task, self.table = task, rows
        codes = np.arange(2) if task.kind == "multilabel" else task.output_codes
        self._codes = np.append(codes, ABSENT)
        lengths = (rows.inputs >= 0).sum(axis=1)
        n_cells, limit = (rows.outputs >= 0).sum(axis=1), task.max_new or rows.outputs.shape[1]
        right = n_cells == (len(task.choices) if task.kind == "multilabel" else lengths if task.at == "every" else 1)
        if task.at == "generate":
            right = n_cells <= limit
        allowed = np.arange(2) if task.kind == "multilabel" else task.choices
        stops = [task.labels.index(task.names[task.stop])] if task.at == "generate" and task.stop is not None else []
        allowed = np.setdiff1d(np.append(allowed, -1), stops)
        is_known = rows.inputs.max(initial=-1) < len(task.names) and np.isin(rows.outputs, allowed).all()
        if not (is_known and right.all() and task.offsets == [0] and task.kind in ("argmax", "multilabel")):
            raise Unreadable("the table's ids, answers or offsets do not fit the spec")

    def width(self, length: int, _: int) -> int:
        """Return the number of cells of an answer to an input of a length."""
        if self.task.kind == "multilabel":
            return len(self.task.choices)
        if self.task.at == "generate":
            return int(self.task.max_new or self.table.outputs.shape[1])
        return length if self.task.at == "every" else 1

    def fits(self, _: int, offset: int) -> bool:
        """Say whether there is anything at an offset."""
        return offset == 0

    def rows(self, _: int, __: int) -> int:
        """Return how many inputs to look up at a time."""
        return 4096

    def is_endless(self, _: int) -> bool:
        """Say that margins are infinite: no second choice is near."""
        return True

    def answers(self, tokens: Ints, _: int, __: Ints) -> tuple[Ints, Floats, Floats, Bools]:
        """Return cells, margins (infinite, or 0 without a row), bounds (0), and which cells a row decides."""
        place, width = self.table.find(tokens), self.width(tokens.shape[1], 0)
        cells = self._codes[self.table.outputs[place]]
        cells[place < 0] = ABSENT
        cells = np.pad(cells, ((0, 0), (0, max(0, width - cells.shape[1]))), constant_values=ABSENT)[:, :width]
        sure = np.repeat((place >= 0)[:, None], width, axis=1)
        return cells, np.where(place < 0, 0.0, np.inf), np.zeros(len(place)), sure
