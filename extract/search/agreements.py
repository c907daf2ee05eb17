"""Sequences that agree everywhere: ``all(a == b)`` for a boolean goal, over all pairs of bank terms.

Where the goal holds both sides are the same sequence, so equal hashes of the cells of those probes pair them up; where
it fails they must differ somewhere. Palindromes and repetitions are such goals. It proposes, the gate compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.lang.terms import Term
from extract.search.bank import Bank, Key, Tag
from extract.search.builders import binary
from extract.search.goals import Goal
from extract.search.hashing import hash_weights

Array = NDArray[Any]

_TAGS: tuple[Tag, ...] = ("T", "N")
_MOST_ROWS, _BLOCK = 1 << 16, 1 << 12
_MOST_OF_GROUP, _MOST_FOUND = 96, 6


def proposals(bank: Bank, goal: Goal, cost: int) -> Iterator[Term]:
    """Yield ``all(a == b)`` over position-wise terms up to a cost, one of them of exactly that cost.

    Cost:    one hash per term, then the pairs of equal hash; groups are cut to their cheapest members.
    """
    holds = goal.target.astype(np.bool_)[:, 0]
    if goal.kind != "B" or goal.shape != "whole" or not holds.any() or holds.all():
        return
    n_found = 0
    for tag in _TAGS:
        key = Key("I", tag, "position")
        values, ids = bank.rows_up_to(key, cost)
        values, ids = values[:_MOST_ROWS], ids[:_MOST_ROWS]
        n_old = bank.n_below(key, cost)
        for left, right in _agreeing(values, holds, n_old):
            pair = binary("eq", bank.term(int(ids[left])), bank.term(int(ids[right])))
            yield Term("all", (pair,))
            n_found += 1
            if n_found == _MOST_FOUND:
                return


def _agreeing(values: Array, holds: NDArray[np.bool_], n_old: int) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows that are equal on exactly the probes where the goal holds, one of them at least new."""
    if len(values) <= n_old:
        return
    hashes = _hashes(values, holds)
    order = np.argsort(hashes, kind="stable")
    starts = np.flatnonzero(np.r_[True, hashes[order][1:] != hashes[order][:-1]])
    sizes = np.diff(np.r_[starts, len(order)])
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        members = np.sort(order[start : start + size])
        fresh = members[members >= n_old][:_MOST_OF_GROUP]
        members = members[:_MOST_OF_GROUP]
        for right in fresh:
            differs = (values[members][:, ~holds] != values[right][~holds]).any(axis=2).all(axis=1)
            for left in members[differs]:
                same = bool((values[left][holds] == values[right][holds]).all())
                if left < right and same:
                    yield int(left), int(right)


def _hashes(values: Array, holds: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Hash the cells of the probes where the goal holds. Shape: [term]."""
    cells = int(holds.sum()) * values.shape[2]
    weights = hash_weights(cells)[0][:cells]
    parts = [
        (part[:, holds].reshape(len(part), -1).astype(np.int64).view(np.uint64) * weights).sum(axis=1, dtype=np.uint64)
        for part in (values[i : i + _BLOCK] for i in range(0, len(values), _BLOCK))
    ]
    return np.concatenate(parts)
