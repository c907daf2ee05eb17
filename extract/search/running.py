"""What runs along the input: sums and base-b values so far, and the letter values they add up.

One place says which of them are on offer, and what they give on rows of values; costs are the language's.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.lang.cost import node_cost
from extract.lang.terms import Datum, Term
from extract.search.builders import TOKENS
from extract.search.frame import Frame

Array = NDArray[Any]

#: More letters than this have too many signed values to offer.
_MOST_LETTERS = 6
_MOST_MODULI = 6
_LARGEST_MODULUS = 16


def letter_values(symbols: tuple[str, ...]) -> Iterator[tuple[tuple[Datum, ...], int]]:
    """Yield tables that give letters the values 1, -1 and 0, each with its cost as a term; two letters at least.

    What one letter against all others gives is ``int(tokens == letter)`` and needs no table.
    """
    if not 2 <= len(symbols) <= _MOST_LETTERS:
        return
    tables: list[tuple[tuple[tuple[str, int], ...], int]] = [(((letter, -1),), 1) for letter in symbols]
    if len(symbols) > 2:
        tables += [(((letter, 1),), -1) for letter in symbols]
        tables += [(((up, 1), (down, -1)), 0) for up, down in permutations(symbols, 2)]
    for entries, default in tables:
        data: tuple[Datum, ...] = (tuple(sorted(entries)), default)
        yield data, 1 + node_cost(Term("table", (TOKENS,), data))


def horner_forms(constants: tuple[int, ...]) -> Iterator[tuple[tuple[Datum, ...], int]]:
    """Yield the factors and moduli offered to ``horner``, each with the cost of the node."""
    moduli = [c for c in constants if 2 <= c <= _LARGEST_MODULUS][:_MOST_MODULI]
    for a in (1, 2):
        for m in (0, *moduli) if a == 1 else moduli:
            data: tuple[Datum, ...] = (a, m)
            yield data, node_cost(Term("horner", (TOKENS,), data))


def horner_rows(rows: Array, data: tuple[Datum, ...]) -> Array:
    """Return r = a * r + x (mod m) from the left. Shape: [term, probe, key] -> same, in the rows' type."""
    a, m = (int(datum) for datum in data if isinstance(datum, int))
    if a == 1:
        total = np.cumsum(rows, axis=-1, dtype=rows.dtype if not m else np.int64)
        return (total % m).astype(rows.dtype) if m else total
    result = np.zeros(rows.shape, dtype=np.int64)
    so_far = np.zeros(rows.shape[:-1], dtype=np.int64)
    for i in range(rows.shape[-1]):
        so_far = (a * so_far + rows[..., i]) % m
        result[..., i] = so_far
    return result.astype(rows.dtype)


def table_rows(rows: Array, data: tuple[Datum, ...], frame: Frame) -> Array:
    """Return the entries listed for letters. Shape: [term, probe, key] -> same."""
    entries, default = data
    result = np.full_like(rows, default)
    for entry in entries if isinstance(entries, tuple) else ():
        assert isinstance(entry, tuple) and isinstance(entry[1], int)
        code = np.array([frame.vocabulary.symbol_code(str(entry[0]))], dtype=np.int32)
        result[rows == frame.narrow(code)[0]] = entry[1]
    return result
