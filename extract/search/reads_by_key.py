"""Reads by key that the bank need not hold: ``first(select(keys, query, '=='), values)`` for every bank term as keys.

A selector over dear keys is dear, and few of all selectors fit a bank; but keys are few, cheap queries and values
fewer, and whether a read gives a goal is decided by following it on the probes. Sorting by a rank and looking up by a
count are such reads. It proposes and knows no costs beyond the order in which the bank holds its terms.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.lang.terms import Term
from extract.search.bank import Bank, Key, Tag
from extract.search.builders import pick
from extract.search.frame import NO_SYMBOL
from extract.search.goals import Goal

Array = NDArray[Any]

_TAGS: tuple[Tag, ...] = ("N", "T")
#: The cheapest queries and values of each sort; what is dearer is left to the bank's own selectors.
_QUERY_COST, _MOST_QUERIES = 3, 10
_VALUE_COST, _MOST_VALUES = 3, 6
_MOST_FOUND = 6
_CELLS_PER_BLOCK = 1 << 21
#: Cells followed per call.
_MOST_CELLS = 1 << 27
#: Probes looked at before some more, and before the rest.
_FIRST_PROBES, _MORE_PROBES = 6, 24


def proposals(bank: Bank, goal: Goal, cost: int) -> Iterator[Term]:
    """Yield reads by keys of exactly this cost that give an integer goal on its cells.

    Cost:    one comparison of keys and query per probe, query and key; refuted reads stop after a few probes.
    """
    if goal.kind != "I" or not goal.tag:
        return
    values, value_ids = _cheapest(bank, Key("I", goal.tag, "position"), _VALUE_COST, _MOST_VALUES)
    n_left, n_found = _MOST_CELLS, 0
    for tag in _TAGS:
        keys, key_ids = bank.rows(Key("I", tag, "position"), cost)
        for shape in dict.fromkeys((goal.shape, "whole")):
            queries, query_ids = _cheapest(bank, Key("I", tag, shape), _QUERY_COST, _MOST_QUERIES)
            for query, query_id in zip(queries, query_ids, strict=True):
                wide = np.broadcast_to(query, goal.mask.shape)
                n_rows = min(len(keys), n_left // (keys[:1].size * goal.mask.shape[1] + 1))
                n_left -= n_rows * keys[:1].size * goal.mask.shape[1]
                for row, value in _matching(keys[:n_rows], wide, values, goal, bank.frame.valid):
                    terms = (bank.term(int(i)) for i in (key_ids[row], query_id, value_ids[value]))
                    yield pick(*terms)
                    n_found += 1
                    if n_found == _MOST_FOUND:
                        return


def extremes(bank: Bank, goal: Goal, cost: int) -> Iterator[Term]:
    """Yield reads where a key of exactly this cost is greatest or least, over the whole input or up to a position.

    Cost:    one comparison of keys with their running extreme per probe, query and key.
    """
    if goal.kind != "I" or not goal.tag or goal.shape == "step":
        return
    key = Key("I", "N", "position")
    keys, key_ids = bank.rows(key, cost)
    values, value_ids = _cheapest(bank, Key("I", goal.tag, "position"), _VALUE_COST, _MOST_VALUES // 2)
    valid, n_found = bank.frame.valid, 0
    telling = _telling(goal)
    n_rows = min(len(keys), _MOST_CELLS // (8 * keys[:1, telling[:_FIRST_PROBES]].size * goal.mask.shape[1] + 1))
    window = np.tril(np.ones((valid.shape[1],) * 2, dtype=np.bool_)) if goal.shape == "position" else None
    for name in ("max_over", "min_over"):
        for reader in ("first", "last", "min_over", "max_over"):
            fits = np.ones((n_rows, len(values)), dtype=np.bool_)
            for probes in (telling[:_FIRST_PROBES], telling[_FIRST_PROBES:_MORE_PROBES], telling[_MORE_PROBES:]):
                _narrow(fits, reader, name, keys, values, goal, window, valid, probes)
            for row, column in np.argwhere(fits):
                yield _extreme(bank, reader, name, int(key_ids[row]), int(value_ids[column]), window)
                n_found += 1
                if n_found == _MOST_FOUND:
                    return


def _narrow(
    fits: NDArray[np.bool_], reader: str, name: str, keys: Array, values: Array, goal: Goal, window: Array | None,
    valid: NDArray[np.bool_], probes: NDArray[np.intp],
) -> None:  # fmt: skip
    """Strike the pairs of keys and values whose read misses the goal on some probes. Shape: fits [keys, values]."""
    rows = np.flatnonzero(fits.any(axis=1))
    step = max(1, _CELLS_PER_BLOCK // max(1, keys[:1, probes].size * goal.mask.shape[1]))
    for start in range(0, len(rows) if len(probes) else 0, step):
        block = rows[start : start + step]
        chosen = _where_extreme(keys[block[:, None], probes], name, window, valid[probes])
        fits[block] &= _read(reader, chosen, values, goal, probes)


def _extreme(bank: Bank, reader: str, name: str, key_id: int, value_id: int, window: Array | None) -> Term:
    """Spell out the value at the keys that are extreme in a window."""
    key, value = bank.term(key_id), bank.term(value_id)
    where = Term("everywhere") if window is None else Term("upto")
    same = Term("select", (key, Term(name, (where, key))), ("==",))
    return Term(reader, (same if window is None else Term("and", (where, same)), value))


def _where_extreme(keys: Array, name: str, window: Array | None, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say which keys are extreme among those each query sees. Shape: [keys, probe, query, key]."""
    bound = np.iinfo(keys.dtype)
    far = keys.dtype.type(bound.min if name == "max_over" else bound.max)
    shown = np.where(valid[None], keys, far)
    extreme = np.maximum if name == "max_over" else np.minimum
    if window is None:
        best = extreme.reduce(shown, axis=-1)[..., None]
        return np.asarray((shown == best) & valid[None])[:, :, None, :]
    best = extreme.accumulate(shown, axis=-1)
    return np.asarray((shown[:, :, None, :] == best[..., None]) & valid[None, :, None, :] & window[None, None])


