"""Tables of inputs and outputs with their specs, written the way a person would: numpy.savez and a spec.toml."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import numpy as np

SPEC = """
version = 1
name = "{name}"

[model]
format = "table"

[tokens]
vocab = {vocab}
numeric = {numeric}

[domain]
min_length = {shortest}
max_length = {longest}
template = "{{x}}"

[readout]
{readout}
"""

Row = tuple[int, ...]


def padded(rows: Iterable[Iterable[int]], dtype: str = "int16") -> np.ndarray:
    """Rows of ids as one array, -1 past the end of each."""
    lists = [list(row) for row in rows]
    array = np.full((len(lists), max(map(len, lists), default=0)), -1, dtype=dtype)
    for i, row in enumerate(lists):
        array[i, : len(row)] = row
    return array


def strings(n_letters: int, shortest: int, longest: int) -> list[Row]:
    """Every string of letters, shortest first."""
    return [row for n in range(shortest, longest + 1) for row in product(range(n_letters), repeat=n)]


def write_table(
    folder: Path,
    answer: Callable[[Row], Iterable[int]],
    *,
    n_letters: int = 3,
    shortest: int = 1,
    longest: int = 4,
    readout: str = 'at = "every"',
    numeric: bool = True,
    name: str = "a table",
) -> Path:
    """Write the table of a function on every string of the letters, and its spec; return the folder."""
    rows = strings(n_letters, shortest, longest)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "table.npz", inputs=padded(rows), outputs=padded(answer(row) for row in rows))
    vocab = [str(i) if numeric else "abcdefgh"[i] for i in range(n_letters)]
    spec = SPEC.format(
        name=name, vocab=str(vocab).replace("'", '"'), numeric=str(numeric).lower(), shortest=shortest, longest=longest,
        readout=readout,
    )  # fmt: skip
    (folder / "spec.toml").write_text(spec, encoding="utf-8")
    return folder
