"""Batched kernels of the search: hashing, deduplication and the elementwise and attention meanings on stacks of terms.

Arrays carry a leading axis of terms: values are [term, probe, query] integers or bool, selectors
[term, probe, query, key] bool; ``query`` is 1 for whole-sequence terms. The kernels know nothing of costs, terms or
goals. A hash only proposes: every result is compared cell by cell against the language's own meaning afterwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.signedinteger[Any]]
Booleans = NDArray[np.bool_]
Array = NDArray[Any]
Hashes = NDArray[np.uint64]

_MIX = np.uint64(0x9E3779B97F4A7C15)


def hash_weights(n_cells: int) -> Hashes:
    """Return two rows of odd random weights, the same for every run. Shape: [2, cell]."""
    rng = np.random.default_rng(0x5EED)
    weights = rng.integers(0, 1 << 63, size=(2, n_cells), dtype=np.uint64)
    return weights * np.uint64(2) + np.uint64(1)


def hash_rows(rows: Values | Booleans, weights: Hashes) -> Hashes:
    """Hash each row of cells to 128 bits.

    Shape:   rows [term, cell] of int16, int32 or bool -> [term, 2]; whole cells are packed into 64-bit words first.
    Each cell is mixed (multiply, xor-shift) before the wrap-around dot product, so that rows which are linear
    combinations of others do not collide by construction.
    """
    cells: Array = np.packbits(rows, axis=1) if rows.dtype == np.bool_ else rows
    pad = (-cells.shape[1]) % (8 // cells.itemsize)
    if pad or not cells.flags.c_contiguous:
        cells = np.ascontiguousarray(np.pad(cells, ((0, 0), (0, pad))))
    words = cells.view(np.uint64)
    mixed = words * _MIX
    mixed ^= mixed >> np.uint64(29)
    columns = weights[:, : words.shape[1]]
    return np.stack([(mixed * column).sum(axis=1, dtype=np.uint64) for column in columns], axis=1)


def first_occurrences(hashes: Hashes) -> NDArray[np.intp]:
    """Return the indices of the first row with each distinct hash, in order of appearance.

    Shape:   [term, 2] -> [distinct].
    """
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    ordered = hashes[order]
    fresh = np.ones(len(order), dtype=np.bool_)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    # lexsort is stable, so the first of each run is the earliest of its class
    return np.sort(order[fresh])


class SeenHashes:
    """The hashes already in a bucket, as one sorted array; membership by binary search."""

    def __init__(self) -> None:
        self._first: Hashes = np.zeros(0, dtype=np.uint64)
        self._second: Hashes = np.zeros(0, dtype=np.uint64)

    def __len__(self) -> int:
        return len(self._first)

    def contains(self, hashes: Hashes) -> Booleans:
        """Say for each row whether it is known. Shape: [term, 2] -> [term]."""
        if not len(self._first):
            return np.zeros(len(hashes), dtype=np.bool_)
        at = np.searchsorted(self._first, hashes[:, 0])
        at = np.minimum(at, len(self._first) - 1)
        return np.asarray((self._first[at] == hashes[:, 0]) & (self._second[at] == hashes[:, 1]))

    def add(self, hashes: Hashes) -> None:
        """Add rows that are not known and distinct."""
        first = np.concatenate([self._first, hashes[:, 0]])
        second = np.concatenate([self._second, hashes[:, 1]])
        order = np.argsort(first, kind="stable")
        self._first, self._second = first[order], second[order]


def elementwise(operator: str, left: Array, right: Array) -> Array:
    """Apply a binary operator to stacks that broadcast against each other.

    Division and remainder assume a positive divisor (the caller offers only constants).
    Raises:  KeyError for an operator that is not elementwise.
    """
    result = _ELEMENTWISE[operator](left, right)
    return np.asarray(result)


_ELEMENTWISE = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "floordiv": np.floor_divide, "mod": np.remainder,
    "min": np.minimum, "max": np.maximum, "eq": np.equal, "lt": np.less, "le": np.less_equal,
    "and": np.logical_and, "or": np.logical_or,
}  # fmt: skip


def relate(relation: str, keys: Values, queries: Values, valid: Booleans) -> Booleans:
    """Build selectors from keys and queries.

    Shape:   keys [k, probe, key], queries [q, probe, query] -> [k, q, probe, query, key]; keys beyond a length are
             never selected.
    """
    left = keys[:, None, :, None, :]
    right = queries[None, :, :, :, None]
    match relation:
        case "==":
            result = left == right
        case "<":
            result = left < right
        case "<=":
            result = left <= right
        case ">":
            result = left > right
        case ">=":
            result = left >= right
        case _:
            result = left != right
    return np.asarray(result & valid[None, None, :, None, :])


def sums(selectors: Booleans, values: Values) -> Values:
    """Sum the selected values: exact, since float32 holds every integer below 2^24.

    Shape:   selectors [s, probe, query, key], values [v, probe, key] -> [s, v, probe, query].
    """
    n_s, n, n_q, n_k = selectors.shape
    left = selectors.transpose(1, 0, 2, 3).reshape(n, n_s * n_q, n_k).astype(np.float32)
    right = values.transpose(1, 2, 0).astype(np.float32)
    product = np.matmul(left, right).reshape(n, n_s, n_q, values.shape[0])
    return np.asarray(np.rint(product).astype(values.dtype).transpose(1, 3, 0, 2))


def picks(selectors: Booleans, values: Values, *, last: bool, default: int) -> Values:
    """Return the value at the first or last selected key, or the default where nothing is selected.

    Shape:   selectors [s, probe, query, key], values [v, probe, key] -> [s, v, probe, query].
    """
    n_k = selectors.shape[-1]
    if n_k == 0:
        return np.full((len(selectors), len(values), *selectors.shape[1:3]), default, dtype=values.dtype)
    index = n_k - 1 - selectors[..., ::-1].argmax(axis=-1) if last else selectors.argmax(axis=-1)
    none = np.logical_not(selectors.any(axis=-1))
    rows = np.arange(selectors.shape[1])[None, :, None]
    gathered = values[:, rows, index]  # [v, s, probe, query]
    gathered = np.where(np.expand_dims(none, 0), values.dtype.type(default), gathered)
    return gathered.transpose(1, 0, 2, 3)


def extremes(selectors: Booleans, values: Values, *, largest: bool, default: int) -> Values:
    """Return the least or greatest selected value, or the default where nothing is selected.

    Shape:   selectors [s, probe, query, key], values [v, probe, key] -> [s, v, probe, query].
    """
    bound = np.iinfo(values.dtype)
    fill = values.dtype.type(bound.min if largest else bound.max)
    stack = np.where(selectors[:, None], values[None, :, :, None, :], fill)
    if stack.shape[-1] == 0:
        return np.full(stack.shape[:-1], default, dtype=values.dtype)
    result = stack.max(axis=-1) if largest else stack.min(axis=-1)
    return np.asarray(np.where(result == fill, values.dtype.type(default), result))


def stable_rank(values: Values, valid: Booleans) -> Values:
    """Rank each value among its row by (value, position). Shape: [v, probe, key] -> same; 0 beyond a length."""
    beyond = np.iinfo(values.dtype).max
    order = np.argsort(np.where(valid[None], values, values.dtype.type(beyond)), axis=-1, kind="stable")
    rank = np.empty_like(values)
    places = np.broadcast_to(np.arange(values.shape[-1], dtype=values.dtype), values.shape)
    np.put_along_axis(rank, order, places, axis=-1)
    return np.where(valid[None], rank, values.dtype.type(0))
