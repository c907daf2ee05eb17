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
#: Probes looked at before the rest.
_FIRST_PROBES = 6


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


def _cheapest(bank: Bank, key: Key, cost: int, limit: int) -> tuple[Array, NDArray[np.int32]]:
    values, ids = bank.rows_up_to(key, cost)
    return values[:limit], ids[:limit]


def _matching(
    keys: Array, query: Array, values: Array, goal: Goal, valid: NDArray[np.bool_]
) -> Iterator[tuple[int, int]]:
    """Yield (row of keys, row of values) whose read gives the goal on every cell that counts."""
    telling = np.flatnonzero(goal.mask.any(axis=1))
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
