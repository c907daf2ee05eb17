"""Conjunctions, disjunctions, minima and maxima of two or three bank terms, as covers of what each side explains.

``T = a and b`` needs both sides to hold wherever T does (containment) and one of them to fail wherever T fails
(cover); ``T = max(a, b)`` needs both at most T and one equal to it. A search for the least covers branches on the
cell that fewest sides cover. ``bits`` is what the goal has to tell: no three sides are tried where chance would do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.search.columns import MARGIN_BITS, Effort, Terms, Words, packed, unique_rows

Array = NDArray[Any]

_MOST_FOUND = 24
_MOST_SIDES = 1 << 14
_BLOCK = 1 << 18
_EFFORT_PER_BRANCH = 1 << 12
_MOST_COVERS = 1 << 12


class Side(NamedTuple):
    """One term (a row of a ``Terms``), negated or not."""

    row: int
    is_negated: bool


class Cover(NamedTuple):
    """Two or three sides under one operator: and, or, min, max. ``cost`` adds up the tree costs."""

    cost: int
    operator: str
    sides: tuple[Side, ...]


def connective_covers(terms: Terms, target: Array, effort: Effort, bits: float) -> Iterator[Cover]:
    """Yield conjunctions and disjunctions of two or three booleans or their negations that give the target."""
    if target.all() or not target.any() or not len(terms):
        return
    rows = np.concatenate([terms.values, ~terms.values])
    index = np.tile(np.arange(len(terms)), 2)
    negated = np.repeat([False, True], len(terms))
    costs = np.concatenate([terms.costs, terms.costs + 1])
    found: list[Cover] = []
    for name, holds, wanted in (("and", rows, target), ("or", ~rows, ~target)):
        inside = np.flatnonzero(holds[:, wanted].all(axis=1))
        explained = ~holds[np.ix_(inside, np.flatnonzero(~wanted))]
        fresh = index[inside] >= terms.n_old
        for cost, chosen in _covers(explained, costs[inside], fresh, effort, bits):
            sides = tuple(Side(int(index[inside[k]]), bool(negated[inside[k]])) for k in chosen)
            found.append(Cover(cost, name, sides))
    yield from sorted(found)


def extreme_covers(terms: Terms, target: Array, effort: Effort, bits: float) -> Iterator[Cover]:
    """Yield minima and maxima of two or three integers that give the target."""
    found: list[Cover] = []
    for name in ("min", "max"):
        beyond = terms.values >= target if name == "min" else terms.values <= target
        inside = np.flatnonzero(beyond.all(axis=1))
        explained = terms.values[inside] == target
        fresh = inside >= terms.n_old
        for cost, chosen in _covers(explained, terms.costs[inside], fresh, effort, bits):
            found.append(Cover(cost, name, tuple(Side(int(inside[k]), False) for k in chosen)))
    yield from sorted(found)


def _covers(
    explained: Array, costs: Array, fresh: Array, effort: Effort, bits: float
) -> list[tuple[int, tuple[int, ...]]]:
    """Return the cheapest sets of two, else three, rows that explain every column and hold a fresh row."""
    some = np.flatnonzero(explained.any(axis=1) & ~explained.all(axis=1))
    some = some[np.argsort(costs[some], kind="stable")]
    words = packed(explained[some])
    distinct = unique_rows(words)[:_MOST_SIDES]
    some, words = some[distinct], words[distinct]
    if len(some) < 2 or not explained[some].any(axis=0).all():
        return []
    search = _Search(words, explained[some], effort)
    for size in (2, 3):
        if size == 3 and 3 * math.log2(len(some)) + MARGIN_BITS > bits:
            break  # one of so many triples would fit by chance
        found = {tuple(sorted(int(some[k]) for k in rows)) for rows in islice(search.covers(size), _MOST_COVERS)}
        kept = [(int(costs[list(rows)].sum()) + size - 1, rows) for rows in found if fresh[list(rows)].any()]
        if kept:
            return sorted(kept)[:_MOST_FOUND]
    return []


class _Search:
    """Exact set cover by branching on the column that fewest rows explain."""

    def __init__(self, words: Words, bits: Array, effort: Effort) -> None:
        self._words = words
        self._bits = bits
        self._by_rarity = np.argsort(bits.sum(axis=0), kind="stable")
        self._effort = effort

    def covers(self, size: int) -> Iterator[tuple[int, ...]]:
        """Yield sets of two or three rows."""
        everything = packed(np.ones((1, self._bits.shape[1]), dtype=np.bool_))[0]
        yield from self._extend((), everything, np.ones(self._bits.shape[1], dtype=np.bool_), size)

    def _extend(self, chosen: tuple[int, ...], rest: Words, columns: Array, size: int) -> Iterator[tuple[int, ...]]:
        rarest = self._by_rarity[columns[self._by_rarity]][0]
        branches = np.flatnonzero(self._bits[:, rarest])
        if size == 2:
            yield from ((*chosen, *pair) for pair in self._pairs(branches, rest))
            return
        for row in branches:
            left = rest & ~self._words[row]
            if left.any() and self._effort.take(_EFFORT_PER_BRANCH):
                yield from self._extend((*chosen, int(row)), left, columns & ~self._bits[row], size - 1)

    def _pairs(self, branches: NDArray[np.intp], rest: Words) -> Iterator[tuple[int, int]]:
        """Yield (branch, row) pairs that explain the rest: the other row must contain what the branch leaves."""
        step = max(1, _BLOCK // len(self._words))
        for start in range(0, len(branches), step):
            block = branches[start : start + step]
            if not self._effort.take(len(block) * len(self._words)):
                return
            left = rest & ~self._words[block]
            alive = np.ones((len(block), len(self._words)), dtype=np.bool_)
            for k in np.flatnonzero(rest):
                alive &= (self._words[None, :, k] & left[:, None, k]) == left[:, None, k]
            for i, row in zip(*np.nonzero(alive), strict=True):
                yield int(block[i]), int(row)
