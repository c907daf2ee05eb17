"""Tables of inputs and outputs: ``inputs[row, position]`` and ``outputs[row, cell]``, ids, -1 past the end.

It makes a ``TableModel`` of a checked archive and refuses to know what the ids mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import CheckpointError
from extract.formats.gates import OpenedFile
from extract.formats.npz import entry_names, read_archive
from extract.table_model import LARGEST_ID, TableModel

NAME = "table"
TITLE = "a table of inputs and outputs"
_ARRAYS = ("inputs", "outputs")
_MATRIX_RANK = 2
_LARGEST_ROWS = 1 << 22


def is_table(file: OpenedFile) -> bool:
    """Say whether a file is an archive that lists the arrays of a table."""
    return entry_names(file) >= {f"{name}.npy" for name in _ARRAYS}


def read_table(file: OpenedFile) -> TableModel:
    """Read a table.

    Raises:  CheckpointError for a file that is none, ids that are none, and rows that contradict each other.
    """
    archive = read_archive(file, _ARRAYS)
    inputs, outputs = (_ids(archive.arrays[name], name, file.place) for name in _ARRAYS)
    try:
        return TableModel(inputs, outputs, archive.digest, str(archive.arrays["inputs"].dtype))
    except CheckpointError as error:
        raise error.at(file.place) from None


def evidence_of(table: TableModel) -> tuple[str, ...]:
    """Return what settled the format, and what the rows show, in sentences."""
    shape = table.shape
    repeated = shape.n_rows - len(table.distinct)
    lengths = f"{shape.min_length} to {shape.max_length}" if shape.min_length < shape.max_length else shape.max_length
    again = f", {repeated} of them repeat another" if repeated else ", all inputs different"
    return (
        "an archive of exactly inputs.npy and outputs.npy, whole numbers, one row for each input",
        f"{shape.n_rows} rows{again}; inputs of {lengths} tokens",
        f"token ids below {shape.d_vocab}, output ids below {shape.d_vocab_out}, at most {shape.n_cells} to an answer",
    )


def spec_lines(table: TableModel) -> tuple[str, ...]:
    """Return what a spec must say of a table."""
    shape = table.shape
    return (
        f"[tokens] vocab = at least {shape.d_vocab} names, list index = id",
        f"[readout] outputs = at least {shape.d_vocab_out} names, unless answers are tokens",
        f"[domain] max_length, at most {shape.max_length}: every input of the domain needs a row",
        "[readout] at and kind",
    )


def _ids(array: NDArray[Any], name: str, place: str) -> NDArray[np.int32]:
    """Return [row, cell] ids as int32; one answer a row may be stored as a plain list."""
    if array.ndim == 1 and name == "outputs":
        array = array[:, None]
    if array.ndim != _MATRIX_RANK:
        raise CheckpointError(f"{name} has shape {list(array.shape)}, expected [row, position]", place=place)
    if len(array) > _LARGEST_ROWS:
        raise CheckpointError(f"{name} has {len(array)} rows, expected at most {_LARGEST_ROWS}", place=place)
    if array.size and not -1 <= int(array.min()) <= int(array.max()) <= LARGEST_ID:
        bad = (array < -1) | (array > LARGEST_ID) if array.dtype.kind == "i" else array > LARGEST_ID
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise CheckpointError(
            f"{name}[{row}, {column}] is {array[row, column]}, expected ids, -1 past the end", place=place
        )
    return np.ascontiguousarray(array, dtype=np.int32)
