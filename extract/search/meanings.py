"""What each operator of the searched fragment does to rows of values, term by term: how dropped values are recomputed.

Arguments are stacks with one row per term, already on the probes of the frame; growth uses the crossing kernels, and
the two must agree. Cells beyond a length are the caller's to cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.lang.elementwise import ELEMENTWISE, RELATION
from extract.lang.terms import Datum
from extract.search import kernels
from extract.search.frame import NO_SYMBOL, Frame
from extract.search.running import horner_rows, table_rows

Array = NDArray[Any]

_LEAVES = frozenset(
    {
        "tokens",
        "indices",
        "length",
        "prompt_length",
        "step",
        "symbol",
        "integer",
        "before",
        "upto",
        "after",
        "everywhere",
    }
)
_HEADS = frozenset({"selector_width", "exists", "first", "last", "sum_over", "min_over", "max_over"})
_SUMMARIES = frozenset({"count", "any", "all", "running_count", "rank", "shift", "keys_where"})


def apply_rows(
    operator: str, data: tuple[Datum, ...], arguments: list[Array], frame: Frame, n_terms: int, tag: str
) -> Array:
    """Return the values of ``n_terms`` terms with one operator; row i of every argument belongs to term i.

    Shape:   integers and booleans [term, probe, query], selectors [term, probe, query, key]; axes of length 1 spread.
    ``tag`` is the result's: it says whether nothing picked is 0 or no symbol.
    Raises:  KeyError for an operator that the fragment does not have.
    """
    if operator in _LEAVES:
        return np.repeat(leaf(operator, data, frame), n_terms, axis=0)
    default = NO_SYMBOL if tag == "T" else 0
    if operator == "select":
        keys, queries = arguments
        relation = RELATION[str(data[0])]
        return np.asarray(relation(keys[:, :, None, :], queries[:, :, :, None]) & frame.valid[None, :, None, :])
    if operator in _HEADS:
        return _head(operator, arguments, default)
    if operator in _SUMMARIES:
        return _summary(operator, data, arguments[0], frame, default)
    if operator == "horner":
        return horner_rows(arguments[0], data)
    if operator == "table":
        return table_rows(arguments[0], data, frame)
    if operator == "int":
        return arguments[0].astype(frame.tokens.dtype)
    return np.asarray(ELEMENTWISE[operator](*arguments))


def leaf(operator: str, data: tuple[Datum, ...], frame: Frame) -> Array:
    """Return the values of a leaf. Shape: [1, probe, query(, key)]."""
    n, n_k = frame.valid.shape
    dtype = frame.tokens.dtype
    query, key = np.arange(n_k)[:, None], np.arange(n_k)[None, :]
    match operator:
        case "tokens":
            return frame.tokens[None]
        case "indices":
            return np.broadcast_to(np.arange(n_k, dtype=dtype), (1, n, n_k))
        case "length":
            return frame.lengths.astype(dtype)[None, :, None]
        case "prompt_length":
            prompts = frame.lengths if frame.prompts is None else frame.prompts
            return prompts.astype(dtype)[None, :, None]
        case "step":
            n_j = frame.care.shape[1]
            return np.broadcast_to(np.arange(n_j, dtype=dtype), (1, n, n_j))
        case "symbol":
            code = np.array([frame.vocabulary.symbol_code(str(data[0]))], dtype=np.int32)
            return np.full((1, n, 1), frame.narrow(code)[0], dtype=dtype)
        case "integer":
            return np.full((1, n, 1), data[0], dtype=dtype)
        case "everywhere":
            return np.broadcast_to(np.True_, (1, n, 1, n_k))
        case _:
            masks = {"before": key < query, "upto": key <= query, "after": key > query}
            return np.broadcast_to(masks[operator], (1, n, n_k, n_k))


def shifted(rows: Array, k: int, default: int, valid: Array) -> Array:
    """Return rows moved k positions to the right, or to the left for k below 0. Shape: [term, probe, key] -> same."""
    result = np.full_like(rows, default)
    width = rows.shape[-1]
    if 0 <= k < width:
        result[..., k:] = rows[..., : width - k]
    elif -width < k < 0:
        # what lies beyond a length is no value to move in
        result[..., :k] = np.where(valid[None, :, -k:], rows[..., -k:], rows.dtype.type(default))
    return result


def _head(operator: str, arguments: list[Array], default: int) -> Array:
    selectors = arguments[0]
    if operator == "exists":
        return np.asarray(selectors.any(axis=-1))
    if operator == "selector_width":
        return np.asarray(selectors.sum(axis=-1))
    values = arguments[1]
    if operator == "sum_over":
        return np.asarray(np.where(selectors, values[:, :, None, :], values.dtype.type(0)).sum(axis=-1))
    rows = []
    for selector, value in zip(selectors, values, strict=True):
        pair = selector[None], value[None]
        if operator in ("first", "last"):
            rows.append(kernels.picks(*pair, last=operator == "last", default=default)[0, 0])
        else:
            rows.append(kernels.extremes(*pair, largest=operator == "max_over", default=default)[0, 0])
    return np.stack(rows)


def _summary(operator: str, data: tuple[Datum, ...], rows: Array, frame: Frame, default: int) -> Array:
    dtype = frame.tokens.dtype
    match operator:
        case "count":
            return np.asarray(rows.sum(axis=-1, dtype=dtype, keepdims=True))
        case "any":
            return np.asarray(rows.any(axis=-1, keepdims=True))
        case "all":
            return np.asarray((rows | ~frame.valid).all(axis=-1, keepdims=True))
        case "running_count":
            return np.cumsum(rows, axis=-1, dtype=dtype)
        case "rank":
            return kernels.stable_rank(rows, frame.valid)
        case "keys_where":
            return rows[:, :, None, :]
        case _:
            k = data[0]
            assert isinstance(k, int)
            return shifted(rows, k, default, frame.valid)
