"""Batched kernels of the search: the elementwise and attention meanings on stacks of terms.

Arrays carry a leading axis of terms: values are [term, probe, query] integers or bool, selectors
[term, probe, query, key] bool; ``query`` is 1 for whole-sequence terms. The kernels know nothing of costs, terms or
goals.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.search.hashing import hash_weights as hash_weights

Values = NDArray[np.signedinteger[Any]]
Booleans = NDArray[np.bool_]
Array = NDArray[Any]


def elementwise(operator: str, left: Array, right: Array) -> Array:
    """Apply a binary operator to stacks that broadcast against each other.

    Division and remainder assume a positive divisor (the caller offers only constants).
    Raises:  KeyError for an operator that is not elementwise.
    """
    result = ELEMENTWISE[operator](left, right)
    return np.asarray(result)


#: Binary operators cell by cell, by the kernels' names.
ELEMENTWISE: dict[str, np.ufunc] = {
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
    n_v, n_cells = len(values), selectors.shape[1] * selectors.shape[2]
    result = np.full((len(selectors), n_v, n_cells), fill, dtype=values.dtype)
    better = np.maximum if largest else np.minimum
    # few keys, many pairs: one pass over all pairs per key, its values spread over the queries
    for key in range(selectors.shape[3]):
        chosen = np.ascontiguousarray(selectors[..., key]).reshape(-1, 1, n_cells)
        value = np.repeat(values[..., key], selectors.shape[2], axis=1)
        better(result, np.where(chosen, value, fill), out=result)
    result[result == fill] = default
    return result.reshape(-1, n_v, *selectors.shape[1:3])


def stable_rank(values: Values, valid: Booleans) -> Values:
    """Rank each value among its row by (value, position). Shape: [v, probe, key] -> same; 0 beyond a length."""
    # key first: each comparison of two positions is one pass over all rows
    by_key = np.ascontiguousarray(values.transpose(2, 0, 1))
    rank = np.zeros(by_key.shape, dtype=np.int8 if len(by_key) < 128 else values.dtype)
    for key, column in enumerate(by_key):
        counts = valid[None, :, key]
        rank[:key] += (column < by_key[:key]) & counts
        rank[key + 1 :] += (column <= by_key[key + 1 :]) & counts
    return np.where(valid[None], rank.transpose(1, 2, 0), values.dtype.type(0)).astype(values.dtype, copy=False)