def _read(
    reader: str, chosen: NDArray[np.bool_], values: Array, goal: Goal, probes: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Say which reads give the goal on every cell of some probes that counts. Shape: [keys, values]."""
    fits = np.empty((len(chosen), len(values)), dtype=np.bool_)
    n_k = chosen.shape[-1]
    found = chosen.any(axis=-1)
    default = NO_SYMBOL if goal.tag == "T" else 0
    at = np.arange(chosen.shape[1])[None, :, None]
    place = chosen.argmax(axis=-1) if reader == "first" else n_k - 1 - chosen[..., ::-1].argmax(axis=-1)
    for column, value in enumerate(values[:, probes]):
        if reader in ("first", "last"):
            got = value[at, place]
        else:
            bound = np.iinfo(value.dtype)
            largest = reader == "max_over"
            far = value.dtype.type(bound.min if largest else bound.max)
            stack = np.where(chosen, value[None, :, None, :], far)
            got = stack.max(axis=-1) if largest else stack.min(axis=-1)
        got = np.where(found, got, value.dtype.type(default))
        fits[:, column] = ((got == goal.target[probes]) | ~goal.mask[probes]).all(axis=(1, 2))
    return fits


def _telling(goal: Goal) -> NDArray[np.intp]:
    """Return the probes with cells that count, those first that refute most: many cells, answers seldom seen before."""
    telling = np.flatnonzero(goal.mask.any(axis=1))
    _, first, inverse = np.unique(goal.target[telling], axis=0, return_index=True, return_inverse=True)
    is_first = first[inverse.ravel()] == np.arange(len(telling))
    return telling[np.lexsort((~is_first, -goal.mask[telling].sum(axis=1)))]


def _cheapest(bank: Bank, key: Key, cost: int, limit: int) -> tuple[Array, NDArray[np.int32]]:
    values, ids = bank.rows_up_to(key, cost)
    return values[:limit], ids[:limit]


def _matching(
    keys: Array, query: Array, values: Array, goal: Goal, valid: NDArray[np.bool_]
) -> Iterator[tuple[int, int]]:
    """Yield (row of keys, row of values) whose read gives the goal on every cell that counts."""
    telling = _telling(goal)
    first, rest = telling[:_FIRST_PROBES], telling[_FIRST_PROBES:]
    for start in range(0, len(keys), step := max(1, _CELLS_PER_BLOCK // max(1, keys[:1].size * query.shape[1]))):
        rows, columns = np.nonzero(_fits(keys[start : start + step], query, values, goal, valid, first))
        if not len(rows):
            continue
        kept = np.unique(rows)
        fits = _fits(keys[start + kept], query, values, goal, valid, rest)
        yield from (
            (start + int(row), int(column))
            for row, column in zip(rows, columns, strict=True)
            if fits[np.searchsorted(kept, row), column]
        )


def _fits(
    keys: Array, query: Array, values: Array, goal: Goal, valid: NDArray[np.bool_], probes: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Say which keys and values give the goal on some probes. Shape: [keys, values]."""
    same = (keys[:, probes, None, :] == query[None, probes, :, None]) & valid[None, probes, None, :]
    place = same.argmax(axis=-1)
    default = NO_SYMBOL if goal.tag == "T" else 0
    fits = np.empty((len(keys), len(values)), dtype=np.bool_)
    at, mask = np.arange(len(probes))[None, :, None], goal.mask[probes]
    found = same.any(axis=-1)
    for column, value in enumerate(values):
        read = np.where(found, value[probes][at, place], value.dtype.type(default))
        fits[:, column] = ((read == goal.target[probes]) | ~mask).all(axis=(1, 2))
    return fits
